"""Messages that go out: taken down with their place on the timeline, and carried out by the worker.

A message and its interaction have one id. What may not go is refused when it is accepted, and judged anew when it goes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias
from uuid import UUID

import msgspec
from asyncpg import Record
from sqlalchemy import Boolean, Column, Integer, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from crm.contacts import addresses, aliases, contacts
from crm.contacts.addresses import Address
from crm.contacts.consents import SERVICE
from crm.db import idempotency, queue, writes
from crm.db.ids import uuid7
from crm.db.session import Session
from crm.db.tables import Instant, metadata
from crm.db.writes import Insert
from crm.errors import Conflict, CrmError, FieldError, Invalid, NotFound
from crm.inbox import clearance, heard, routing, templates
from crm.inbox.clearance import Cleared, Postponed, Wish
from crm.inbox.house import House
from crm.inbox.routing import Route
from crm.inbox.templates import Filled, MessageTemplate, TemplateNotFound, TemplateOfOtherChannels
from crm.interactions import changes, threads, timeline
from crm.interactions.channels.outgoing import TEXT_MAX, ProviderTemplate
from crm.interactions.threads import Said
from crm.interactions.timeline import Report

JOB: Final = "send_messages"
KIND: Final = "message"

OwnStatus: TypeAlias = Literal["queued", "sending", "sent", "unknown", "failed", "cancelled"]
"""How far we are with a message; what its provider tells after that stands with its interaction."""
OpenStatus: TypeAlias = Literal["queued", "sending", "unknown", "failed", "cancelled"]
"""Of what did not go, or not yet."""
Status: TypeAlias = Literal["queued", "sending", "unknown", "sent", "delivered", "read", "failed", "cancelled"]

outbound_messages = Table(
    "outbound_messages",
    metadata,
    Column("contact_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("account_id", Uuid, nullable=False),
    Column("channel", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("identity", JSONB),
    Column("sent_to", JSONB),
    Column("template_id", Uuid),
    Column("provider_template", JSONB),
    Column("human", Boolean, nullable=False),
    Column("natural_key", Text),
    Column("resend_of", Uuid),
    Column("due_at", Instant, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("claimed_at", Instant),
    Column("sent_at", Instant),
    Column("external_id", Text),
    Column("error", JSONB),
    Column("by", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
)
_COLUMNS: Final = tuple(column.name for column in outbound_messages.columns)
SELECTED: Final = f"""
    {", ".join(f"m.{name}" for name in _COLUMNS)}, i.subject, i.body, i.thread_id, i.case_id,
    {changes.select("i")} AS changes
"""
"""What `view` needs of a message `m` and its interaction `i`."""
JOINED: Final = "outbound_messages m JOIN interactions i ON i.contact_id = m.contact_id AND i.id = m.id"


class MessageNotFound(NotFound):
    code = "message_not_found"
    title = "There is no such message"


class NothingToSay(Invalid):
    code = "nothing_to_say"
    title = "A message needs a text or a template"


class TextTooLong(Invalid):
    code = "text_too_long"
    title = "The channel does not take so long a text"


class NotCancellable(Conflict):
    code = "message_not_cancellable"
    title = "This message is not waiting any more"


class NotResendable(Conflict):
    code = "message_not_resendable"
    title = "This message is not one that failed"


@dataclass(frozen=True, slots=True)
class MessageReason:
    """Why a message failed, waits, or is in doubt: `until` when, if it waits."""

    code: str
    detail: str
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Reached:
    """The address that a message goes to."""

    kind: str
    value: str
    account: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A message to be sent, by default on the channel account on which there was talk last.

    `identity` is the address to go to, by default the best there is. `human` is one that a person writes, for whom some
    channels leave more time. A `provider_template` is what its provider has approved, `template_id` a template of ours.
    """

    text: str | None = None
    subject: str | None = None
    template_id: UUID | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)
    provider_template: ProviderTemplate | None = None
    channel: str | None = None
    account_id: UUID | None = None
    identity: Reached | None = None
    purpose: str = SERVICE
    send_at: datetime | None = None
    thread_id: UUID | None = None
    case_id: UUID | None = None
    human: bool = False


@dataclass(slots=True)
class OutboundMessage:
    """A message of ours, as it stands: its `status` follows what its provider has told.

    It goes at `due_at`, and not before. `sent_to` is the address that it went to; `error` says why it failed, or waits.
    """

    id: UUID
    contact_id: UUID
    channel_account_id: UUID
    channel: str
    purpose: str
    status: Status
    subject: str | None
    text: str | None
    template_id: UUID | None
    provider_template: ProviderTemplate | None
    identity: Reached | None
    sent_to: Reached | None
    human: bool
    thread_id: UUID | None
    case_id: UUID | None
    due_at: datetime
    attempts: int
    sent_at: datetime | None
    external_id: str | None
    error: MessageReason | None
    resend_of: UUID | None
    by: str
    created_at: datetime
    updated_at: datetime


