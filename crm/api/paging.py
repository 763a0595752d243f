"""Pages by keyset: an opaque cursor names the last row seen, so a page costs the same wherever it lies."""

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from litestar.params import QueryParameter

from crm.api.schemas import YEAR_MAX, YEAR_MIN
from crm.errors import Malformed
from crm.loyalty.ranking import Sort

T = TypeVar("T")

Limit = Annotated[int, QueryParameter(ge=1, le=200, description="How many items, at most 200.")]
Cursor = Annotated[str | None, QueryParameter(max_length=500, description="`next_cursor` of the page before.")]

SortBy = Annotated[
    Sort, QueryParameter(name="sort", description="`rank`: what suits best first; `made`: in the order they were made.")
]


class BrokenCursor(Malformed):
    code = "broken_cursor"
    title = "This cursor was not made here"


@dataclass(slots=True)
class Page(Generic[T]):
    """One page; `next_cursor` is null on the last."""

    items: Sequence[T]
    next_cursor: str | None


def encode(*key: Any) -> str:
    """A cursor for the sort key of the last row of a page."""
    return base64.urlsafe_b64encode(msgspec.json.encode(key)).rstrip(b"=").decode()


def decode(cursor: str | None, *types: Any) -> tuple[Any, ...] | None:
    """The sort key in a cursor, or None without one. Raises BrokenCursor."""
    if cursor is None:
        return None
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        key: tuple[Any, ...] = msgspec.json.decode(raw, type=tuple[types])  # type: ignore[valid-type]
        if not all(map(_can_be_asked_for, key)):
            raise ValueError("out of range")  # noqa: TRY301 - as what can't be decoded
        return key
    except (msgspec.MsgspecError, binascii.Error, ValueError) as error:
        raise BrokenCursor("Start again without a cursor; take `next_cursor` as it is.") from error


def _can_be_asked_for(part: Any) -> bool:
    match part:
        case datetime():
            return part.tzinfo is not None and YEAR_MIN <= part.year <= YEAR_MAX
        case int():
            return abs(part) < 2**63
        case str():
            return "\x00" not in part
    return True


def page_of(rows: Sequence[T], *, limit: int, key: Callable[[T], tuple[Any, ...]]) -> Page[T]:
    """A page from up to `limit + 1` rows: the extra one only says that there is more."""
    if len(rows) <= limit:
        return Page(rows, None)
    return Page(rows[:limit], encode(*key(rows[limit - 1])))
