"""Pairs of contacts that may be one person, and what somebody decided of them.

What was dismissed is not suggested again, whatever is found of it later.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any, Final, Literal, TypeAlias
from uuid import UUID

import msgspec
from asyncpg import Record
from sqlalchemy import Column, SmallInteger, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from crm.contacts.contacts import ContactNotFound
from crm.contacts.likeness import DuplicateReason, Likeness
from crm.db.session import Session
from crm.db.tables import Instant, metadata
from crm.db.writes import Insert
from crm.errors import Conflict, NotFound

duplicate_pairs = Table(
    "duplicate_pairs",
    metadata,
    Column("contact_id", Uuid, primary_key=True),
    Column("other_id", Uuid, primary_key=True),
    Column("score", SmallInteger, nullable=False),
    Column("reasons", JSONB, nullable=False),
    Column("status", Text, nullable=False),
    Column("found_at", Instant, nullable=False),
    Column("decided_at", Instant),
    Column("decided_by", Text),
)

Status: TypeAlias = Literal["open", "dismissed", "merged"]

SUGGESTED_MIN: Final = 60
"""From which score on a pair is worth somebody's look."""
DISPUTED: Final = "disputed_identity"
SHARED: Final = "shared_identity"
LASTING: Final = (DISPUTED, SHARED)
"""Reasons that are no likeness: comparing the contacts again neither finds nor refutes them."""

_IDENTITIES_SHOWN_MAX: Final = 10

# What is kept of the reasons that were there: all that are not told anew, or only those that last.
_KEPT: Final = """
    SELECT jsonb_agg(r) FROM jsonb_array_elements(duplicate_pairs.reasons) r
    WHERE NOT EXISTS (SELECT FROM jsonb_array_elements(excluded.reasons) e WHERE e ->> 'code' = r ->> 'code')
"""
_LASTING: Final = f"r ->> 'code' = ANY ('{{{', '.join(LASTING)}}}')"
_ADD: Final = f"""
    (contact_id, other_id) DO UPDATE SET
        score = greatest(duplicate_pairs.score, excluded.score),
        reasons = excluded.reasons || coalesce(({_KEPT}), '[]')
    WHERE duplicate_pairs.status = 'open'
"""
_REPLACE: Final = f"""
    (contact_id, other_id) DO UPDATE SET
        score = CASE WHEN EXISTS ({_KEPT} AND {_LASTING} HAVING count(*) > 0)
            THEN greatest(duplicate_pairs.score, excluded.score) ELSE excluded.score END,
        reasons = excluded.reasons || coalesce(({_KEPT} AND {_LASTING}), '[]')
    WHERE duplicate_pairs.status = 'open'
"""


def _short(alias: str) -> str:
    return f"""
        CASE WHEN {alias}.id IS NOT NULL THEN jsonb_build_object(
            'id', {alias}.id, 'name', {alias}.name, 'birth_on', {alias}.birth_on, 'created_at', {alias}.created_at,
            'identities', (
                SELECT coalesce(jsonb_agg(jsonb_build_object('kind', i.kind, 'value', i.value, 'verified', i.verified)
                    ORDER BY i.created_at, i.position), '[]')
                FROM (SELECT * FROM contact_identities WHERE contact_id = {alias}.id
                      ORDER BY created_at, position LIMIT {_IDENTITIES_SHOWN_MAX}) i
            )
        ) END
    """


