"""`/v1/contacts/{contact_id}/messages`: what is sent to somebody, and what became of it."""

import unicodedata
from datetime import datetime
from typing import Annotated
from uuid import UUID

from litestar import Response
from litestar.params import FromPath, QueryParameter
from pydantic import Field, PlainValidator, StringConstraints, WithJsonSchema
from pydantic_core import PydanticCustomError

from crm.api import paging
from crm.api.paging import Cursor, Limit, Page
from crm.api.routes import ContactId, delete, get, post
from crm.api.schemas import Body, Code, Instant, Line, Reference, Text
from crm.contacts.addresses import LENGTH_MAX, InvalidIdentity
from crm.contacts.consents import NAME, SERVICE, UnspecificMessage
from crm.contacts.contacts import ContactNotFound
from crm.db import idempotency
from crm.db.session import Session
from crm.inbox import outbound
from crm.inbox.clearance import ConsentDenied, ConsentMissing, NoAddress, WindowClosed
from crm.inbox.house import House
from crm.inbox.outbound import (
    Draft,
    MessageNotFound,
    NotCancellable,
    NothingToSay,
    NotResendable,
    OpenStatus,
    OutboundMessage,
    OwnStatus,
    Reached,
    TextTooLong,
)
from crm.inbox.routing import ChannelCannotSend, NoChannelAccount, UnknownReference
from crm.inbox.templates import TemplateOfOtherChannels, UnknownVariable
from crm.inbox.wording import TemplateNotFilled
from crm.interactions.channels.outgoing import AccountIncomplete, ProviderTemplate
from crm.interactions.timeline import CHANNELS
from crm.loyalty.books import POINTS_MAX

PARAMETERS_MAX = 20
VALUE_MAX = 2_000
_REFUSALS = (
    ContactNotFound, UnknownReference, NoChannelAccount, ChannelCannotSend, AccountIncomplete,
    InvalidIdentity, TemplateOfOtherChannels, UnknownVariable, TemplateNotFilled, NothingToSay,
    TextTooLong, UnspecificMessage, ConsentDenied, ConsentMissing, NoAddress, WindowClosed,
)  # fmt: skip
ChannelName = Annotated[str, StringConstraints(pattern=rf"^{NAME}$")]
Purpose = Annotated[str, StringConstraints(pattern=rf"^{NAME}$")]
TemplateName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,512}$")]
LanguageCode = Annotated[str, StringConstraints(pattern=r"^[A-Za-z]{2,3}([_-][A-Za-z0-9]{2,8}){0,3}$", max_length=35)]
_VariableName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]


def _value(value: object) -> object:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str) and len(value) <= VALUE_MAX and "\x00" not in value:
        return unicodedata.normalize("NFC", value)
    if isinstance(value, int) and abs(value) <= POINTS_MAX:
        return value
    raise PydanticCustomError("variable", "must be a text of at most 2,000 characters, a whole number, true or false")


# By one function: of several types, an error would name each by its inside.
_VariableValue = Annotated[
    str | int | bool,
    PlainValidator(_value),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "maxLength": VALUE_MAX, "pattern": r"^[^\x00]*$"},
                {"type": "integer", "minimum": -POINTS_MAX, "maximum": POINTS_MAX},
                {"type": "boolean"},
            ]
        }
    ),
]
Variables = Annotated[
    dict[_VariableName, _VariableValue], Field(max_length=50, json_schema_extra={"additionalProperties": False})
]
"""What is given for the variables of a template."""
_StatusFilter = Annotated[
    OwnStatus | None,
    QueryParameter(name="status", description="Only those with which we are this far; `sent` is all that went."),
]


class SentTo(Body):
    """An address of the contact to go to, in whatever form it is typed."""

    kind: Code
    value: Annotated[Reference, Field(max_length=LENGTH_MAX)]
    account: Annotated[str, StringConstraints(max_length=100)] = ""


class ApprovedTemplate(Body):
    """A text that the provider has approved, by its name there, and what stands in its places, in their order."""

    name: TemplateName
    language: LanguageCode
    parameters: list[Annotated[Text, Field(min_length=1, max_length=1_024)]] = Field(
        default=[], max_length=PARAMETERS_MAX
    )

    def template(self) -> ProviderTemplate:
        """It, as it is sent."""
        return ProviderTemplate(name=self.name, language=self.language, parameters=tuple(self.parameters))


