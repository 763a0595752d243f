"""`/v1/surveys`: what customers are asked, who was asked, and what they said; and the page on which they say it."""

from datetime import datetime
from typing import Annotated, Any, Literal
from urllib.parse import parse_qs
from uuid import UUID

from litestar import Response
from litestar.params import FromPath, QueryParameter
from pydantic import Field, StringConstraints, WithJsonSchema

from crm.api import moments, paging
from crm.api.auth import PUBLIC
from crm.api.contacts import Locale
from crm.api.paging import Cursor, Limit, Page
from crm.api.routes import AnyRequest, ContactId, get, patch, post
from crm.api.schemas import Body, Line, Patch
from crm.care import invitations, pages, surveys
from crm.care.case_files import CaseNotFound
from crm.care.invitations import (
    COMMENT_LENGTH_MAX,
    CaseUnresolved,
    Invitation,
    InvitationExpired,
    InvitationNotFound,
    Invited,
    RecentlyAsked,
    ScoreOutOfRange,
    SurveyArchived,
)
from crm.care.scores import Kind
from crm.care.surveys import Survey, SurveyNotFound
from crm.contacts.contacts import ContactNotFound
from crm.db import idempotency
from crm.db.session import Session
from crm.errors import CrmError
from crm.insights import satisfaction
from crm.insights.satisfaction import GroupBy, SurveyResults

FORM_MAX = 20_000
_NAME = r"^[a-z][a-z0-9_.-]{0,62}$"
Channel = Annotated[str, StringConstraints(pattern=_NAME)]
Days = Annotated[int, Field(ge=1, le=365)]
Comment = Annotated[str, StringConstraints(strip_whitespace=True, max_length=COMMENT_LENGTH_MAX, pattern=r"^[^\x00]*$")]
_LANGUAGE = r"^[a-z]{2,3}$"
Questions = Annotated[
    dict[Annotated[str, StringConstraints(pattern=_LANGUAGE)], Line],
    Field(min_length=1, max_length=20),
    WithJsonSchema({
        "type": "object", "description": "By language.", "minProperties": 1, "maxProperties": 20,
        "propertyNames": {"pattern": _LANGUAGE},
        "additionalProperties": {"type": "string", "minLength": 1, "maxLength": 200, "pattern": r"\S"},
    }),
]  # fmt: skip


class NewSurvey(Body):
    """A question with a scale: CSAT 1 to 5, CES 1 to 7, NPS 0 to 10, a person's rating 1 to 5.

    `questions` words it by language; left out, it is worded as usual, in Indonesian and English.
    """

    name: Line
    kind: Kind
    questions: Questions | None = None
    valid_days: Days = 14
    quarantine_days: Annotated[int, Field(ge=0, le=365)] = 30


class SurveyPatch(Patch):
    """What can change here; the kind can't."""

    name: Line | None = None
    questions: Questions | None = None
    valid_days: Days | None = None
    quarantine_days: Annotated[int, Field(ge=0, le=365)] | None = None
    status: Literal["active", "archived"] | None = None

    not_nullable = frozenset({"name", "questions", "valid_days", "quarantine_days", "status"})


class NewInvitation(Body):
    """Whom to ask, about what, and on which channel the link will be sent.

    `agent` is who is rated; about a case that was resolved, whoever had it then. Without a `locale` it is the
    contact's.
    """

    contact_id: UUID
    channel: Channel | None = None
    agent: Line | None = None
    case_id: UUID | None = None
    interaction_id: UUID | None = None
    locale: Locale | None = None


class NewResponse(Body):
    """An answer that came another way than by the page."""

    score: Annotated[int, Field(ge=0, le=10)]
    comment: Comment | None = None


@post("/surveys", scopes={"care:write"})
async def create_survey(session: Session, data: NewSurvey, now: datetime, once: idempotency.Request | None) -> Survey:
    """Create a survey."""
    await idempotency.begin(session, request=once)
    return await surveys.create(
        session, name=data.name, kind=data.kind, questions=data.questions, valid_days=data.valid_days,
        quarantine_days=data.quarantine_days, once=once, now=now,
    )  # fmt: skip