_SELECTED: Final = f"""
    SELECT p.contact_id, p.other_id, p.score, p.reasons, p.status, p.found_at, p.decided_at, p.decided_by,
        {_short("a")} AS contact, {_short("b")} AS other
    FROM duplicate_pairs p
    LEFT JOIN contacts a ON a.id = p.contact_id
    LEFT JOIN contacts b ON b.id = p.other_id
"""
# Of a merged pair only one contact is still there.
_THERE: Final = "(p.status = 'merged' OR a.id IS NOT NULL AND b.id IS NOT NULL)"
_PAGE: Final = f"""
    {_SELECTED} WHERE p.status = $1 AND p.score >= $2 AND {_THERE}
        AND ($3::smallint IS NULL OR p.score <= $3 AND (p.score < $3 OR (p.contact_id, p.other_id) > ($4, $5)))
    ORDER BY p.score DESC, p.contact_id, p.other_id LIMIT $6
"""
_OF_CONTACT: Final = f"""
    {_SELECTED} WHERE (p.contact_id = $7 OR p.other_id = $7) AND p.status = $1 AND p.score >= $2 AND {_THERE}
        AND ($3::smallint IS NULL OR p.score <= $3 AND (p.score < $3 OR (p.contact_id, p.other_id) > ($4, $5)))
    ORDER BY p.score DESC, p.contact_id, p.other_id LIMIT $6
"""


class DuplicateNotFound(NotFound):
    code = "duplicate_not_found"
    title = "There is no such suggestion"


class DuplicateMerged(Conflict):
    code = "duplicate_merged"
    title = "These contacts were merged"