async def send(
    session: Session,
    *,
    contact_id: UUID,
    draft: Draft,
    house: House,
    by: str,
    natural_key: str | None = None,
    resend_of: UUID | None = None,
    once: idempotency.Request | None = None,
    now: datetime,
) -> tuple[OutboundMessage, bool]:
    """Accept a message: it goes when this transaction is committed, at its `send_at`, or when it is no longer quiet.

    False beside the message of the same `natural_key`, found again. Raises ContactNotFound, NothingToSay,
    UnknownReference, NoChannelAccount, ChannelCannotSend, AccountIncomplete, InvalidIdentity, TextTooLong,
    TemplateOfOtherChannels, UnknownVariable, TemplateNotFilled, and MayNotSend, which says why.
    """
    await contacts.lock(session, contact_id=contact_id)
    if natural_key is not None and (known := await _by_key(session, contact_id, natural_key)) is not None:
        return known, False
    template = await _template(session, draft)
    route = await route_of(session, contact_id=contact_id, draft=draft, template=template)
    if template is not None:
        filled = await templates.fill(
            session, template=template, contact_id=contact_id, variables=draft.variables, now=now
        )
        draft = worded(draft, filled)
    due_at = max(draft.send_at or now, now)
    reason = None
    verdict = await judge(session, contact_id=contact_id, draft=draft, route=route, house=house, at=due_at, now=now)
    if isinstance(verdict, Postponed):
        due_at = verdict.until
        reason = MessageReason(verdict.code, clearance.WAITS[verdict.code], due_at)
    message_id = uuid7()
    message = OutboundMessage(
        id=message_id, contact_id=contact_id, channel_account_id=route.account.id, channel=route.channel,
        purpose=draft.purpose, status="queued", subject=draft.subject, text=draft.text, template_id=draft.template_id,
        provider_template=draft.provider_template, identity=draft.identity, sent_to=None, human=draft.human,
        thread_id=await _thread(session, contact_id, message_id, draft, route, house, now), case_id=draft.case_id,
        due_at=due_at, attempts=0, sent_at=None, external_id=None, error=reason, resend_of=resend_of, by=by,
        created_at=now, updated_at=now,
    )  # fmt: skip
    pair = (route.account.source, str(message.id))
    await timeline.record(session, contact_id=contact_id, report=_report(message, pair), by=by, now=now)
    await changes.apply_all(session, changes=[changes.state(pair, "queued", occurred_at=now)], now=now)
    shown = msgspec.to_builtins(message, builtin_types=(UUID, datetime))
    values = {**shown, "account_id": route.account.id, "natural_key": natural_key, "claimed_at": None}
    await writes.write(
        session,
        [
            Insert(outbound_messages, _COLUMNS, [tuple(values[name] for name in _COLUMNS)]),
            *idempotency.answer(once, contact_id=contact_id, result=message, now=now),
        ],
    )
    if due_at <= now:
        await wake(session)
    return message, True


async def route_of(session: Session, *, contact_id: UUID, draft: Draft, template: MessageTemplate | None) -> Route:
    """By which account and on which channel it would go.

    Raises UnknownReference, NoChannelAccount, ChannelCannotSend, AccountIncomplete, TemplateOfOtherChannels.
    """
    channel = draft.channel
    if template is not None and len(template.channels) == 1 and channel is None and draft.account_id is None:
        [channel] = template.channels
    route = await routing.choose(
        session, contact_id=contact_id, account_id=draft.account_id, channel=channel, thread_id=draft.thread_id
    )
    if template is not None and template.channels and route.channel not in template.channels:
        raise TemplateOfOtherChannels(
            f"'{template.name}' is for {', '.join(template.channels)}, and it would go on {route.channel}.",
            errors=[FieldError("/template_id", TemplateOfOtherChannels.code, "is for other channels")],
        )
    return route


def worded(draft: Draft, filled: Filled) -> Draft:
    """The message with the words of a template; what it says in its own words stays."""
    return replace(
        draft, text=draft.text if draft.text is not None else filled.text, subject=draft.subject or filled.subject,
        provider_template=draft.provider_template or filled.provider_template,
    )  # fmt: skip


async def wake(session: Session) -> None:
    """Have the worker send what is due, once this transaction is committed."""
    if not await session.fetchval(f"SELECT {queue.waiting('$1::text')}", JOB):
        await queue.enqueue(session, name=JOB, payload={})


