"""Times as providers write them, in UTC."""

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

from crm.interactions.channels.payloads import Json, Unreadable, text

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def iso(of: Json, *path: str) -> datetime:
    """A time in ISO 8601, in UTC where it has no offset. Raises Unreadable."""
    found = find_iso(of, *path)
    if found is None:
        raise Unreadable(f"Its {'.'.join(path)} is missing or not a time.")
    return found


def find_iso(of: Json, *path: str) -> datetime | None:
    """A time in ISO 8601, if there is one."""
    try:
        return _utc(datetime.fromisoformat(text(of, *path) or ""))
    except (ValueError, OverflowError):
        return None


def first_iso(of: Json, *names: str) -> datetime | None:
    """The first of these members that is a time."""
    return next((found for name in names if (found := find_iso(of, name)) is not None), None)


def epoch(value: object) -> datetime | None:
    """A time in seconds, which may have a fraction."""
    if not isinstance(value, int | float | str):
        return None
    try:
        return _EPOCH + timedelta(seconds=float(value))
    except (ValueError, OverflowError):
        return None


def of_mail(value: str | None) -> datetime | None:
    """What a `Date` header says."""
    try:
        return _utc(parsedate_to_datetime(value or ""))
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _utc(found: datetime) -> datetime:
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
