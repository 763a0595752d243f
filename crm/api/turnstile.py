"""How many may come in at a time where nobody signs in."""

import ipaddress
import time
from typing import Final

ADDRESSES_MAX: Final = 10_000


class Turnstile:
    """Lets so many a second through, and a burst of them at once: of everybody, and of each public address.

    Whoever comes by way of a proxy on a private address is only one of everybody. Nothing of it is kept.
    """

    def __init__(self, *, each_second: float, burst: int, of_one_second: float, of_one_burst: int) -> None:
        self._all = _Bucket(each_second, burst)
        self._rate, self._burst = of_one_second, of_one_burst
        self._ones: dict[str, _Bucket] = {}

    def admits(self, address: str | None) -> bool:
        """Whether somebody from this address may come in now."""
        if address is not None and _is_public(address):
            if address not in self._ones and len(self._ones) >= ADDRESSES_MAX:
                self._ones.clear()
            bucket = self._ones.setdefault(address, _Bucket(self._rate, self._burst))
            if not bucket.takes():
                return False
        return self._all.takes()


class _Bucket:
    def __init__(self, rate: float, burst: int) -> None:
        self._rate, self._burst = rate, burst
        self._left, self._at = float(burst), time.monotonic()

    def takes(self) -> bool:
        now = time.monotonic()
        self._left, self._at = min(self._burst, self._left + (now - self._at) * self._rate), now
        if self._left < 1:
            return False
        self._left -= 1
        return True


def _is_public(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_global
    except ValueError:
        return False