async def get(session: Session, *, contact_id: UUID, message_id: UUID) -> OutboundMessage:
    """One message to a contact. Raises MessageNotFound."""
    return view(await _row(session, contact_id, message_id))


async def page(
    session: Session, *, contact_id: UUID, status: OwnStatus | None = None, before: UUID | None, limit: int
) -> list[OutboundMessage]:
    """Messages to a contact, newest first, older than `before`. Raises ContactNotFound."""
    rows = await session.fetch(
        f"""
        SELECT n.* FROM contacts c CROSS JOIN LATERAL {aliases.known_as("c.id")} who CROSS JOIN LATERAL (
            SELECT {SELECTED} FROM {JOINED}
            WHERE m.contact_id = who.id AND ($2::uuid IS NULL OR m.id < $2) AND ($4::text IS NULL OR m.status = $4)
            ORDER BY m.id DESC LIMIT $3
        ) n
        WHERE c.id = $1 ORDER BY n.id DESC LIMIT $3
        """,
        contact_id, before, limit, status,
    )  # fmt: skip
    if not rows:
        await contacts.get(session, contact_id=contact_id)
    return [view(row) for row in rows]


async def page_of_all(
    session: Session, *, status: OpenStatus, before: UUID | None, limit: int
) -> list[OutboundMessage]:
    """Messages to anybody that are in this status with us, newest first, older than `before`."""
    rows = await session.fetch(
        f"""
        SELECT {SELECTED} FROM {JOINED}
        WHERE m.status = $1 AND m.status <> 'sent' AND ($2::uuid IS NULL OR m.id < $2) ORDER BY m.id DESC LIMIT $3
        """,
        status, before, limit,
    )  # fmt: skip
    return [view(row) for row in rows]


async def cancel(session: Session, *, contact_id: UUID, message_id: UUID, now: datetime) -> None:
    """Let a message that waits not go. Raises MessageNotFound, NotCancellable."""
    row = await _row(session, contact_id, message_id, "FOR UPDATE OF m")
    if row["status"] == "cancelled":
        return
    if row["status"] != "queued":
        raise NotCancellable(
            f"It is {row['status']}: only what is queued can be called back.", message_status=row["status"]
        )
    await session.execute(
        """
        UPDATE outbound_messages SET status = 'cancelled', error = NULL, updated_at = $3
        WHERE contact_id = $1 AND id = $2
        """,
        row["contact_id"], message_id, now,
    )  # fmt: skip
    await changes.apply_all(
        session, changes=[changes.state((row["source"], str(message_id)), "cancelled", occurred_at=now)], now=now
    )


async def resend(
    session: Session, *, contact_id: UUID, message_id: UUID, house: House, by: str,
    once: idempotency.Request | None = None, now: datetime,
) -> OutboundMessage:  # fmt: skip
    """Send anew what failed, or what nobody knows of whether it went: another message with the same content.

    Once for each. Raises MessageNotFound, NotResendable, and all that `send` raises.
    """
    await contacts.lock(session, contact_id=contact_id)
    before = view(await _row(session, contact_id, message_id, "FOR UPDATE OF m"))
    if before.status not in {"failed", "unknown"}:
        raise NotResendable(f"It is {before.status}.", message_status=before.status)
    draft = Draft(
        text=before.text, subject=before.subject, provider_template=before.provider_template, channel=before.channel,
        account_id=before.channel_account_id, identity=before.identity, purpose=before.purpose,
        case_id=before.case_id, human=before.human,
    )  # fmt: skip
    message, is_new = await send(
        session, contact_id=contact_id, draft=draft, house=house, by=by, natural_key=f"resend:{message_id}",
        resend_of=message_id, once=once, now=now,
    )  # fmt: skip
    if not is_new:
        raise NotResendable("It was sent anew already.", message_id=str(message.id))
    return message


def view(row: Record) -> OutboundMessage:
    """The message in a row of `SELECTED`."""
    values = {name: row[name] for name in OutboundMessage.__slots__ if name in row}
    look = changes.read(row["changes"])
    own: OwnStatus = row["status"]
    status: Any = own if own in {"queued", "sending", "cancelled"} else look.state or own
    told = look.error or {}
    error: Any = row["error"]
    if status == "failed" and error is None:
        detail = told.get("details") or told.get("message") or told.get("title") or "Its provider says so."
        error = {"code": told.get("code") or "failed", "detail": str(detail)}
    elif status in {"sent", "delivered", "read"}:
        error = None
    return OutboundMessage(**{
        **values, "channel_account_id": row["account_id"], "text": row["body"], "status": status,
        "provider_template": _converted(row["provider_template"], ProviderTemplate),
        "identity": reached(row["identity"]), "sent_to": reached(row["sent_to"]),
        "error": _converted(error, MessageReason),
    })  # fmt: skip


