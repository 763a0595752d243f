"""`/v1/contacts/search`: contacts of whom a condition holds."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

from pydantic import Field

from crm.api import paging
from crm.api.conditions import ConditionBody
from crm.api.paging import BrokenCursor
from crm.api.routes import post
from crm.api.schemas import Body
from crm.contacts.conditions import InvalidCondition
from crm.contacts.contacts import Contact
from crm.db.session import Session
from crm.interactions import selections
from crm.interactions.selections import SearchTooBroad, Sort
from crm.loyalty.programs import ProgramNotFound
from crm.vocabulary import VOCABULARY

LIMIT_MAX: Final = 200


class ContactSearch(Body):
    """Whom to find, in which order.

    Balances and tiers are those of the program, and its calendar says what today is; without one the default program
    is meant. With `count` the answer says how many there are in all.
    """

    filter: ConditionBody
    sort: Sort = "-created_at"
    program_id: UUID | None = None
    count: bool = False
    limit: Annotated[int, Field(ge=1, le=LIMIT_MAX)] = 50
    cursor: Annotated[str, Field(max_length=5_000, description="`next_cursor` of the page before.")] | None = None


@dataclass(slots=True)
class ContactsFound:
    """One page; `next_cursor` is null on the last, and `total` unless it was asked for."""

    items: Sequence[Contact]
    next_cursor: str | None
    total: int | None


@post(
    "/contacts/search",
    scopes={"contacts:read"},
    status_code=200,
    problems=(InvalidCondition, ProgramNotFound, BrokenCursor, SearchTooBroad),
)
async def search_contacts(session: Session, data: ContactSearch, now: datetime) -> ContactsFound:
    """Find contacts by a condition.

    A page goes on behind the last contact of the one before, whatever has changed since.
    """
    selection = await selections.select(
        session,
        vocabulary=VOCABULARY,
        condition=VOCABULARY.condition_of(data.filter, pointer="/filter"),
        program_id=data.program_id,
        now=now,
    )
    found = await selections.page(
        session, selection=selection, sort=data.sort, after=_after(data), limit=data.limit + 1
    )
    page = paging.page_of(found, limit=data.limit, key=lambda each: (data.sort, *each.position))
    total = await selections.count(session, selection=selection) if data.count else None
    return ContactsFound([each.contact for each in page.items], page.next_cursor, total)


def _after(data: ContactSearch) -> tuple[Any, UUID] | None:
    by_name = data.sort.removeprefix("-") == "name"
    key = paging.decode(data.cursor, str, str if by_name else datetime, UUID)
    if key is None:
        return None
    sort, value, contact_id = key
    if sort != data.sort:
        raise BrokenCursor("It belongs to another order: start again without a cursor.")
    return value, contact_id


handlers = [search_contacts]
