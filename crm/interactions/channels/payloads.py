"""What is in a payload, read without trusting its shape.

What an event can do without is None or empty where it is missing or of another type; what it can't do without makes it
Unreadable. Whatever could not be read becomes an `Unknown` with the reason, and what stands behind it is read on.
"""

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias

import jiter

from crm.interactions.channels.events import Event, Person, Unknown

Json: TypeAlias = Mapping[str, Any]

ID_LENGTH_MAX: Final = 500
KIND_LENGTH_MAX: Final = 63
SHOWN_MAX: Final = 10_000
"""How much is kept of a body that can't be read, in characters."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS_MAX: Final = 10**11
"""In seconds it is the year 5138, in milliseconds 1973."""
_EXACT_MAX: Final = 2**53
_WHOLE: Final = re.compile(r"[0-9]{1,19}", re.ASCII)
_NO_NAME: Final = re.compile(r"[^a-z0-9]+")
_LONE_HALF: Final = re.compile(
    rb"(\\[^u]|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
)


class Unreadable(Exception):
    """Something is not what it has to be; the text says what."""


def events(body: bytes, read: Callable[[Json], Iterable[Event]]) -> Iterator[Event]:
    """What `read` makes of a JSON object."""
    try:
        found = decode(body)
    except Unreadable as error:
        yield unknown(body[:SHOWN_MAX].decode(errors="replace").replace("\x00", "\ufffd"), kind="body", reason=error)
    else:
        yield from each([found], read, kind="body")


def each(values: Iterable[Any], read: Callable[[Json], Iterable[Event]], *, kind: str) -> Iterator[Event]:
    """What `read` makes of each of the objects, one after the other; `kind` is what they are called."""
    for value in values:
        if not isinstance(value, dict):
            yield unknown(value, kind=kind, reason="This is not an object.")
            continue
        try:
            yield from read(value)
        except Unreadable as error:
            yield unknown(value, kind=kind, reason=error)


def unknown(
    raw: Any,
    *,
    kind: str,
    external_id: str | None = None,
    occurred_at: datetime | None = None,
    person: Person | None = None,
    reason: Unreadable | str | None = None,
) -> Unknown:
    """What nobody here can say in other words; by default its id follows from its content."""
    return Unknown(
        external_id=external_id or digest(raw),
        kind=kind[:KIND_LENGTH_MAX], occurred_at=occurred_at, raw=raw, person=person,
        reason=None if reason is None else str(reason),
    )  # fmt: skip


def digest(raw: Any) -> str:
    """An id for what has none: the same for the same content, of which it tells nothing."""
    return f"sha256:{hashlib.sha256(json.dumps(raw, sort_keys=True).encode()).hexdigest()}"


def decode(body: bytes) -> Any:
    """JSON as it can be stored: no NUL characters, and numbers that others would round are text. Raises Unreadable."""
    # Half a pair, as is left where somebody cut a text in the middle of an emoji, is no reason to lose the rest.
    whole = _LONE_HALF.sub(lambda found: found[1] or rb"\ufffd", body) if b"\\u" in body else body
    try:
        return _storable(jiter.from_json(whole, allow_inf_nan=False))
    except ValueError as error:
        raise Unreadable(f"This is not JSON that can be read: {error}.") from error


def text(of: Json, *path: str) -> str | None:
    """A text that is not empty, or a whole number as text."""
    value = _at(of, path)
    if isinstance(value, str):
        return value or None
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def needed(of: Json, *path: str) -> str:
    """An id. Raises Unreadable."""
    value = text(of, *path)
    if value is None:
        raise Unreadable(f"It has no {'.'.join(path)}.")
    return identifier(value)


def identifier(value: str) -> str:
    """A text that is short enough to be an id. Raises Unreadable."""
    if len(value) > ID_LENGTH_MAX:
        raise Unreadable(f"An id has at most {ID_LENGTH_MAX} characters.")
    return value


def part(of: Json, *path: str) -> dict[str, Any]:
    """An object inside."""
    value = _at(of, path)
    return value if isinstance(value, dict) else {}


def parts(of: Json, *path: str) -> list[Any]:
    """A list inside. Raises Unreadable."""
    value = _at(of, path)
    if not isinstance(value, list):
        raise Unreadable(f"Its {'.'.join(path)} is missing or not a list.")
    return value


def objects(of: Json, *path: str) -> list[dict[str, Any]]:
    """The objects in a list, if there is one."""
    value = _at(of, path)
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def number(of: Json, *path: str) -> int | None:
    """A whole number, also one that is written as a text."""
    value = text(of, *path)
    return int(value) if value and _WHOLE.fullmatch(value) else None


def instant(of: Json, *path: str) -> datetime:
    """A time in seconds or milliseconds; no time of a message can be taken for the other. Raises Unreadable."""
    value = number(of, *path)
    if value is None:
        raise Unreadable(f"Its {'.'.join(path)} is missing or not a time.")
    try:
        return _EPOCH + (timedelta(seconds=value) if value < _SECONDS_MAX else timedelta(milliseconds=value))
    except OverflowError as error:
        raise Unreadable(f"Its {'.'.join(path)} is no time that can be.") from error


def named(group: str, word: str) -> str:
    """A kind of interaction: what a provider calls something, as a name."""
    return f"{group}.{_NO_NAME.sub('_', word.lower())}"[:KIND_LENGTH_MAX]


def kept(**members: Any) -> dict[str, Any]:
    """The members that say something."""
    return {name: value for name, value in members.items() if value is not False and value not in (None, "", {}, [])}


def _at(of: Json, path: tuple[str, ...]) -> Any:
    value: Any = of
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _storable(value: Any) -> Any:
    match value:
        case dict():
            return {_storable(name): _storable(one) for name, one in value.items()}
        case list():
            return [_storable(one) for one in value]
        case str():
            return value.replace("\x00", "\ufffd")
        case int() if abs(value) > _EXACT_MAX:
            return str(value)
        case float() if not math.isfinite(value):
            return str(value)
        case _:
            return value