@get("/surveys", scopes={"care:read"})
async def list_surveys(session: Session, cursor: Cursor = None, limit: Limit = 50) -> Page[Survey]:
    """List surveys, newest first."""
    before = paging.decode(cursor, UUID)
    found = await surveys.page(session, before=before[0] if before else None, limit=limit + 1)
    return paging.page_of(found, limit=limit, key=lambda survey: (survey.id,))


@get("/surveys/{survey_id:uuid}", scopes={"care:read"}, problems=(SurveyNotFound,))
async def get_survey(session: Session, survey_id: FromPath[UUID]) -> Survey:
    """Read a survey."""
    return await surveys.get(session, survey_id=survey_id)


@patch("/surveys/{survey_id:uuid}", scopes={"care:write"}, problems=(SurveyNotFound,))
async def update_survey(session: Session, survey_id: FromPath[UUID], data: SurveyPatch, now: datetime) -> Survey:
    """Change a survey, for those who are invited from now on."""
    changes: dict[str, Any] = {name: getattr(data, name) for name in data.model_fields_set}
    return await surveys.update(session, survey_id=survey_id, changes=changes, now=now)


@post(
    "/surveys/{survey_id:uuid}/invitations",
    scopes={"care:write"},
    problems=(SurveyNotFound, SurveyArchived, ContactNotFound, RecentlyAsked, CaseNotFound, CaseUnresolved),
)
async def invite_to_survey(
    session: Session, survey_id: FromPath[UUID], data: NewInvitation, by: str, now: datetime,
    once: idempotency.Request | None,
) -> Invited:  # fmt: skip
    """Invite a contact to answer.

    The answer has the path of a page that only they can know: send it to them. Nobody is asked a question of the same
    kind twice within the survey's quarantine.
    """
    await idempotency.begin(session, request=once)
    return await invitations.invite(
        session, survey_id=survey_id, contact_id=data.contact_id, channel=data.channel, agent=data.agent,
        case_id=data.case_id, interaction_id=data.interaction_id, locale=data.locale, by=by, once=once, now=now,
    )  # fmt: skip


@get("/surveys/{survey_id:uuid}/invitations", scopes={"care:read"}, problems=(SurveyNotFound,))
async def list_survey_invitations(
    session: Session, survey_id: FromPath[UUID],
    answered: Annotated[bool | None, QueryParameter(description="Only those who answered, or who did not.")] = None,
    cursor: Cursor = None, limit: Limit = 50,
) -> Page[Invitation]:  # fmt: skip
    """List who was asked, newest first, with what they said."""
    before = paging.decode(cursor, UUID)
    found = await invitations.page_of_survey(
        session, survey_id=survey_id, answered=answered, before=before[0] if before else None, limit=limit + 1
    )
    return paging.page_of(found, limit=limit, key=lambda invitation: (invitation.id,))


@get("/surveys/{survey_id:uuid}/results", scopes={"insights:read"}, problems=(SurveyNotFound,))
async def get_survey_results(
    session: Session, survey_id: FromPath[UUID],
    since: Annotated[
        str | None,
        QueryParameter(name="from", schema_extra=moments.DATE_TIME, description="Of those invited from then on."),
    ] = None,
    until: Annotated[
        str | None,
        QueryParameter(name="to", schema_extra=moments.DATE_TIME, description="Of those invited before."),
    ] = None,
    group_by: Annotated[GroupBy | None, QueryParameter(description="A score for each of these too.")] = None,
) -> SurveyResults:  # fmt: skip
    """Read what a survey's answers come to.

    No answers are no score. NPS has the margin of a 95 % confidence interval. Tiers are those of today, days and weeks
    those of the default program's time zone.
    """
    return await satisfaction.results(
        session, survey_id=survey_id, since=moments.instant("from", since), until=moments.instant("to", until),
        group_by=group_by,
    )  # fmt: skip