def reached(stored: Any) -> Reached | None:
    """The address in a column of `outbound_messages`."""
    return _converted(stored, Reached)  # type: ignore[no-any-return]


def address_of(of: Reached | None, *, region: str) -> Address | None:
    """The address in canonical form. Raises InvalidIdentity."""
    if of is None:
        return None
    return addresses.address(kind=of.kind, value=of.value, account=of.account, region=region)


def _check(draft: Draft, route: Route) -> None:
    if draft.text is None and draft.provider_template is None:
        raise NothingToSay("Give a text, or a template.", errors=[FieldError("/text", "missing", "is missing")])
    if draft.text is None and not route.takes_templates:
        raise NothingToSay(
            f"{route.channel} has no templates of its provider: give a text.",
            errors=[FieldError("/text", "missing", "is missing")],
        )
    most = TEXT_MAX.get(route.channel)
    if most is not None and draft.text is not None and len(draft.text) > most:
        raise TextTooLong(
            f"On {route.channel} a text has at most {most} characters; this one has {len(draft.text)}.",
            errors=[FieldError("/text", TextTooLong.code, f"has more than {most} characters")],
        )


async def judge(
    session: Session, *, contact_id: UUID, draft: Draft, route: Route, house: House, at: datetime, now: datetime
) -> Cleared | Postponed:
    """What holds of a message that has its words, as far as it is known before it goes.

    Raises NothingToSay, TextTooLong, InvalidIdentity, MayNotSend.
    """
    _check(draft, route)
    wish = Wish(
        contact_id=contact_id, account_id=route.account.id, ref=route.account.ref, channel=route.channel,
        purpose=draft.purpose, wanted=address_of(draft.identity, region=house.region),
        templated=draft.provider_template is not None, human=draft.human,
    )  # fmt: skip
    [verdict] = await clearance.judge(session, wishes=[wish], house=house, at=at)
    # Until then they may write once more.
    if isinstance(verdict, clearance.WindowClosed) and at > now:
        return Postponed(clearance.SEND_AT, at)
    if isinstance(verdict, CrmError):
        raise verdict
    return verdict


async def _template(session: Session, draft: Draft) -> MessageTemplate | None:
    if draft.template_id is None:
        return None
    try:
        return await templates.get(session, template_id=draft.template_id)
    except TemplateNotFound as error:
        raise routing.unknown("template_id", error.detail) from error


async def _thread(
    session: Session, contact_id: UUID, message_id: UUID, draft: Draft, route: Route, house: House, now: datetime
) -> UUID:
    if draft.thread_id is not None:
        await threads.join(session, contact_id=contact_id, thread_id=draft.thread_id, at=now)
        return draft.thread_id
    said = Said(
        contact_id=contact_id, account_id=route.account.id, channel=route.channel, occurred_at=now, inbound=False,
        hint=route.hint(str(message_id)), gap=route.account.thread_gap(house.gap),
    )  # fmt: skip
    return (await threads.assign(session, said=[said]))[0][0]


def _report(message: OutboundMessage, pair: tuple[str, str]) -> Report:
    facts = {
        "account_id": message.channel_account_id, "purpose": message.purpose, "template_id": message.template_id,
        "provider_template": message.provider_template, "resend_of": message.resend_of,
    }  # fmt: skip
    return Report(
        id=message.id, channel=message.channel, kind=KIND, direction="outbound", occurred_at=message.created_at,
        subject=message.subject, body=message.text, data=heard.data(facts), source=pair[0], external_id=pair[1],
        thread_id=message.thread_id, case_id=message.case_id,
    )  # fmt: skip


async def _by_key(session: Session, contact_id: UUID, natural_key: str) -> OutboundMessage | None:
    row = await session.fetchrow(
        f"""
        SELECT {SELECTED} FROM {JOINED}
        WHERE m.contact_id IN (SELECT who.id FROM {aliases.known_as("$1::uuid")} who) AND m.natural_key = $2 LIMIT 1
        """,
        contact_id, natural_key,
    )  # fmt: skip
    return None if row is None else view(row)


async def _row(session: Session, contact_id: UUID, message_id: UUID, lock: str = "") -> Record:
    row = await session.fetchrow(
        f"""
        SELECT {SELECTED}, i.source FROM {JOINED}
        WHERE m.id = $2 AND m.contact_id IN (SELECT who.id FROM {aliases.known_as("$1::uuid")} who) {lock}
        """,
        contact_id, message_id,
    )  # fmt: skip
    if row is None:
        raise MessageNotFound("No message to this contact has this id.")
    return row


def _converted(stored: Any, kind: Any) -> Any:
    return None if stored is None else msgspec.convert(stored, kind)
