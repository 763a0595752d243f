"""What becomes of a row of a file."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias
from uuid import UUID

from crm.errors import CrmError

Result: TypeAlias = Literal["created", "updated", "skipped", "failed"]
OnDuplicate: TypeAlias = Literal["skip", "fill", "update", "reject", "link", "create"]
"""What is done about a row's person who may be there.

`skip`, `fill` and `update` look at addresses alone. `reject`, `link` and `create` look for people who resemble the row
too, and mean what they mean where one contact is made.
"""


ERASED_BEFORE: Final = "erased_before"
"""Of a contact who is known by an address of somebody who was erased: marketing to them is denied."""


@dataclass(frozen=True, slots=True)
class RowError:
    """What is wrong with a row; `field` and `column` are null where it is the row as a whole."""

    field: str | None
    column: str | None
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """`version` is the contact's after it, where the row made it or added to it; `points` are what it earned.

    `note` is a code for what somebody should know of it.
    """

    result: Result
    contact_id: UUID | None = None
    version: int = 0
    points: int = 0
    errors: Sequence[RowError] = ()
    note: str | None = None


def failed(error: CrmError, *, field: str | None = None, column: str | None = None) -> Outcome:
    """The outcome of a row that was refused when it met what is there."""
    return Outcome("failed", errors=[RowError(field, column, error.code, error.detail)])


def refused(code: str, message: str) -> RowError:
    """What is wrong with a row as a whole."""
    return RowError(None, None, code, message)
