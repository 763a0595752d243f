"""What is said in a case and what it is linked to: `/v1/cases/{id}/replies`, `/notes`, `/timeline`, `/links`."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from litestar import Response
from litestar.params import FromPath
from pydantic import Field, StringConstraints

from crm.api import paging
from crm.api.cases import AgentId
from crm.api.interactions import Channel
from crm.api.paging import Cursor, Limit, Page
from crm.api.routes import delete, get, post
from crm.api.schemas import Body, Line, Text
from crm.care import case_links, conversations
from crm.care.case_files import CaseNotFound
from crm.care.case_links import CaseLink, CaseLinkNotFound, LinkWithSelf, Said
from crm.care.casework import CaseClosed, ReopenPeriodOver
from crm.care.conversations import MESSAGE, NOTE, By, Reply
from crm.db import idempotency
from crm.db.session import Session
from crm.interactions.timeline import Interaction, InteractionNotFound

BODY_MAX = 20_000
_Moment = Annotated[datetime, msgspec.Meta(tz=True)]

Words = Annotated[
    Text, StringConstraints(min_length=1, max_length=BODY_MAX), Field(json_schema_extra={"pattern": r"\S"})
]


class NewReply(Body):
    """What the customer is answered. A human's answer ends the reply clocks, a bot's does not.

    It is put down where the case is spoken about last, unless a `channel` is named. With `status`, the case stands so
    afterwards.
    """

    body: Words
    by: By = "human"
    agent: AgentId | None = None
    subject: Line | None = None
    channel: Channel | None = None
    status: Literal["open", "waiting", "resolved"] | None = None


class NewNote(Body):
    """Something for those who work on the case; the customer never sees it."""

    body: Words


class NewCaseLink(Body):
    """What this case is to another one."""

    other_case_id: UUID
    relation: Said = "related"


@post(
    "/cases/{case_id:uuid}/replies",
    scopes={"care:write"},
    problems=(CaseNotFound, CaseClosed, ReopenPeriodOver),
    headers=("Location",),
)
async def reply_to_case(
    session: Session, case_id: FromPath[UUID], data: NewReply, by: str, now: datetime, once: idempotency.Request | None
) -> Response[Interaction]:
    """Put down what the customer was answered, on whatever channel.

    `POST /v1/contacts/{id}/messages` with `case_id` and `human` sends an answer, and puts it down by itself.
    """
    await idempotency.begin(session, request=once)
    said = Reply(
        body=data.body, said_by=data.by, agent=data.agent, subject=data.subject, channel=data.channel,
        status=data.status,
    )  # fmt: skip
    written, _ = await conversations.reply(session, case_id=case_id, said=said, by=by, once=once, now=now)
    return Response(written, headers={"Location": f"/v1/cases/{case_id}/replies/{written.id}"})


@get("/cases/{case_id:uuid}/replies", scopes={"care:read"}, problems=(CaseNotFound,))
async def list_case_replies(
    session: Session, case_id: FromPath[UUID], cursor: Cursor = None, limit: Limit = 50
) -> Page[Interaction]:
    """List what the customer was answered in a case, newest first."""
    return await _page(session, case_id, MESSAGE, "outbound", cursor, limit)


@get(
    "/cases/{case_id:uuid}/replies/{interaction_id:uuid}",
    scopes={"care:read"},
    problems=(CaseNotFound, InteractionNotFound),
)
async def get_case_reply(session: Session, case_id: FromPath[UUID], interaction_id: FromPath[UUID]) -> Interaction:
    """Read an answer."""
    return await conversations.get(
        session, case_id=case_id, interaction_id=interaction_id, kind=MESSAGE, direction="outbound"
    )


@post("/cases/{case_id:uuid}/notes", scopes={"care:write"}, problems=(CaseNotFound,), headers=("Location",))
async def note_on_case(
    session: Session, case_id: FromPath[UUID], data: NewNote, by: str, now: datetime, once: idempotency.Request | None
) -> Response[Interaction]:
    """Put down an internal note."""
    await idempotency.begin(session, request=once)
    written = await conversations.note(session, case_id=case_id, body=data.body, by=by, once=once, now=now)
    return Response(written, headers={"Location": f"/v1/cases/{case_id}/notes/{written.id}"})


@get("/cases/{case_id:uuid}/notes", scopes={"care:read"}, problems=(CaseNotFound,))
async def list_case_notes(
    session: Session, case_id: FromPath[UUID], cursor: Cursor = None, limit: Limit = 50
) -> Page[Interaction]:
    """List the internal notes of a case, newest first."""
    return await _page(session, case_id, NOTE, "internal", cursor, limit)


@get(
    "/cases/{case_id:uuid}/notes/{interaction_id:uuid}",
    scopes={"care:read"},
    problems=(CaseNotFound, InteractionNotFound),
)
async def get_case_note(session: Session, case_id: FromPath[UUID], interaction_id: FromPath[UUID]) -> Interaction:
    """Read an internal note."""
    return await conversations.get(
        session, case_id=case_id, interaction_id=interaction_id, kind=NOTE, direction="internal"
    )


@get("/cases/{case_id:uuid}/timeline", scopes={"care:read"}, problems=(CaseNotFound,))
async def read_case_timeline(
    session: Session, case_id: FromPath[UUID], cursor: Cursor = None, limit: Limit = 50
) -> Page[Interaction]:
    """Read all that happened in a case, on all its channels, newest first."""
    return await _page(session, case_id, None, None, cursor, limit)


@post(
    "/cases/{case_id:uuid}/links",
    scopes={"care:write"},
    problems=(CaseNotFound, LinkWithSelf),
    repeated="They are linked already, as it is here.",
    headers=("Location",),
)
async def link_case(
    session: Session, case_id: FromPath[UUID], data: NewCaseLink, by: str, now: datetime,
    once: idempotency.Request | None,
) -> Response[CaseLink]:  # fmt: skip
    """Link a case to another.

    The other one shows the link as well, from its side.
    """
    await idempotency.begin(session, request=once)
    link, is_new = await case_links.create(
        session, case_id=case_id, other_case_id=data.other_case_id, relation=data.relation, by=by, once=once, now=now
    )
    location = f"/v1/cases/{case_id}/links/{link.other_case_id}"
    return Response(link, status_code=201 if is_new else 200, headers={"Location": location})


@get("/cases/{case_id:uuid}/links", scopes={"care:read"}, problems=(CaseNotFound,))
async def list_case_links(
    session: Session, case_id: FromPath[UUID], cursor: Cursor = None, limit: Limit = 50
) -> Page[CaseLink]:
    """List what a case is linked to."""
    after = paging.decode(cursor, UUID)
    found = await case_links.page(session, case_id=case_id, after=after[0] if after else None, limit=limit + 1)
    return paging.page_of(found, limit=limit, key=lambda link: (link.other_case_id,))


@get(
    "/cases/{case_id:uuid}/links/{other_case_id:uuid}",
    scopes={"care:read"},
    problems=(CaseNotFound, CaseLinkNotFound),
)
async def get_case_link(session: Session, case_id: FromPath[UUID], other_case_id: FromPath[UUID]) -> CaseLink:
    """Read a link."""
    return await case_links.get(session, case_id=case_id, other_case_id=other_case_id)


@delete(
    "/cases/{case_id:uuid}/links/{other_case_id:uuid}",
    scopes={"care:write"},
    problems=(CaseNotFound, CaseLinkNotFound),
)
async def unlink_case(session: Session, case_id: FromPath[UUID], other_case_id: FromPath[UUID]) -> None:
    """Unlink two cases."""
    await case_links.remove(session, case_id=case_id, other_case_id=other_case_id)


async def _page(
    session: Session, case_id: UUID, kind: str | None, direction: str | None, cursor: str | None, limit: int
) -> Page[Interaction]:
    before = paging.decode(cursor, _Moment, UUID)
    found = await conversations.page(
        session, case_id=case_id, kind=kind, direction=direction, before=(before[0], before[1]) if before else None,
        limit=limit + 1,
    )  # fmt: skip
    return paging.page_of(found, limit=limit, key=lambda interaction: (interaction.occurred_at, interaction.id))


handlers = [
    reply_to_case, list_case_replies, get_case_reply, note_on_case, list_case_notes, get_case_note,
    read_case_timeline, link_case, list_case_links, get_case_link, unlink_case,
]  # fmt: skip
