"""What the package that owns rows of a contact contributes: fields for conditions, and how its part moves and goes.

Each package has one file `contribution.py` with its `CONTRIBUTION`. What Python compares is read by the expressions
that stand in SQL, so that the two can't disagree on what a field is.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from crm.contacts.fields import Field, Fields
from crm.contacts.merging import Merging, Moved, NotUndone
from crm.db.session import Session


class Move(Protocol):
    """How a package moves what it keeps of one contact to another, when both are locked, and back."""

    async def merge(self, session: Session, *, merging: Merging) -> Moved:
        """Move it. May raise a Conflict that says what has to be settled before."""

    async def undo(self, session: Session, *, merging: Merging, memory: Mapping[str, Any]) -> list[NotUndone]:
        """Move it back, but for what was used since; `memory` is what moving it remembered."""


@dataclass(frozen=True, slots=True)
class Erasing:
    """A person who is being forgotten, under all ids that they had: the contact's own first."""

    id: UUID
    contact_ids: tuple[UUID, ...]
    by: str
    now: datetime


class Settle(Protocol):
    """Ends what is still open with somebody, before they are erased."""

    async def __call__(self, session: Session, *, erasing: Erasing) -> None: ...


@dataclass(frozen=True, slots=True)
class Section:
    """A part of what is known of a person, by the ids in `$1`; what the query does, says where it is listed."""

    name: str
    query: str


@dataclass(frozen=True, slots=True)
class PersonalData:
    """What a package keeps of a person, so that it can be told and erased.

    The queries of `tells` select one column of JSON, one row for each thing, oldest first; those of `erases` delete or
    empty rows, in this order; those of `keeps` count what stays, which says nothing of who it was.
    """

    tells: tuple[Section, ...] = ()
    erases: tuple[Section, ...] = ()
    keeps: tuple[Section, ...] = ()
    settle: Settle | None = None


@dataclass(frozen=True, slots=True)
class Contribution:
    """Fields whose `sql` speaks of a contact `c` and of what `joins` adds to it, at most one row for each contact.

    `asks` names parameters with their types, such as the program; the SQL finds each as a column of `asked`.
    `name` is the package's, and `move` a module or anything else with these two functions.
    """

    name: str
    fields: tuple[Field, ...] = ()
    joins: str = ""
    asks: tuple[tuple[str, str], ...] = ()
    move: Move | None = None
    personal_data: PersonalData = PersonalData()

    def knows(self, field: Field) -> bool:
        """Whether it has this field, or the open set that it is of."""
        return Fields(self.fields).find(field.name) == field


def fields_of(contributions: Iterable[Contribution]) -> Fields:
    """All that conditions can ask about."""
    return Fields(field for contribution in contributions for field in contribution.fields)


async def read(
    session: Session,
    *,
    contributions: Iterable[Contribution],
    fields: Sequence[Field],
    contact_ids: Sequence[UUID],
    asked: Mapping[str, Any],
) -> dict[UUID, dict[str, Any]]:
    """What is in these fields of these contacts, by name, in one query. `asked` has what the contributions ask for.

    Contacts that do not exist are left out.
    """
    needed = [contribution for contribution in contributions if any(map(contribution.knows, fields))]
    args: list[Any] = [contact_ids]
    columns = [_bound(field, args) for field in fields]
    parameters = []
    for name, kind in dict.fromkeys(pair for contribution in needed for pair in contribution.asks):
        args.append(asked[name])
        parameters.append(f"${len(args)}::{kind} AS {name}")
    rows = await session.fetch(
        f"""
        SELECT {", ".join(["c.id", *columns])}
        FROM contacts c {f"CROSS JOIN (SELECT {', '.join(parameters)}) asked" if parameters else ""}
        {" ".join(contribution.joins for contribution in needed)}
        WHERE c.id = ANY ($1)
        """,
        *args,
    )
    return {row[0]: {field.name: value for field, value in zip(fields, row[1:], strict=True)} for row in rows}


def _bound(field: Field, args: list[Any]) -> str:
    if field.key is None:
        return field.sql
    args.append(field.key)
    return field.sql.format(key=f"${len(args)}::text")
