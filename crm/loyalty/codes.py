"""Codes that people type: one name space for vouchers, offers, referrals and cards.

A code is shown as it was made or chosen, and known by its canonical form: letters without case and look-alikes, without
what separates groups. Codes of ours are drawn by `secrets` from letters and digits that can't be taken for each other.
"""

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias
from uuid import UUID

from sqlalchemy import Column, Table, Text, Uuid

from crm.db.session import Session
from crm.db.tables import metadata
from crm.errors import Conflict, FieldError, Invalid

Kind: TypeAlias = Literal["voucher", "offer", "referral", "card"]

code_directory = Table(
    "code_directory",
    metadata,
    Column("code", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("program_id", Uuid, nullable=False),
    Column("contact_id", Uuid),
    Column("subject_id", Uuid, nullable=False),
)

ALPHABET: Final = "23456789ABCDEFGHJKMNPQRSTVWXYZ"
DEFAULT_PATTERN: Final = "####-####-####"
"""30 to the power of 12: 58 bits."""
PATTERN: Final = r"^[A-Za-z0-9-]*#[A-Za-z0-9#-]*$"
"""Letters, digits and hyphens, and `#` for each character to draw."""
TYPED: Final = r"^[A-Za-z0-9](?:[ ._-]?[A-Za-z0-9]){2,}$"
"""A code as it may be chosen or imported: at least three letters and digits, single separators between them."""
LENGTH_MIN: Final = 3
LENGTH_MAX: Final = 64
SPACE_MIN: Final = 500_000
GUESSES_MIN: Final = 1_000
"""Of that many guesses at the codes of a pattern, at most one may hit."""
ENDLESS: Final = 100_000
"""How many codes a pattern must have room for that is used for as long as somebody wants one."""
TRIES_MAX: Final = 5

_LOOK_ALIKES = str.maketrans("OIL", "011", " ._-")
_CANONICAL = re.compile(rf"[0-9A-Z]{{{LENGTH_MIN},{LENGTH_MAX}}}\Z", re.ASCII)
_CLAIM: Final = """
    INSERT INTO code_directory (code, kind, program_id, contact_id, subject_id)
    SELECT c.code, $4, $5, c.contact_id, c.subject_id
    FROM unnest($1::text[], $2::uuid[], $3::uuid[]) AS c (code, contact_id, subject_id)
    ORDER BY c.code ON CONFLICT DO NOTHING RETURNING code
"""


class CodeTaken(Conflict):
    code = "code_taken"
    title = "This code is in use already"


class PatternTooNarrow(Invalid):
    code = "pattern_too_narrow"
    title = "Codes of this pattern could be guessed"


class PatternUsedUp(Conflict):
    code = "pattern_used_up"
    title = "There are hardly any codes left in this pattern"


@dataclass(frozen=True, slots=True)
class Owner:
    """What a code stands for; `contact_id` is None where it is nobody's in particular."""

    kind: str
    program_id: UUID
    contact_id: UUID | None
    subject_id: UUID


def canonical(typed: str) -> str | None:
    """The form under which a code is known, however it was typed; None for what can't be a code."""
    if not typed.isascii():  # of letters beyond, some become ours when they are made large
        return None
    code = typed.upper().translate(_LOOK_ALIKES)
    return code if _CANONICAL.match(code) else None


def generate(pattern: str = DEFAULT_PATTERN) -> str:
    """A new code of the pattern, as it is shown."""
    return "".join(secrets.choice(ALPHABET) if each == "#" else each for each in pattern)


def check_pattern(pattern: str, *, count: int, pointer: str = "/pattern") -> None:
    """Raises PatternTooNarrow where `count` codes of the pattern would be too easy to hit."""
    space = len(ALPHABET) ** pattern.count("#")
    if space < max(SPACE_MIN, count * GUESSES_MIN):
        raise PatternTooNarrow(
            f"'{pattern}' has room for {space} codes; put more # into it for {count} that nobody can guess.",
            errors=[FieldError(pointer, "pattern_too_narrow", "needs more #")],
        )


async def find(session: Session, *, code: str, kind: Kind) -> Owner | None:
    """What the code stands for, if it stands for something of that kind."""
    row = await session.fetchrow(
        "SELECT kind, program_id, contact_id, subject_id FROM code_directory WHERE code = $1 AND kind = $2",
        canonical(code), kind,
    )  # fmt: skip
    return Owner(**dict(row)) if row else None


async def claim(
    session: Session,
    *,
    kind: Kind,
    program_id: UUID,
    contact_id: UUID | None,
    subject_id: UUID,
    pattern: str = DEFAULT_PATTERN,
) -> str:
    """Make a code that nobody has, for this subject; the code as it is shown. Raises PatternUsedUp."""
    return (
        await claim_many(
            session, kind=kind, program_id=program_id, contact_id=contact_id, subject_ids=[subject_id], pattern=pattern
        )
    )[0]


async def claim_many(
    session: Session,
    *,
    kind: Kind,
    program_id: UUID,
    contact_id: UUID | None,
    subject_ids: Sequence[UUID],
    pattern: str = DEFAULT_PATTERN,
) -> list[str]:
    """A new code for each subject, in their order. Raises PatternUsedUp."""
    owners = [(contact_id, subject_id) for subject_id in subject_ids]
    return await _claim(session, owners, kind=kind, program_id=program_id, pattern=pattern)


async def claim_for_each(
    session: Session, *, kind: Kind, program_id: UUID, contact_ids: Sequence[UUID], subject_id: UUID
) -> list[str]:
    """A new code of their own for each of these contacts, all for one subject, in the contacts' order."""
    owners = [(contact_id, subject_id) for contact_id in contact_ids]
    return await _claim(session, owners, kind=kind, program_id=program_id, pattern=DEFAULT_PATTERN)


async def take(
    session: Session, *, code: str, kind: Kind, program_id: UUID, contact_id: UUID | None, subject_id: UUID
) -> None:
    """Let a chosen code stand for this subject. Raises CodeTaken."""
    taken = await take_many(
        session, chosen={canonical(code): subject_id}, kind=kind, program_id=program_id, contact_id=contact_id
    )
    if not taken:
        raise CodeTaken(f"'{code}', or a code that looks like it, is in use. Choose another one.")


async def take_many(
    session: Session, *, chosen: dict[str | None, UUID], kind: Kind, program_id: UUID, contact_id: UUID | None
) -> set[str]:
    """Let chosen codes, in canonical form, stand for their subjects; those that were free, in one statement."""
    owners = [contact_id] * len(chosen)
    rows = await session.fetch(_CLAIM, list(chosen), owners, list(chosen.values()), kind, program_id)
    return {row["code"] for row in rows}


async def _claim(
    session: Session, owners: Sequence[tuple[UUID | None, UUID]], *, kind: Kind, program_id: UUID, pattern: str
) -> list[str]:
    """A new code for each contact and subject, in their order. Raises PatternUsedUp."""
    claimed: dict[int, str] = {}
    for _ in range(TRIES_MAX):
        drawn: dict[str | None, tuple[str, int]] = {}
        for place in range(len(owners)):
            if place not in claimed:
                shown = generate(pattern)
                drawn[canonical(shown)] = (shown, place)
        contact_ids, subject_ids = zip(*(owners[place] for _, place in drawn.values()), strict=True)
        rows = await session.fetch(_CLAIM, list(drawn), contact_ids, subject_ids, kind, program_id)
        claimed |= {drawn[row["code"]][1]: drawn[row["code"]][0] for row in rows}
        if len(claimed) == len(owners):
            return [claimed[place] for place in range(len(owners))]
    raise PatternUsedUp(f"No free code of '{pattern}' was found; choose a pattern with more #.")
