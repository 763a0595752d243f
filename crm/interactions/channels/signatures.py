"""What a delivery proves by: shared secrets, and sums over its raw bytes that only their holders can make."""

import base64
import hashlib
import hmac
from collections.abc import Iterable

from crm.interactions.channels.deliveries import ChannelAccount, SignatureInvalid


def secret(account: ChannelAccount, name: str) -> bytes:
    """A secret of the account. Raises SignatureInvalid without it: an empty key would be everybody's."""
    value = account.secrets.get(name)
    if not value:
        raise SignatureInvalid(f"This channel account has no secret '{name}'. Nothing is accepted before it is set.")
    return value.encode()


def check(given: str | None, expected: Iterable[bytes]) -> None:
    """Compare in constant time with what may have been given. Raises SignatureInvalid."""
    if not given:
        raise SignatureInvalid("The signature is missing.")
    if not any(equal(given, one) for one in expected):
        raise SignatureInvalid("The signature is of other bytes or by another secret.")


def equal(given: str, expected: bytes) -> bool:
    """In constant time. Bytes, as text that is not ASCII can't be compared so."""
    return hmac.compare_digest(given.encode(errors="replace"), expected)


def sha256_hex(key: bytes, signed: bytes) -> bytes:
    return hmac.digest(key, signed, hashlib.sha256).hex().encode()


def sha256_base64(key: bytes, signed: bytes) -> bytes:
    return base64.b64encode(hmac.digest(key, signed, hashlib.sha256))


def sha1_base64(key: bytes, signed: bytes) -> bytes:
    return base64.b64encode(hmac.digest(key, signed, hashlib.sha1))
