"""`/v1/cases`: requests and complaints, the queue of them, and what can be done about each."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from litestar import Response
from litestar.params import FromPath, QueryParameter
from pydantic import AfterValidator, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from crm.api import paging
from crm.api.etags import IfMatch, etag, version_of
from crm.api.interactions import Channel, SenderBody
from crm.api.paging import Cursor, Limit, Page
from crm.api.routes import get, patch, post
from crm.api.schemas import Body, Code, Line, Patch, Text, either
from crm.care import case_queue, cases
from crm.care.agents import AgentFull, UnknownAgent, Wish
from crm.care.case_files import CaseNotFound
from crm.care.case_queue import CaseCounts, Filter, Shown, Sort
from crm.care.cases import Draft, NobodyFree, StaleCase
from crm.care.casework import Case, CaseClosed, Priority, ReopenPeriodOver, Status
from crm.contacts.addresses import InvalidIdentity
from crm.contacts.claims import IdentityBlocked
from crm.contacts.contacts import ContactNotFound
from crm.contacts.identities import IdentityAmbiguous
from crm.db import idempotency
from crm.db.session import Session
from crm.interactions import people
from crm.vocabulary import VOCABULARY

TAGS_MAX = 20
BODY_MAX = 20_000
AGENT_PATTERN = r"^[a-z0-9][a-z0-9_.@-]{0,62}$"
_NAME = r"^[a-z][a-z0-9_.-]{0,62}$"
_Moment = Annotated[datetime, msgspec.Meta(tz=True)]

AgentId = Annotated[str, StringConstraints(pattern=AGENT_PATTERN)]
Category = Annotated[Code, Field(description="A short lower-case name of your own, such as `delivery`.")]


def _once_each(values: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(values))


Names = Annotated[list[Code], Field(max_length=TAGS_MAX), AfterValidator(_once_each)]


class NewCase(Body):
    """A request or complaint of a contact, or of whoever has an identity; nobody has it, a contact is made.

    `with_bot` is for one that a bot deals with first: people are waited for from its hand-over on. Without an
    `assignee` it is nobody's, unless it is given to one of a team.
    """

    model_config = either({"contact_id": "string", "identity": "object"})

    contact_id: UUID | None = None
    identity: SenderBody | None = None
    subject: Line
    description: Text | None = None
    category: Category | None = None
    priority: Priority = "normal"
    channel: Channel | None = None
    assignee: AgentId | None = None
    tags: Annotated[Names, Field(default_factory=list)]
    with_bot: bool = False

    @model_validator(mode="after")
    def _one_contact(self) -> "NewCase":
        if (self.contact_id is None) == (self.identity is None):
            raise PydanticCustomError("contact_or_identity", "send either contact_id or identity")
        return self


class CasePatch(Patch):
    """What can change. A resolved case can be opened again while `reopenable_until` lasts, a closed one never."""

    subject: Line | None = None
    category: Category | None = None
    priority: Priority | None = None
    assignee: AgentId | None = None
    tags: Names | None = None
    status: Status | None = None

    not_nullable = frozenset({"subject", "priority", "tags", "status"})


class NewAssignment(Body):
    """Who gets a case: an `agent` by hand, or one of a team who has all of the skills, by turns or the least busy."""

    mode: Literal["manual", "round_robin", "least_busy"]
    agent: AgentId | None = None
    team: Code | None = None
    skills: Annotated[Names, Field(default_factory=list)]

    @model_validator(mode="after")
    def _agent_or_not(self) -> "NewAssignment":
        if (self.mode == "manual") != (self.agent is not None):
            raise PydanticCustomError("agent_by_hand", "an agent is named for `manual`, and only for it")
        return self

    def wish(self) -> Wish:
        """The same, for the agents to decide on."""
        return Wish(mode=self.mode, agent=self.agent, team=self.team, skills=tuple(self.skills))


@post(
    "/cases",
    scopes={"care:write"},
    problems=(
        ContactNotFound, UnknownAgent, AgentFull, IdentityAmbiguous, InvalidIdentity, IdentityBlocked,
    ),
    headers=("ETag", "Location"),
)  # fmt: skip
async def create_case(
    session: Session, data: NewCase, region: str, by: str, now: datetime, once: idempotency.Request | None
) -> Response[Case]:
    """Open a case."""
    await idempotency.begin(session, request=once)
    contact_id = data.contact_id
    if contact_id is None:
        assert data.identity is not None, "one of both is there"
        sender = data.identity.sender(region)
        contact_id = await people.resolve_or_create(session, sender=sender, by=by, now=now)
    draft = Draft(
        subject=data.subject, description=data.description, category=data.category, priority=data.priority,
        channel=data.channel, assignee=data.assignee, tags=data.tags, with_bot=data.with_bot,
    )  # fmt: skip
    case = await cases.create(
        session, vocabulary=VOCABULARY, contact_id=contact_id, draft=draft, by=by, once=once, now=now
    )
    return Response(case, headers=etag(case.version) | {"Location": f"/v1/cases/{case.id}"})


_StatusFilter = Annotated[
    Shown | None, QueryParameter(name="status", description="Left out, those that are open or waiting.")
]
_AssigneeFilter = Annotated[
    str | None,
    QueryParameter(
        name="assignee", pattern=rf"^$|{AGENT_PATTERN}", description="Only those of this agent; empty, of nobody."
    ),
]
_PriorityFilter = Annotated[Priority | None, QueryParameter(name="priority", description="Only of this priority.")]
_CategoryFilter = Annotated[
    str | None, QueryParameter(name="category", pattern=_NAME, description="Only of this category.")
]
_ChannelFilter = Annotated[
    str | None, QueryParameter(name="channel", pattern=_NAME, description="Only those that began on this channel.")
]
_ContactFilter = Annotated[UUID | None, QueryParameter(name="contact_id", description="Only those of this contact.")]
_BreachedFilter = Annotated[
    bool | None, QueryParameter(name="breached", description="Only those that were late once, or never.")
]


@get("/cases", scopes={"care:read"})
async def list_cases(
    session: Session, status: _StatusFilter = None, assignee: _AssigneeFilter = None, priority: _PriorityFilter = None,
    category: _CategoryFilter = None, channel: _ChannelFilter = None, contact: _ContactFilter = None,
    breached: _BreachedFilter = None,
    sort: Annotated[
        Sort, QueryParameter(description="`due_at`: what is due first; `-created_at`: the newest first.")
    ] = "due_at",
    cursor: Cursor = None, limit: Limit = 50,
) -> Page[Case]:  # fmt: skip
    """List cases: what is due first before the others, what is not due last."""
    after = paging.decode(cursor, _Moment | None, UUID)
    found = await case_queue.page(
        session, asked=_filter(status, assignee, priority, category, channel, contact, breached), sort=sort,
        after=(after[0], after[1]) if after else None, limit=limit + 1,
    )  # fmt: skip
    return paging.page_of(found, limit=limit, key=lambda case: (case.due_at, case.id))


@get("/cases/counts", scopes={"care:read"})
async def count_cases(
    session: Session, now: datetime, status: _StatusFilter = None, assignee: _AssigneeFilter = None,
    priority: _PriorityFilter = None, category: _CategoryFilter = None, channel: _ChannelFilter = None,
    contact: _ContactFilter = None, breached: _BreachedFilter = None,
) -> CaseCounts:  # fmt: skip
    """Count cases: how many there are of those that `GET /v1/cases` would list."""
    asked = _filter(status, assignee, priority, category, channel, contact, breached)
    return await case_queue.count(session, asked=asked, now=now)


@get("/cases/{case_id:uuid}", scopes={"care:read"}, problems=(CaseNotFound,), headers=("ETag",))
async def get_case(session: Session, case_id: FromPath[UUID]) -> Response[Case]:
    """Read a case, with its clocks."""
    case = await cases.get(session, case_id=case_id)
    return Response(case, headers=etag(case.version))


@patch(
    "/cases/{case_id:uuid}",
    scopes={"care:write"},
    problems=(CaseNotFound, StaleCase, CaseClosed, ReopenPeriodOver, UnknownAgent, AgentFull),
    headers=("ETag",),
)
async def update_case(
    session: Session, case_id: FromPath[UUID], data: CasePatch, by: str, now: datetime, if_match: IfMatch = None
) -> Response[Case]:
    """Change a case: what it is about, whose it is, and how it stands."""
    changes: dict[str, Any] = {name: getattr(data, name) for name in data.model_fields_set}
    case = await cases.update(
        session, vocabulary=VOCABULARY, case_id=case_id, changes=changes, version=version_of(if_match), by=by, now=now
    )
    return Response(case, headers=etag(case.version))


@post(
    "/cases/{case_id:uuid}/assignment",
    scopes={"care:write"},
    status_code=200,
    problems=(CaseNotFound, CaseClosed, NobodyFree),
    headers=("ETag",),
)
async def assign_case(
    session: Session, case_id: FromPath[UUID], data: NewAssignment, by: str, now: datetime,
    once: idempotency.Request | None,
) -> Response[Case]:  # fmt: skip
    """Give a case to somebody.

    Nobody gets more than their capacity, nor anything while they are away.
    """
    await idempotency.begin(session, request=once)
    case = await cases.give(session, case_id=case_id, wish=data.wish(), by=by, now=now)
    await idempotency.keep(session, request=once, contact_id=case.contact_id, result=case, now=now, status=200)
    return Response(case, headers=etag(case.version))


@post(
    "/cases/{case_id:uuid}/handover",
    scopes={"care:write"},
    status_code=200,
    problems=(CaseNotFound,),
    headers=("ETag",),
)
async def hand_over_case(
    session: Session, case_id: FromPath[UUID], by: str, now: datetime, once: idempotency.Request | None
) -> Response[Case]:
    """Hand a case over from a bot to people: their clocks begin."""
    await idempotency.begin(session, request=once)
    case = await cases.hand_over(session, case_id=case_id, by=by, now=now)
    await idempotency.keep(session, request=once, contact_id=case.contact_id, result=case, now=now, status=200)
    return Response(case, headers=etag(case.version))


@post(
    "/cases/{case_id:uuid}/reopening",
    scopes={"care:write"},
    problems=(CaseNotFound, ContactNotFound),
    repeated="The case itself, which goes on: it was live already, or resolved not long before.",
    headers=("ETag", "Location"),
)
async def reopen_case(
    session: Session, case_id: FromPath[UUID], by: str, now: datetime, once: idempotency.Request | None
) -> Response[Case]:
    """Go on with a case that was resolved.

    After `reopenable_until`, or when it is closed, a new case is opened that is linked to it as one that follows.
    """
    await idempotency.begin(session, request=once)
    case, is_new = await cases.reopen(session, vocabulary=VOCABULARY, case_id=case_id, by=by, once=once, now=now)
    headers = etag(case.version) | {"Location": f"/v1/cases/{case.id}"}
    return Response(case, status_code=201 if is_new else 200, headers=headers)


def _filter(
    status: Shown | None, assignee: str | None, priority: Priority | None, category: str | None, channel: str | None,
    contact_id: UUID | None, breached: bool | None,
) -> Filter:  # fmt: skip
    return Filter(
        status=status, assignee=assignee, priority=priority, category=category, channel=channel,
        contact_id=contact_id, breached=breached,
    )  # fmt: skip


handlers = [
    create_case, list_cases, count_cases, get_case, update_case, assign_case, hand_over_case, reopen_case,
]  # fmt: skip
