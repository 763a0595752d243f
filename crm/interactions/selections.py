"""The contacts of whom a condition holds: pages of them, how many they are, and the SQL that finds them."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final, Literal, TypeAlias
from uuid import UUID

import asyncpg

from crm.contacts import conditions, contacts, contributions, predicates
from crm.contacts.conditions import Condition
from crm.contacts.contacts import SELECTED, Contact
from crm.contacts.predicates import Bind
from crm.contacts.vocabulary import Frame, Vocabulary
from crm.db.session import Session
from crm.errors import Invalid
from crm.interactions import histories

SECONDS_MAX: Final = 5
"""How long somebody waits for a search before they are told to ask for less."""

Sort: TypeAlias = Literal["created_at", "-created_at", "updated_at", "-updated_at", "name", "-name"]
Position: TypeAlias = tuple[Any, UUID]
"""What the last contact of a page is sorted by, and its id."""

_SORTED_BY: Final = {
    "created_at": ("c.created_at", "timestamptz"),
    "updated_at": ("c.updated_at", "timestamptz"),
    "name": ('c.name_folded COLLATE "C"', "text"),
}


class SearchTooBroad(Invalid):
    code = "search_too_broad"
    title = "This search takes too long"


@dataclass(frozen=True, slots=True)
class Found:
    """A contact of whom the condition holds, and its position in the order that was asked for."""

    contact: Contact
    position: Position


@dataclass(frozen=True, slots=True)
class Selection:
    """Those of whom a condition holds at `now`, which is in the zone of the frame."""

    vocabulary: Vocabulary
    condition: Condition
    frame: Frame
    now: datetime

    def sql(self, bind: Bind) -> tuple[str, str]:
        """What stands behind FROM, with the contacts as `c`, and behind WHERE."""
        source = contributions.source(
            contributions=self.vocabulary.contributions,
            fields=conditions.fields_of(self.condition),
            asked=self.frame.asked,
            bind=bind,
        )
        history = partial(histories.predicate, bind=bind, now=self.now)
        return source, predicates.predicate(self.condition, bind=bind, now=self.now, history=history)


async def select(
    session: Session, *, vocabulary: Vocabulary, condition: Condition, program_id: UUID | None, now: datetime
) -> Selection:
    """Those of whom a condition holds now, with the balances and tiers and by the calendar of a program.

    Raises what says that there is no such program.
    """
    frame = await vocabulary.frame(session, program_id)
    return Selection(vocabulary, condition, frame, now.astimezone(frame.zone))


async def page(
    session: Session, *, selection: Selection, sort: Sort, after: Position | None = None, limit: int
) -> list[Found]:
    """Contacts in an order, those that come after a position. Raises SearchTooBroad."""
    query, args = page_query(selection, sort=sort, after=after, limit=limit)
    async with _in_time(session):
        rows = await session.fetch(query, *args)
    return [Found(contacts.of_row(row), (row["sorted_by"], row["id"])) for row in rows]


def page_query(selection: Selection, *, sort: Sort, after: Position | None = None, limit: int) -> tuple[str, list[Any]]:
    """The statement of a page, with its arguments."""
    args: list[Any] = []
    bind = predicates.bound_to(args)
    source, where = selection.sql(bind)
    key, kind = _SORTED_BY[sort.removeprefix("-")]
    direction, beyond = ("DESC", "<") if sort.startswith("-") else ("ASC", ">")
    if after is not None:
        where += f" AND ({key}, c.id) {beyond} ({bind(after[0], kind)}, {bind(after[1], 'uuid')})"
    query = f"""
        SELECT {SELECTED}, {key} AS sorted_by FROM {source} WHERE {where}
        ORDER BY {key} {direction}, c.id {direction} LIMIT {bind(limit, "int")}
    """
    return query, args


async def count(session: Session, *, selection: Selection) -> int:
    """How many they are. Raises SearchTooBroad."""
    args: list[Any] = []
    source, where = selection.sql(predicates.bound_to(args))
    async with _in_time(session):
        total: int = await session.fetchval(f"SELECT count(*) FROM {source} WHERE {where}", *args)
    return total


@dataclass(slots=True)
class Preview:
    """How many contacts a condition would select, and some of them."""

    count: int
    sample: Sequence[Contact]


async def preview(session: Session, *, selection: Selection, sample: int) -> Preview:
    """How many they are, and the newest of them. Raises SearchTooBroad."""
    total = await count(session, selection=selection)
    newest = await page(session, selection=selection, sort="-created_at", limit=sample)
    return Preview(total, [found.contact for found in newest])


async def plan_each(session: Session, *, seconds_max: float | None = None) -> None:
    """Have the statements of this transaction planned for what they ask: what is rare is found otherwise.

    `seconds_max` is how long each of them may take.
    """
    limit = "current_setting('statement_timeout')" if seconds_max is None else f"'{seconds_max}s'"
    await session.execute(
        "SELECT set_config('plan_cache_mode', 'force_custom_plan', true), "
        f"set_config('statement_timeout', {limit}, true)"
    )


@asynccontextmanager
async def _in_time(session: Session) -> AsyncIterator[None]:
    """Gives the statement within, and the rest of the transaction, no more time than somebody waits for."""
    await plan_each(session, seconds_max=SECONDS_MAX)
    try:
        yield
    except asyncpg.QueryCanceledError as error:
        raise SearchTooBroad(
            f"Nothing was found within {SECONDS_MAX} seconds. Ask for something rarer beside it in an `all`, leave out "
            "the count, or make it a segment, which is evaluated in the background."
        ) from error
