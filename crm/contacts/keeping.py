"""What a package keeps of contacts: how that moves when two are merged, is told to the person, and goes with them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

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
class Keeper:
    """A package that keeps something of contacts. `move` is a module, or anything else with these two functions."""

    name: str
    personal_data: PersonalData
    move: Move | None = None
