"""Invitations to surveys and their answers: a link that nobody can guess, answered once, changed until it expires."""

import hashlib
import secrets
from dataclasses import astuple, dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from asyncpg import Record
from sqlalchemy import Column, Integer, LargeBinary, SmallInteger, Table, Text, Uuid

from crm.care import case_files, surveys
from crm.care.case_files import CaseNotFound
from crm.care.casework import Case
from crm.care.scores import SCALES, Kind, feeling
from crm.contacts import aliases, contacts
from crm.db import idempotency, writes
from crm.db.ids import uuid7
from crm.db.session import Session
from crm.db.tables import Instant, metadata
from crm.db.writes import Insert, Update
from crm.errors import Conflict, FieldError, Invalid, NotFound
from crm.interactions import timeline

survey_invitations = Table(
    "survey_invitations",
    metadata,
    Column("contact_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("survey_id", Uuid, nullable=False),
    Column("kind", Text, nullable=False),
    Column("scale_version", Integer, nullable=False),
    Column("channel", Text),
    Column("agent", Text),
    Column("case_id", Uuid),
    Column("interaction_id", Uuid),
    Column("locale", Text, nullable=False),
    Column("score", SmallInteger),
    Column("comment", Text),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("answered_at", Instant),
    Column("changed_at", Instant),
    Column("by", Text, nullable=False),
)
survey_invitation_directory = Table(
    "survey_invitation_directory",
    metadata,
    Column("hash", LargeBinary, primary_key=True),
    Column("contact_id", Uuid, nullable=False),
    Column("invitation_id", Uuid, nullable=False),
)

LOCALE: Final = "id"
"""The language of those of whom none is known, and of questions that have none of theirs."""
COMMENT_LENGTH_MAX: Final = 2_000
_TOKEN_BYTES: Final = 24

_SELECTED: Final = ", ".join(f"i.{column.name}" for column in survey_invitations.columns)
_ASKED: Final = f"""
    SELECT i.created_at FROM {aliases.known_as("$1::uuid")} who
    JOIN survey_invitations i ON i.contact_id = who.id AND i.kind = $2 AND i.created_at > $3
    ORDER BY i.created_at DESC LIMIT 1
"""


class InvitationNotFound(NotFound):
    code = "invitation_not_found"
    title = "There is no such invitation"


class RecentlyAsked(Conflict):
    code = "recently_asked"
    title = "This person was asked a short while ago"


class SurveyArchived(Conflict):
    code = "survey_archived"
    title = "Nobody is asked this any more"


class CaseUnresolved(Conflict):
    code = "case_unresolved"
    title = "The case has not come to its end"


class InvitationExpired(Conflict):
    code = "invitation_expired"
    title = "This survey has ended"


class ScoreOutOfRange(Invalid):
    code = "score_out_of_range"
    title = "This is no answer to the question"


@dataclass(slots=True)
class Invitation:
    """Somebody who was asked, and what they said; `score` is null until they did.

    `agent` is who is rated, or who closed what is asked about. The link is shown only when it is made.
    """

    id: UUID
    survey_id: UUID
    contact_id: UUID
    kind: Kind
    scale_version: int
    channel: str | None
    agent: str | None
    case_id: UUID | None
    interaction_id: UUID | None
    locale: str
    score: int | None
    comment: str | None
    created_at: datetime
    expires_at: datetime
    answered_at: datetime | None
    changed_at: datetime | None


@dataclass(slots=True)
class Invited(Invitation):
    """An invitation with the path of its page, to be sent to the person and to nobody else."""

    path: str


@dataclass(slots=True)
class Asked:
    """What the page of an invitation shows."""

    invitation: Invitation
    question: str
    low: int
    high: int


async def invite(
    session: Session,
    *,
    survey_id: UUID,
    contact_id: UUID,
    channel: str | None = None,
    agent: str | None = None,
    case_id: UUID | None = None,
    interaction_id: UUID | None = None,
    locale: str | None = None,
    by: str,
    once: idempotency.Request | None = None,
    now: datetime,
) -> Invited:
    """Ask somebody.

    About a case, the agent is whoever had it when it was resolved, unless another is named. Raises SurveyNotFound,
    SurveyArchived, ContactNotFound, RecentlyAsked, CaseNotFound, CaseUnresolved, and Invalid for NPS about a single
    case.
    """
    await contacts.lock(session, contact_id=contact_id)
    contact = await contacts.get(session, contact_id=contact_id)
    survey = await surveys.get(session, survey_id=survey_id)
    if survey.status != "active":
        raise SurveyArchived("Make the survey active again, or ask another one.")
    if survey.kind == "nps" and (case_id or interaction_id):
        raise Invalid(
            "NPS asks about the whole relation: ask CSAT or CES about a case.",
            errors=[FieldError("/case_id", "nps_about_a_case", "can't be given for NPS")],
        )
    if case_id is not None:
        case = await _resolved(session, contact_id, case_id)
        agent, channel = agent or case.closing_agent, channel or case.channel
    await _check_quarantine(session, survey, contact_id, now)
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    invitation = Invitation(
        uuid7(), survey_id, contact_id, survey.kind, survey.scale_version, channel, agent, case_id, interaction_id,
        _language(locale or contact.locale, survey.questions), None, None, now,
        now + timedelta(days=survey.valid_days), None, None,
    )  # fmt: skip
    told = timeline.entry(
        contact_id, channel=channel or "survey", kind="survey.invited", occurred_at=now, recorded_at=now, by=by,
        direction="outbound", case_id=case_id,
        data={"survey_id": survey_id, "invitation_id": invitation.id, "name": survey.name, "kind": survey.kind},
    )  # fmt: skip
    result = Invited(**{name: getattr(invitation, name) for name in Invitation.__slots__}, path=f"/s/{token}")
    await writes.write(
        session,
        [
            Insert(survey_invitations, (*Invitation.__slots__, "by"), [(*astuple(invitation), by)]),
            Insert(
                survey_invitation_directory, ("hash", "contact_id", "invitation_id"),
                [(_hash(token), contact_id, invitation.id)],
            ),
            timeline.part([told]),
            *idempotency.answer(once, contact_id=contact_id, result=result, now=now),
        ],
    )  # fmt: skip
    return result


async def asked(session: Session, *, token: str) -> Asked:
    """What an invitation's link leads to. Raises InvitationNotFound."""
    return await _asked(session, await _by_token(session, token))


async def answer_by_token(session: Session, *, token: str, score: int, comment: str | None, now: datetime) -> Asked:
    """The answer of whoever has the link. Raises InvitationNotFound, InvitationExpired, ScoreOutOfRange."""
    row = await _by_token(session, token, "FOR NO KEY UPDATE OF i")
    invitation = await _answer(session, _view(row), score, comment, by="contact", now=now)
    return await _asked(session, row, invitation)


async def answer(
    session: Session,
    *,
    contact_id: UUID,
    invitation_id: UUID,
    score: int,
    comment: str | None,
    by: str,
    once: idempotency.Request | None,
    now: datetime,
) -> Invitation:
    """An answer that came on another way, such as in a chat.

    Raises InvitationNotFound, InvitationExpired, ScoreOutOfRange.
    """
    found = _view(await _stored(session, contact_id, invitation_id, "FOR NO KEY UPDATE"))
    invitation = await _answer(session, found, score, comment, by=by, now=now)
    await idempotency.keep(session, request=once, contact_id=contact_id, result=invitation, now=now, status=200)
    return invitation


async def get(session: Session, *, contact_id: UUID, invitation_id: UUID) -> Invitation:
    """One invitation of a contact. Raises InvitationNotFound."""
    return _view(await _stored(session, contact_id, invitation_id))


async def page(session: Session, *, contact_id: UUID, before: UUID | None, limit: int) -> list[Invitation]:
    """What a contact was asked, newest first, older than `before`. Raises ContactNotFound."""
    rows = await session.fetch(
        f"""
        SELECT i.* FROM contacts c CROSS JOIN LATERAL {aliases.known_as("c.id")} who CROSS JOIN LATERAL (
            SELECT {_SELECTED} FROM survey_invitations i
            WHERE i.contact_id = who.id AND ($2::uuid IS NULL OR i.id < $2) ORDER BY i.id DESC LIMIT $3
        ) i
        WHERE c.id = $1 ORDER BY i.id DESC LIMIT $3
        """,
        contact_id, before, limit,
    )  # fmt: skip
    if not rows:
        await contacts.get(session, contact_id=contact_id)
    return [_view(row) for row in rows]


async def page_of_survey(
    session: Session, *, survey_id: UUID, answered: bool | None, before: UUID | None, limit: int
) -> list[Invitation]:
    """Who was asked a survey, newest first, older than `before`; those who answered, those who did not, or both.

    Raises SurveyNotFound.
    """
    rows = await session.fetch(
        f"""
        SELECT {_SELECTED} FROM survey_invitations i
        WHERE i.survey_id = $1 AND ($2::uuid IS NULL OR i.id < $2)
            AND ($4::boolean IS NULL OR (i.answered_at IS NOT NULL) = $4)
        ORDER BY i.created_at DESC, i.id DESC LIMIT $3
        """,
        survey_id, before, limit, answered,
    )  # fmt: skip
    if not rows:
        await surveys.get(session, survey_id=survey_id)
    return [_view(row) for row in rows]


async def _resolved(session: Session, contact_id: UUID, case_id: UUID) -> Case:
    """A case of the contact that came to its end."""
    case = await case_files.read(session, case_id=case_id)
    if case.contact_id not in {contact_id, *await aliases.of(session, contact_id=contact_id)}:
        raise CaseNotFound("This contact has no case with this id.")
    if case.is_live:
        raise CaseUnresolved("Resolve it first: nobody can say yet how it went.")
    return case


async def _check_quarantine(session: Session, survey: surveys.Survey, contact_id: UUID, now: datetime) -> None:
    quarantine = timedelta(days=survey.quarantine_days)
    before = await session.fetchval(_ASKED, contact_id, survey.kind, now - quarantine)
    if before is not None:
        until = before + quarantine
        raise RecentlyAsked(
            f"They were asked on {before:%Y-%m-%d}; ask again after {until:%Y-%m-%d}.", until=until.isoformat()
        )


async def _answer(
    session: Session, found: Invitation, score: int, comment: str | None, *, by: str, now: datetime
) -> Invitation:
    scale = SCALES[found.kind]
    if not scale.has(score):
        raise ScoreOutOfRange(
            f"An answer is a whole number from {scale.low} to {scale.high}.",
            errors=[FieldError("/score", "score_out_of_range", f"must lie between {scale.low} and {scale.high}")],
        )
    if found.expires_at <= now:
        raise InvitationExpired("Thank you all the same. Write to us, if you would like to tell us something.")
    if (found.score, found.comment) == (score, comment):
        return found
    first = found.answered_at is None
    answered_at = now if found.answered_at is None else found.answered_at
    values = (found.contact_id, found.id, score, comment, answered_at, now)
    told = timeline.entry(
        found.contact_id, channel=found.channel or "survey", kind="survey.answered" if first else "survey.changed",
        occurred_at=now, recorded_at=now, by=by, direction="inbound", body=comment, case_id=found.case_id,
        data={
            "survey_id": found.survey_id, "invitation_id": found.id, "kind": found.kind, "score": score,
            "feeling": feeling(found.kind, score),
        },
    )  # fmt: skip
    columns = ("contact_id", "id", "score", "comment", "answered_at", "changed_at")
    await writes.write(session, [Update(survey_invitations, columns, [values], 2), timeline.part([told])])
    found.score, found.comment, found.answered_at, found.changed_at = score, comment, answered_at, now
    return found


async def _asked(session: Session, row: Record, invitation: Invitation | None = None) -> Asked:
    found = invitation or _view(row)
    survey = await surveys.get(session, survey_id=found.survey_id)
    scale = SCALES[found.kind]
    question = survey.questions.get(found.locale) or next(iter(survey.questions.values()))
    return Asked(found, question, scale.low, scale.high)


async def _by_token(session: Session, token: str, lock: str = "") -> Record:
    row = await session.fetchrow(
        f"""
        SELECT {_SELECTED} FROM survey_invitation_directory d
        JOIN survey_invitations i ON i.contact_id = d.contact_id AND i.id = d.invitation_id
        WHERE d.hash = $1 {lock}
        """,
        _hash(token),
    )
    if row is None:
        raise InvitationNotFound("This link leads nowhere. Is it complete?")
    return row


async def _stored(session: Session, contact_id: UUID, invitation_id: UUID, lock: str = "") -> Record:
    row = await session.fetchrow(
        f"SELECT {_SELECTED} FROM survey_invitations i WHERE i.contact_id = $1 AND i.id = $2 {lock}",
        contact_id, invitation_id,
    )  # fmt: skip
    if row is None:
        raise InvitationNotFound("This contact has no invitation with this id.")
    return row


def _language(locale: str | None, questions: dict[str, str]) -> str:
    language = (locale or LOCALE).partition("-")[0]
    return language if language in questions else LOCALE if LOCALE in questions else next(iter(questions))


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _view(row: Record) -> Invitation:
    return Invitation(**{name: row[name] for name in Invitation.__slots__})