@get("/contacts/{contact_id:uuid}/survey-invitations", scopes={"care:read"}, problems=(ContactNotFound,))
async def list_invitations_of_contact(
    session: Session, contact_id: FromPath[ContactId], cursor: Cursor = None, limit: Limit = 50
) -> Page[Invitation]:
    """List what a contact was asked, newest first, with what they said."""
    before = paging.decode(cursor, UUID)
    found = await invitations.page(
        session, contact_id=contact_id, before=before[0] if before else None, limit=limit + 1
    )
    return paging.page_of(found, limit=limit, key=lambda invitation: (invitation.id,))


@get(
    "/contacts/{contact_id:uuid}/survey-invitations/{invitation_id:uuid}",
    scopes={"care:read"},
    problems=(InvitationNotFound,),
)
async def get_invitation(
    session: Session, contact_id: FromPath[ContactId], invitation_id: FromPath[UUID]
) -> Invitation:
    """Read an invitation of a contact."""
    return await invitations.get(session, contact_id=contact_id, invitation_id=invitation_id)


@post(
    "/contacts/{contact_id:uuid}/survey-invitations/{invitation_id:uuid}/response",
    scopes={"care:write"},
    status_code=200,
    problems=(InvitationNotFound, InvitationExpired, ScoreOutOfRange),
)
async def answer_survey(
    session: Session, contact_id: FromPath[ContactId], invitation_id: FromPath[UUID], data: NewResponse, by: str,
    now: datetime, once: idempotency.Request | None,
) -> Invitation:  # fmt: skip
    """Note an answer.

    Another answer takes its place, until the invitation expires.
    """
    await idempotency.begin(session, request=once)
    return await invitations.answer(
        session, contact_id=contact_id, invitation_id=invitation_id, score=data.score, comment=data.comment or None,
        by=by, once=once, now=now,
    )  # fmt: skip


@get("/s/{token:str}", scopes=PUBLIC, media_type="text/html", documented=False)
async def show_survey(session: Session, token: FromPath[str], now: datetime) -> Response[str]:
    """The page of an invitation."""
    try:
        asked = await invitations.asked(session, token=token)
    except InvitationNotFound:
        return _page(pages.gone("unknown"), 404)
    if asked.invitation.expires_at <= now:
        return _page(pages.gone("expired", locale=asked.invitation.locale), 410)
    return _page(pages.question(asked), 200)


@post("/s/{token:str}", scopes=PUBLIC, media_type="text/html", documented=False, body_max=FORM_MAX, status_code=200)
async def submit_survey(session: Session, token: FromPath[str], request: AnyRequest, now: datetime) -> Response[str]:
    """What somebody sends from the page: an answer, which the page then shows."""
    fields = parse_qs((await request.body()).decode("utf-8", "replace"))
    said = "".join(fields.get("score", ())).strip()
    comment = "".join(fields.get("comment", ())).replace("\x00", "").strip()[:COMMENT_LENGTH_MAX]
    score = int(said) if said.isascii() and said.isdigit() and len(said) <= len("10") else -1
    try:
        asked = await invitations.answer_by_token(session, token=token, score=score, comment=comment or None, now=now)
    except InvitationNotFound:
        return _page(pages.gone("unknown"), 404)
    except (InvitationExpired, ScoreOutOfRange) as refusal:
        return await _refused(session, token, refusal)
    return _page(pages.question(asked, thanked=True), 200)


async def _refused(session: Session, token: str, refusal: CrmError) -> Response[str]:
    asked = await invitations.asked(session, token=token)
    if isinstance(refusal, InvitationExpired):
        return _page(pages.gone("expired", locale=asked.invitation.locale), 410)
    return _page(pages.question(asked, wrong=True), 422)


def _page(html: str, status: int) -> Response[str]:
    return Response(html, status_code=status, media_type="text/html", headers={"Cache-Control": "no-store"})


handlers = [
    create_survey, list_surveys, get_survey, update_survey, invite_to_survey, list_survey_invitations,
    get_survey_results, list_invitations_of_contact, get_invitation, answer_survey,
]  # fmt: skip
public = [show_survey, submit_survey]
