"""Where somebody lives, as their attributes say it, however it is abbreviated. Pure."""

import re
from typing import Final, NamedTuple

from crm.contacts.search import folded

ADDRESS: Final = ("address", "alamat", "street", "street_address", "home_address")
CITY: Final = ("city", "kota", "town")
POSTAL_CODE: Final = ("postal_code", "postcode", "zip", "kode_pos")
"""The attributes that are looked at, the first of each that is there."""

_WORD: Final = re.compile(r"[^\W\d_]+|\d+")
_LONG: Final = {
    "jl": "jalan", "jln": "jalan", "gg": "gang", "no": "", "nomor": "", "nr": "", "kec": "kecamatan",
    "kel": "kelurahan", "kab": "kabupaten", "blk": "blok", "st": "street", "rd": "road", "ave": "avenue",
}  # fmt: skip
_TOWN: Final = frozenset({"kota", "kabupaten", "kab", "city"})
_LENGTH_MIN: Final = 8


class Place(NamedTuple):
    """An address as its words, a town, and a postal code; each empty where it is not known.

    `numbers` are those of the address: two houses of a street differ in nothing else.
    """

    address: str = ""
    numbers: tuple[str, ...] = ()
    city: str = ""
    postal_code: str = ""


def place(*, address: str | None, city: str | None, postal_code: str | None) -> Place:
    """The place behind what somebody typed; an address too short to say anything is none."""
    if not (address or city or postal_code):
        return Place()
    words = [_LONG.get(word, word) for word in _WORD.findall(folded(address or ""))]
    whole = " ".join(word for word in words if word)
    if len(whole) < _LENGTH_MIN:
        whole = ""
    town = " ".join(word for word in _WORD.findall(folded(city or "")) if word not in _TOWN)
    code = "".join(_WORD.findall(folded(postal_code or "")))
    return Place(whole, tuple(sorted(word for word in whole.split() if word.isdigit())), town, code)