class NewMessage(Body):
    """What is to be sent, and where: by default on the channel account on which there was talk last, or the only one.

    `purpose` says what for; all but `service` need a consent, and wait while it is quiet for whoever it goes to. With
    `human` a person wrote it: it ends the clock of the case, and some channels leave more time.
    """

    channel: Annotated[ChannelName, Field(description=f"Such as {', '.join(CHANNELS[:5])}.")] | None = None
    channel_account_id: UUID | None = None
    text: Annotated[Text, Field(min_length=1)] | None = None
    subject: Annotated[Line, Field(description="Of a mail.")] | None = None
    template_id: UUID | None = None
    variables: Variables = Field(default={})
    provider_template: ApprovedTemplate | None = None
    purpose: Purpose = SERVICE
    identity: SentTo | None = None
    send_at: Instant | None = None
    thread_id: UUID | None = None
    case_id: UUID | None = None
    human: bool = False

    def draft(self) -> Draft:
        """What is asked for."""
        to = self.identity
        return Draft(
            text=self.text, subject=self.subject, template_id=self.template_id, variables=self.variables,
            provider_template=None if self.provider_template is None else self.provider_template.template(),
            channel=self.channel, account_id=self.channel_account_id,
            identity=None if to is None else Reached(to.kind, to.value, to.account), purpose=self.purpose,
            send_at=self.send_at, thread_id=self.thread_id, case_id=self.case_id, human=self.human,
        )  # fmt: skip


class NewResend(Body):
    """Nothing has to be said."""


@post("/contacts/{contact_id:uuid}/messages", scopes={"interactions:write"}, problems=_REFUSALS, headers=("Location",))
async def send_message(
    session: Session, contact_id: FromPath[ContactId], data: NewMessage, house: House, by: str, now: datetime,
    once: idempotency.Request | None,
) -> Response[OutboundMessage]:  # fmt: skip
    """Send a message to a contact.

    It is queued, stands on the timeline, and goes within a moment, at `send_at`, or when it is no longer quiet. What
    may not go is refused with the reason; whether it may is asked once more when it goes.
    """
    await idempotency.begin(session, request=once)
    message, _ = await outbound.send(
        session, contact_id=contact_id, draft=data.draft(), house=house, by=by, once=once, now=now
    )
    return _located(message)


@get("/contacts/{contact_id:uuid}/messages", scopes={"interactions:read"}, problems=(ContactNotFound,))
async def list_messages_of_contact(
    session: Session, contact_id: FromPath[ContactId], status: _StatusFilter = None, cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[OutboundMessage]:  # fmt: skip
    """List messages to a contact, newest first."""
    before = paging.decode(cursor, UUID)
    found = await outbound.page(
        session, contact_id=contact_id, status=status, before=before[0] if before else None, limit=limit + 1
    )
    return paging.page_of(found, limit=limit, key=lambda message: (message.id,))


@get("/messages", scopes={"interactions:read"})
async def list_messages(
    session: Session,
    status: Annotated[OpenStatus, QueryParameter(description="How far we are with them.")] = "unknown",
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[OutboundMessage]:
    """List messages to anybody that did not go, newest first.

    By default those of which nobody knows whether they went.
    """
    before = paging.decode(cursor, UUID)
    found = await outbound.page_of_all(session, status=status, before=before[0] if before else None, limit=limit + 1)
    return paging.page_of(found, limit=limit, key=lambda message: (message.id,))


@get(
    "/contacts/{contact_id:uuid}/messages/{message_id:uuid}", scopes={"interactions:read"}, problems=(MessageNotFound,)
)
async def get_message(session: Session, contact_id: FromPath[ContactId], message_id: FromPath[UUID]) -> OutboundMessage:
    """Read a message to a contact."""
    return await outbound.get(session, contact_id=contact_id, message_id=message_id)


@delete(
    "/contacts/{contact_id:uuid}/messages/{message_id:uuid}",
    scopes={"interactions:write"},
    problems=(MessageNotFound, NotCancellable),
)
async def cancel_message(
    session: Session, contact_id: FromPath[ContactId], message_id: FromPath[UUID], now: datetime
) -> None:
    """Cancel a message.

    As long as it is queued; it stays on the timeline as cancelled.
    """
    await outbound.cancel(session, contact_id=contact_id, message_id=message_id, now=now)


@post(
    "/contacts/{contact_id:uuid}/messages/{message_id:uuid}/resends",
    scopes={"interactions:write"},
    problems=(MessageNotFound, NotResendable, *_REFUSALS),
    headers=("Location",),
)
async def resend_message(
    session: Session, contact_id: FromPath[ContactId], message_id: FromPath[UUID], data: NewResend, house: House,
    by: str, now: datetime, once: idempotency.Request | None,
) -> Response[OutboundMessage]:  # fmt: skip
    """Send a message anew.

    One that failed, or of which nobody knows whether it went: somebody who has looked decides that. It is another
    message with the same content, and there can be one.
    """
    await idempotency.begin(session, request=once)
    return _located(
        await outbound.resend(
            session, contact_id=contact_id, message_id=message_id, house=house, by=by, once=once, now=now
        )
    )


def _located(message: OutboundMessage) -> Response[OutboundMessage]:
    path = f"/v1/contacts/{message.contact_id}/messages/{message.id}"
    return Response(message, headers={"Location": path})


handlers = [
    send_message, list_messages_of_contact, list_messages, get_message, cancel_message, resend_message,
]  # fmt: skip