@dataclass(frozen=True, slots=True, order=True)
class Pair:
    """Two contacts, the lesser id first."""

    contact_id: UUID
    other_id: UUID

    @classmethod
    def of(cls, one: UUID, other: UUID) -> "Pair":
        return cls(min(one, other), max(one, other))

    @classmethod
    def named(cls, text: str) -> "Pair":
        """The pair with this id. Raises DuplicateNotFound."""
        try:
            one, other = map(UUID, text.split(":"))
        except ValueError as error:
            raise _not_found() from error
        pair = cls.of(one, other)
        if text.lower() != pair.id:
            raise _not_found()
        return pair

    @property
    def id(self) -> str:
        """Both ids: the pair is found by them, without a directory."""
        return f"{self.contact_id}:{self.other_id}"


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A pair, and how likely it is one person, to be suggested."""

    pair: Pair
    score: int
    reasons: list[DuplicateReason]

    @classmethod
    def of(cls, one: UUID, other: UUID, likeness: Likeness) -> "Suggestion":
        return cls(Pair.of(one, other), likeness.score, likeness.reasons)


@dataclass(slots=True)
class ShortIdentity:
    """An address of a contact, in short."""

    kind: str
    value: str
    verified: bool


@dataclass(slots=True)
class ShortContact:
    """What shows who a contact is, with ten identities at most."""

    id: UUID
    name: str
    birth_on: date | None
    created_at: datetime
    identities: list[ShortIdentity]


@dataclass(slots=True)
class Duplicate:
    """Two contacts that may be one person: how likely, in percent, and why, what weighs most first.

    `suggested_survivor_id` is the one to keep in a merge: whoever has more verified identities, more identities, or was
    there first. A contact that was merged since is null.
    """

    id: str
    contact_id: UUID
    other_contact_id: UUID
    contact: ShortContact | None
    other_contact: ShortContact | None
    score: int
    reasons: list[DuplicateReason]
    suggested_survivor_id: UUID | None
    status: Status
    found_at: datetime
    decided_at: datetime | None
    decided_by: str | None


def suggest(found: Iterable[Suggestion], *, now: datetime) -> Insert:
    """The part of a write that suggests pairs; of one that is suggested already, the better score and all reasons."""
    return _insert(found, _ADD, now)


def compared(found: Iterable[Suggestion], *, now: datetime) -> Insert:
    """The same for pairs whose contacts were compared anew: what that said before does not count any more."""
    return _insert(found, _REPLACE, now)


async def page(
    session: Session,
    *,
    contact_id: UUID | None = None,
    status: Status = "open",
    score_min: int = 0,
    after: tuple[int, UUID, UUID] | None = None,
    limit: int,
) -> list[Duplicate]:
    """Pairs, of one contact where that is asked, the likeliest first, that come after a score and two ids.

    Raises ContactNotFound where the contact is none.
    """
    score, one, other = after or (None, None, None)
    asked = (status, score_min, score, one, other, limit)
    if contact_id is None:
        return [_view(row) for row in await session.fetch(_PAGE, *asked)]
    rows = await session.fetch(_OF_CONTACT, *asked, contact_id)
    if not rows and not await session.fetchval("SELECT EXISTS (SELECT FROM contacts WHERE id = $1)", contact_id):
        raise ContactNotFound("No contact has this id.")
    return [_view(row) for row in rows]


async def get(session: Session, *, pair: Pair) -> Duplicate:
    """One pair. Raises DuplicateNotFound."""
    row = await session.fetchrow(
        f"{_SELECTED} WHERE p.contact_id = $1 AND p.other_id = $2 AND {_THERE}", pair.contact_id, pair.other_id
    )
    if row is None:
        raise _not_found()
    return _view(row)


async def dismiss(session: Session, *, pair: Pair, by: str, now: datetime) -> Duplicate:
    """Say that two contacts are two people; again it changes nothing. Raises DuplicateNotFound, DuplicateMerged."""
    await _decide(session, pair, "open", "dismissed", now, by)
    return await get(session, pair=pair)


async def reopen(session: Session, *, pair: Pair) -> None:
    """Take a dismissal back; again it changes nothing. Raises DuplicateNotFound, DuplicateMerged."""
    await _decide(session, pair, "dismissed", "open", None, None)


async def forget(session: Session, *, contact_ids: Sequence[UUID]) -> None:
    """Let no pair speak of contacts any more."""
    await session.execute("DELETE FROM duplicate_pairs WHERE contact_id = ANY ($1) OR other_id = ANY ($1)", contact_ids)


async def _decide(
    session: Session, pair: Pair, before: Status, after: Status, at: datetime | None, by: str | None
) -> None:
    changed = await session.execute(
        """
        UPDATE duplicate_pairs SET status = $4, decided_at = $5, decided_by = $6
        WHERE contact_id = $1 AND other_id = $2 AND status = $3
        """,
        pair.contact_id, pair.other_id, before, after, at, by,
    )  # fmt: skip
    if not changed and (await get(session, pair=pair)).status == "merged":
        raise DuplicateMerged("They are one contact now; DELETE /v1/merges/{id} makes two of them again.")


def _insert(found: Iterable[Suggestion], on_conflict: str, now: datetime) -> Insert:
    best: dict[Pair, Suggestion] = {}
    for one in sorted(found, key=lambda suggestion: -suggestion.score):
        first = best.setdefault(one.pair, one)
        told = {reason.code for reason in first.reasons}
        more = [reason for reason in one.reasons if reason.code not in told]
        best[one.pair] = replace(first, reasons=[*first.reasons, *more])
    return Insert(
        duplicate_pairs,
        ("contact_id", "other_id", "score", "reasons", "status", "found_at"),
        [
            (pair.contact_id, pair.other_id, best[pair].score, msgspec.to_builtins(best[pair].reasons), "open", now)
            for pair in sorted(best)  # everybody locks in one order
        ],
        on_conflict,
    )


def _view(row: Record) -> Duplicate:
    contact, other = (msgspec.convert(row[name], ShortContact | None) for name in ("contact", "other"))
    return Duplicate(
        id=Pair(row["contact_id"], row["other_id"]).id,
        contact_id=row["contact_id"],
        other_contact_id=row["other_id"],
        contact=contact,
        other_contact=other,
        score=row["score"],
        reasons=msgspec.convert(row["reasons"], list[DuplicateReason]),
        suggested_survivor_id=_survivor([one for one in (contact, other) if one is not None]),
        status=row["status"],
        found_at=row["found_at"],
        decided_at=row["decided_at"],
        decided_by=row["decided_by"],
    )


def _survivor(contacts: list[ShortContact]) -> UUID | None:
    def standing(contact: ShortContact) -> tuple[Any, ...]:
        proven = sum(identity.verified for identity in contact.identities)
        return -proven, -len(contact.identities), contact.created_at, contact.id

    return min(contacts, key=standing).id if contacts else None


def _not_found() -> DuplicateNotFound:
    return DuplicateNotFound("No pair has this id. It may be that the contacts do not resemble each other any more.")
