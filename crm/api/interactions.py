"""Interactions: what happened with a contact, and the timeline of it all."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from litestar import Response
from litestar.params import FromPath, QueryParameter
from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from crm.api import batches, moments, paging, survivors
from crm.api.batches import BatchResult, Judged
from crm.api.paging import Cursor, Limit, Page
from crm.api.routes import BATCH_BODY_MAX, AnyRequest, ContactId, get, post
from crm.api.schemas import Body, Code, ExternalId, Instant, JsonObject, Reference, Text, either
from crm.care.intake import Desk
from crm.contacts.addresses import LENGTH_MAX, InvalidIdentity
from crm.contacts.contacts import ContactNotFound
from crm.contacts.identities import IdentityAmbiguous
from crm.db import idempotency, writes
from crm.db.session import Session
from crm.errors import CrmError, FieldError
from crm.interactions import reports, timeline
from crm.interactions.people import Sender
from crm.interactions.timeline import (
    CHANNELS,
    ExternalIdTaken,
    Interaction,
    InteractionNotFound,
    InTheFuture,
    Recorded,
    Report,
    ReservedKind,
)
from crm.vocabulary import VOCABULARY

BATCH_MAX = 500
DATA_BYTES_MAX = 64 * 1024
_NAME = r"^[a-z][a-z0-9_.-]{0,62}$"
_Moment = Annotated[datetime, msgspec.Meta(tz=True)]
_TransactionNumber = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]

Channel = Annotated[
    Code, Field(description=f"Known are {', '.join(CHANNELS)}; any other short lower-case name will do.")
]
Kind = Annotated[Code, Field(description="What happened: a short lower-case name, such as `message` or `visit.ended`.")]
Source = Annotated[Reference, Field(max_length=100)]


def _small(value: dict[str, Any]) -> dict[str, Any]:
    if len(msgspec.json.encode(value)) > DATA_BYTES_MAX:
        raise PydanticCustomError("too_large", "must have at most 64 KB as JSON")
    return value


class InteractionFields(Body):
    channel: Channel
    kind: Kind
    direction: Literal["inbound", "outbound", "internal"] | None = None
    occurred_at: Instant
    subject: Annotated[Text, Field(max_length=1_000)] | None = None
    body: Text | None = None
    data: Annotated[JsonObject, AfterValidator(_small)] | None = None
    source: Source | None = None
    external_id: ExternalId | None = None
    thread_id: UUID | None = None
    case_id: UUID | None = None

    def report(self) -> Report:
        """What is reported, without whom it happened with."""
        return Report(
            channel=self.channel, kind=self.kind, occurred_at=self.occurred_at, direction=self.direction,
            subject=self.subject, body=self.body, data=self.data, source=self.source, external_id=self.external_id,
            thread_id=self.thread_id, case_id=self.case_id,
        )  # fmt: skip


class NewInteraction(InteractionFields):
    """Something that happened. With an `external_id` it is recorded once, however often it is sent.

    External ids are told apart by `source`, or by `channel` where there is none.
    """


class SenderBody(Body):
    """An address of somebody, in whatever form it is typed."""

    kind: Code
    value: Annotated[Reference, Field(max_length=LENGTH_MAX)]
    account: Annotated[str, Field(max_length=100)] | None = None

    def sender(self, region: str) -> Sender:
        """Whoever is behind it. Raises InvalidIdentity."""
        try:
            return Sender.of(kind=self.kind, value=self.value, account=self.account, region=region)
        except InvalidIdentity as error:
            pointer = FieldError("/identity/value", error.code, error.detail)
            raise InvalidIdentity(error.detail, errors=[pointer]) from error


class InteractionOf(InteractionFields):
    """Something that happened with a contact, or with whoever has an identity."""

    model_config = either({"contact_id": "string", "identity": "object"})

    contact_id: UUID | None = None
    identity: SenderBody | None = None

    @model_validator(mode="after")
    def _one_contact(self) -> "InteractionOf":
        if (self.contact_id is None) == (self.identity is None):
            raise PydanticCustomError("contact_or_identity", "send either contact_id or identity")
        return self

    def who(self, region: str) -> UUID | Sender:
        """Whom it happened with. Raises InvalidIdentity."""
        if self.contact_id is not None:
            return self.contact_id
        assert self.identity is not None
        return self.identity.sender(region)


class InteractionBatch(Body):
    """Up to 500 interactions."""

    items: Annotated[list[Annotated[InteractionOf, Judged()]], Field(min_length=1, max_length=BATCH_MAX)]


@post(
    "/contacts/{contact_id:uuid}/interactions",
    scopes={"interactions:write"},
    problems=(ContactNotFound, ExternalIdTaken, ReservedKind, InTheFuture),
    repeated="It was recorded before, as it is here.",
    headers=("Location",),
)
async def record_interaction(
    session: Session, contact_id: FromPath[ContactId], data: NewInteraction, by: str, now: datetime,
    once: idempotency.Request | None,
) -> Response[Interaction]:  # fmt: skip
    """Record what happened with a contact.

    The same `external_id` of the same source again answers 200 with what was recorded first.
    """
    await idempotency.begin(session, request=once)
    recorded = await reports.record(session, who=contact_id, report=data.report(), desk=_desk(by, now), by=by, now=now)
    return await _answered(session, recorded, once, now)


@post(
    "/interactions",
    scopes={"interactions:write"},
    problems=(ContactNotFound, ExternalIdTaken, ReservedKind, InTheFuture, IdentityAmbiguous, InvalidIdentity),
    repeated="It was recorded before, as it is here.",
    headers=("Location",),
)
async def record_interaction_by_identity(
    session: Session, data: InteractionOf, region: str, by: str, now: datetime, once: idempotency.Request | None
) -> Response[Interaction]:
    """Record what happened with whoever has an identity.

    Where nobody has it, a contact is made.
    """
    await idempotency.begin(session, request=once)
    recorded = await reports.record(
        session, who=data.who(region), report=data.report(), desk=_desk(by, now), by=by, now=now
    )
    return await _answered(session, recorded, once, now)


@post("/interactions/batch", scopes={"interactions:write"}, body_max=BATCH_BODY_MAX, status_code=200)
async def record_interactions(
    session: Session, data: InteractionBatch, request: AnyRequest, region: str, by: str, now: datetime,
    once: idempotency.Request | None,
) -> BatchResult[Interaction]:  # fmt: skip
    """Record many interactions.

    Each is answered as if it had been sent alone, in order. A refused one keeps none of the others out.
    """
    await idempotency.begin(session, request=once)

    async def record_items(items: Sequence[InteractionOf]) -> list[Recorded | CrmError]:
        judged = [_judged(item, region) for item in items]
        accepted = [item for item in judged if not isinstance(item, CrmError)]
        desk = _desk(by, now)
        recorded = iter(await reports.record_all(session, reports=accepted, desk=desk, by=by, now=now))
        return [item if isinstance(item, CrmError) else next(recorded) for item in judged]

    results = await survivors.post_all(session, data.items, record_items)
    answer = batches.answer(
        [(0, result) if isinstance(result, CrmError) else (_status(result), result[0]) for result in results], request
    )
    await idempotency.keep(session, request=once, contact_id=None, result=answer, status=200, now=now)
    return answer


@get("/interactions", scopes={"interactions:read"})
async def list_recent_interactions(session: Session, cursor: Cursor = None, limit: Limit = 50) -> Page[Interaction]:
    """List the interactions of all contacts, last recorded first."""
    before = paging.decode(cursor, _TransactionNumber, UUID)
    found = await timeline.recent(session, before=(before[0], before[1]) if before else None, limit=limit + 1)
    page = paging.page_of(found, limit=limit, key=lambda item: (item[0], item[1].id))
    return Page([interaction for _, interaction in page.items], page.next_cursor)


_ChannelFilter = Annotated[
    str | None, QueryParameter(name="channel", pattern=_NAME, description="Only on this channel.")
]
_KindFilter = Annotated[str | None, QueryParameter(name="kind", pattern=_NAME, description="Only of this kind.")]
_ThreadFilter = Annotated[
    UUID | None, QueryParameter(name="thread_id", description="Only what was said in this thread.")
]
_CaseFilter = Annotated[UUID | None, QueryParameter(name="case_id", description="Only what happened in this case.")]
_Words = Annotated[
    str | None,
    QueryParameter(
        name="q",
        min_length=1,
        max_length=200,
        description='Messages with these words, in Indonesian or English: all of them, a "phrase", `or`, `-without`.',
    ),
]


@get("/contacts/{contact_id:uuid}/timeline", scopes={"interactions:read"}, problems=(ContactNotFound,))
async def read_timeline(
    session: Session, contact_id: FromPath[ContactId], channel: _ChannelFilter = None, kind: _KindFilter = None,
    since: moments.Since = None, until: moments.Until = None, thread_id: _ThreadFilter = None,
    case_id: _CaseFilter = None, words: _Words = None,
    cursor: Cursor = None, limit: Limit = 50,
) -> Page[Interaction]:  # fmt: skip
    """Read a contact's timeline, newest first.

    It holds everything that happened, on every channel: messages, visits, purchases, points, tiers.
    """
    return await _page(session, contact_id, channel, kind, since, until, thread_id, case_id, words, cursor, limit)


@get("/contacts/{contact_id:uuid}/interactions", scopes={"interactions:read"}, problems=(ContactNotFound,))
async def list_interactions(
    session: Session, contact_id: FromPath[ContactId], channel: _ChannelFilter = None, kind: _KindFilter = None,
    since: moments.Since = None, until: moments.Until = None, thread_id: _ThreadFilter = None,
    case_id: _CaseFilter = None, words: _Words = None,
    cursor: Cursor = None, limit: Limit = 50,
) -> Page[Interaction]:  # fmt: skip
    """List a contact's interactions, newest first.

    The same as the timeline.
    """
    return await _page(session, contact_id, channel, kind, since, until, thread_id, case_id, words, cursor, limit)


@get(
    "/contacts/{contact_id:uuid}/interactions/{interaction_id:uuid}",
    scopes={"interactions:read"},
    problems=(InteractionNotFound,),
)
async def get_interaction(
    session: Session, contact_id: FromPath[ContactId], interaction_id: FromPath[UUID]
) -> Interaction:
    """Read an interaction."""
    return await timeline.get(session, contact_id=contact_id, interaction_id=interaction_id)


async def _page(
    session: Session, contact_id: UUID, channel: str | None, kind: str | None, since: str | None, until: str | None,
    thread_id: UUID | None, case_id: UUID | None, words: str | None, cursor: str | None, limit: int,
) -> Page[Interaction]:  # fmt: skip
    before = paging.decode(cursor, _Moment, UUID)
    found = await timeline.page(
        session, contact_id=contact_id, channel=channel, kind=kind, since=moments.instant("from", since),
        until=moments.instant("to", until), thread_id=thread_id, case_id=case_id, words=words,
        before=(before[0], before[1]) if before else None, limit=limit + 1,
    )  # fmt: skip
    return paging.page_of(found, limit=limit, key=lambda interaction: (interaction.occurred_at, interaction.id))


async def _answered(
    session: Session, recorded: Recorded, once: idempotency.Request | None, now: datetime
) -> Response[Interaction]:
    interaction, status = recorded[0], _status(recorded)
    await writes.write(
        session,
        idempotency.answer(once, contact_id=interaction.contact_id, result=interaction, status=status, now=now),
    )
    location = f"/v1/contacts/{interaction.contact_id}/interactions/{interaction.id}"
    return Response(interaction, status_code=status, headers={"Location": location})


def _desk(by: str, now: datetime) -> Desk:
    """Messages belong to cases, or become some."""
    return Desk(vocabulary=VOCABULARY, by=by, now=now)


def _judged(item: InteractionOf, region: str) -> tuple[UUID | Sender, Report] | CrmError:
    try:
        return item.who(region), item.report()
    except CrmError as error:
        return error


def _status(recorded: Recorded) -> int:
    return 201 if recorded[1] else 200


handlers = [
    record_interaction, record_interaction_by_identity, record_interactions, list_recent_interactions,
    read_timeline, list_interactions, get_interaction,
]  # fmt: skip
