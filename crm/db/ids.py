"""Identifiers: time-ordered, so that new rows land side by side in every index."""

from uuid import UUID

from uuid_utils.compat import uuid7 as _uuid7


def uuid7() -> UUID:
    """A UUIDv7 from this process's clock; ids of one process sort in the order they were made."""
    return _uuid7()
