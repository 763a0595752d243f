"""Surveys: one question with a scale, in the languages of those who are asked."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from asyncpg import Record
from sqlalchemy import BigInteger, Column, Integer, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from crm.care.scores import SCALES, Kind
from crm.db import idempotency, writes
from crm.db.ids import uuid7
from crm.db.session import Session
from crm.db.tables import Instant, metadata
from crm.db.writes import Insert
from crm.errors import NotFound

surveys = Table(
    "surveys",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("scale_version", Integer, nullable=False),
    Column("questions", JSONB, nullable=False),
    Column("valid_days", Integer, nullable=False),
    Column("quarantine_days", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
)

QUESTIONS: Final[Mapping[Kind, Mapping[str, str]]] = {
    "csat": {
        "en": "How satisfied are you with how we helped you?",
        "id": "Seberapa puas Anda dengan bantuan kami?",
    },
    "ces": {
        "en": "We made it easy for you to get this done.",
        "id": "Kami memudahkan Anda menyelesaikan urusan ini.",
    },
    "nps": {
        "en": "How likely are you to recommend us to a friend?",
        "id": "Seberapa besar kemungkinan Anda merekomendasikan kami kepada teman?",
    },
    "rating": {
        "en": "How would you rate the person who helped you?",
        "id": "Bagaimana penilaian Anda terhadap orang yang membantu Anda?",
    },
}
"""What is asked where nobody has worded it otherwise."""

_COLUMNS: Final = tuple(column.name for column in surveys.columns)
_SELECTED: Final = ", ".join(_COLUMNS)


class SurveyNotFound(NotFound):
    code = "survey_not_found"
    title = "There is no such survey"


@dataclass(slots=True)
class Survey:
    """A question of one kind. `questions` has its wording by language.

    An invitation holds for `valid_days`; nobody is asked a question of the same kind twice within `quarantine_days`.
    """

    id: UUID
    name: str
    kind: Kind
    scale_version: int
    questions: dict[str, str]
    valid_days: int
    quarantine_days: int
    status: str
    version: int
    created_at: datetime
    updated_at: datetime


async def create(
    session: Session,
    *,
    name: str,
    kind: Kind,
    questions: Mapping[str, str] | None,
    valid_days: int,
    quarantine_days: int,
    once: idempotency.Request | None,
    now: datetime,
) -> Survey:
    """Make a survey, on the newest version of its kind's scale."""
    survey = Survey(
        uuid7(), name, kind, SCALES[kind].version, dict(questions or QUESTIONS[kind]), valid_days, quarantine_days,
        "active", 1, now, now,
    )  # fmt: skip
    row = tuple(getattr(survey, name) for name in _COLUMNS)
    await writes.write(
        session,
        [
            Insert(surveys, _COLUMNS, [row]),
            *idempotency.answer(once, contact_id=None, result=survey, now=now),
        ],
    )
    return survey


async def update(session: Session, *, survey_id: UUID, changes: Mapping[str, Any], now: datetime) -> Survey:
    """Change a survey, for those who are invited from now on. Raises SurveyNotFound."""
    columns = ", ".join(f"{name} = ${place}" for place, name in enumerate(changes, 3))
    row = await session.fetchrow(
        f"""
        UPDATE surveys SET version = version + 1, updated_at = $2{", " if columns else ""}{columns}
        WHERE id = $1 RETURNING {_SELECTED}
        """,
        survey_id, now, *changes.values(),
    )  # fmt: skip
    return _view(row)


async def get(session: Session, *, survey_id: UUID) -> Survey:
    """One survey. Raises SurveyNotFound."""
    return _view(await session.fetchrow(f"SELECT {_SELECTED} FROM surveys WHERE id = $1", survey_id))


async def page(session: Session, *, before: UUID | None, limit: int) -> list[Survey]:
    """Surveys, the newest first, older than `before`."""
    rows = await session.fetch(
        f"SELECT {_SELECTED} FROM surveys WHERE $1::uuid IS NULL OR id < $1 ORDER BY id DESC LIMIT $2", before, limit
    )
    return [_view(row) for row in rows]


def _view(row: Record | None) -> Survey:
    if row is None:
        raise SurveyNotFound("No survey has this id.")
    return Survey(**dict(row))
