"""Links between cases: related ones, the same one twice, and one that follows another. Each is seen from both ends."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, TypeAlias
from uuid import UUID

from asyncpg import Record
from sqlalchemy import Column, Table, Text, Uuid

from crm.care import case_files
from crm.care.casework import Case
from crm.db import idempotency, writes
from crm.db.session import Session
from crm.db.tables import Instant, metadata
from crm.db.writes import Insert
from crm.errors import FieldError, Invalid, NotFound
from crm.interactions import timeline

case_links = Table(
    "case_links",
    metadata,
    Column("contact_id", Uuid, primary_key=True),
    Column("case_id", Uuid, primary_key=True),
    Column("other_case_id", Uuid, primary_key=True),
    Column("relation", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("created_by", Text, nullable=False),
)

Said: TypeAlias = Literal["related", "duplicate_of", "follow_up_of"]
Relation: TypeAlias = Literal["related", "duplicate_of", "follow_up_of", "duplicated_by", "followed_by"]

CONTRARY: Final[Mapping[Said, Relation]] = {
    "related": "related", "duplicate_of": "duplicated_by", "follow_up_of": "followed_by",
}  # fmt: skip
_COLUMNS: Final = ("contact_id", "case_id", "other_case_id", "relation", "created_at", "created_by")
_SELECTED: Final = "l.case_id, l.other_case_id, l.relation, l.created_at, l.created_by"


class CaseLinkNotFound(NotFound):
    code = "case_link_not_found"
    title = "There is no such link"


class LinkWithSelf(Invalid):
    code = "link_with_self"
    title = "A case can't be linked to itself"


@dataclass(slots=True)
class CaseLink:
    """What a case is to another."""

    case_id: UUID
    other_case_id: UUID
    relation: Relation
    created_at: datetime
    created_by: str


def both(case: Case, other: Case, relation: Said, *, by: str, now: datetime) -> Insert:
    """The part of a write that links `other` to `case`: `relation` is what the other one is to it."""
    rows = [
        (other.contact_id, other.id, case.id, relation, now, by),
        (case.contact_id, case.id, other.id, CONTRARY[relation], now, by),
    ]
    return Insert(case_links, _COLUMNS, rows, on_conflict="(contact_id, case_id, other_case_id) DO NOTHING")


async def create(
    session: Session, *, case_id: UUID, other_case_id: UUID, relation: Said, by: str,
    once: idempotency.Request | None = None, now: datetime,
) -> tuple[CaseLink, bool]:  # fmt: skip
    """Say what a case is to another. False beside the link that there was already.

    Raises CaseNotFound, LinkWithSelf.
    """
    if case_id == other_case_id:
        raise LinkWithSelf(
            "Name another case.", errors=[FieldError("/other_case_id", "link_with_self", "is the case itself")]
        )
    case = await case_files.read(session, case_id=case_id)
    other = await case_files.read(session, case_id=other_case_id)
    there = await session.fetchrow(f"SELECT {_SELECTED} FROM case_links l WHERE {_WHICH}", *_key(case, other_case_id))
    if there is not None:
        found = CaseLink(*there)
        await idempotency.keep(session, request=once, contact_id=case.contact_id, result=found, now=now, status=200)
        return found, False
    link = CaseLink(case_id, other_case_id, relation, now, by)
    told = [
        timeline.entry(
            one.contact_id, channel="care", kind="case.linked", direction="internal", occurred_at=now, recorded_at=now,
            by=by, subject=one.subject, case_id=one.id,
            data={"case_id": one.id, "other_case_id": two, "relation": word},
        )
        for one, two, word in ((case, other.id, relation), (other, case.id, CONTRARY[relation]))
    ]  # fmt: skip
    await writes.write(
        session,
        [
            both(other, case, relation, by=by, now=now),
            timeline.part(told),
            *idempotency.answer(once, contact_id=case.contact_id, result=link, now=now),
        ],
    )
    return link, True


async def get(session: Session, *, case_id: UUID, other_case_id: UUID) -> CaseLink:
    """A link of a case. Raises CaseNotFound, CaseLinkNotFound."""
    case = await case_files.read(session, case_id=case_id)
    return _view(
        await session.fetchrow(f"SELECT {_SELECTED} FROM case_links l WHERE {_WHICH}", *_key(case, other_case_id))
    )


async def remove(session: Session, *, case_id: UUID, other_case_id: UUID) -> None:
    """Unlink two cases, at both ends. Raises CaseNotFound, CaseLinkNotFound."""
    case = await case_files.read(session, case_id=case_id)
    gone = await session.execute(
        """
        DELETE FROM case_links WHERE (contact_id = $1 AND case_id = $2 AND other_case_id = $3) OR (
            contact_id = (SELECT contact_id FROM case_directory WHERE id = $3) AND case_id = $3 AND other_case_id = $2
        )
        """,
        case.contact_id, case_id, other_case_id,
    )  # fmt: skip
    if not gone:
        raise CaseLinkNotFound("These cases are not linked.")


async def page(session: Session, *, case_id: UUID, after: UUID | None, limit: int) -> list[CaseLink]:
    """What a case is linked to, by the ids of the others, behind `after`. Raises CaseNotFound."""
    case = await case_files.read(session, case_id=case_id)
    rows = await session.fetch(
        f"""
        SELECT {_SELECTED} FROM case_links l
        WHERE l.contact_id = $1 AND l.case_id = $2 AND ($3::uuid IS NULL OR l.other_case_id > $3)
        ORDER BY l.other_case_id LIMIT $4
        """,
        case.contact_id, case_id, after, limit,
    )  # fmt: skip
    return [_view(row) for row in rows]


_WHICH: Final = "l.contact_id = $1 AND l.case_id = $2 AND l.other_case_id = $3"


def _key(case: Case, other_case_id: UUID) -> tuple[UUID, UUID, UUID]:
    return case.contact_id, case.id, other_case_id


def _view(row: Record | None) -> CaseLink:
    if row is None:
        raise CaseLinkNotFound("These cases are not linked.")
    return CaseLink(*row)
