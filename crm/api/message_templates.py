"""`/v1/message-templates`: texts in several languages, with places that are filled in for whoever they go to."""

from datetime import datetime
from typing import Annotated, ClassVar, Final
from uuid import UUID

from litestar import Response
from litestar.params import FromPath
from pydantic import Field, StringConstraints
from pydantic.config import JsonDict

from crm.api import paging
from crm.api.etags import IfMatch, etag, version_of
from crm.api.messages import PARAMETERS_MAX, ChannelName, LanguageCode, Purpose, TemplateName, Variables
from crm.api.paging import Cursor, Limit, Page
from crm.api.routes import delete, get, patch, post
from crm.api.schemas import Body, Line, Patch, Text
from crm.contacts.consents import SERVICE
from crm.db import idempotency
from crm.db.session import Session
from crm.inbox import previews, templates
from crm.inbox.house import House
from crm.inbox.outbound import Draft
from crm.inbox.previews import MessagePreview
from crm.inbox.routing import UnknownReference
from crm.inbox.templates import (
    ApprovedText,
    MessageTemplate,
    TemplateDraft,
    TemplateExists,
    TemplateNotFound,
    UnknownVariable,
    Variant,
)
from crm.inbox.wording import SOURCE_MAX, InvalidTemplate, TemplateNotFilled

LANGUAGES_MAX: Final = 20
VARIABLES_MAX: Final = 50
_ONLY_THESE: Final[JsonDict] = {"additionalProperties": False}
"""No names but those of the pattern, which alone would allow any."""
Language = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}$")]
Source = Annotated[Text, Field(min_length=1, max_length=SOURCE_MAX)]
VariableName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
_Channels = Annotated[list[ChannelName], Field(max_length=20, description="For which it is; without any, for all.")]
_Declared = Annotated[
    list[VariableName], Field(max_length=VARIABLES_MAX, description="What is given with each message made of it.")
]
_Parameters = Annotated[list[Source], Field(max_length=PARAMETERS_MAX)]
_Languages = Annotated[dict[Language, LanguageCode], Field(max_length=LANGUAGES_MAX, json_schema_extra=_ONLY_THESE)]


class NewVariant(Body):
    """A text in one language, in Liquid: `{{ contact.greeting }}`, `{{ loyalty.points }}`, `{{ order_ref }}`."""

    text: Source
    subject: Annotated[Text, Field(min_length=1, max_length=1_000)] | None = None


class NewApprovedText(Body):
    """The name of a text that the provider has approved, its code of each language, and what stands in its places."""

    name: TemplateName
    languages: Annotated[_Languages, Field(min_length=1)]
    parameters: _Parameters = Field(default=[])


class NewMessageTemplate(Body):
    """A template: a text for each language, by which name a provider has approved it, or both."""

    name: Line
    channels: _Channels = Field(default=[])
    variables: _Declared = Field(default=[])
    variants: dict[Language, NewVariant] = Field(default={}, max_length=LANGUAGES_MAX, json_schema_extra=_ONLY_THESE)
    provider_template: NewApprovedText | None = None

    def draft(self) -> TemplateDraft:
        """What is to be kept."""
        approved = self.provider_template
        return TemplateDraft(
            name=self.name, channels=self.channels, variables=self.variables,
            variants={language: Variant(one.text, one.subject) for language, one in self.variants.items()},
            provider_template=None
            if approved is None
            else ApprovedText(approved.name, dict(approved.languages), approved.parameters),
        )  # fmt: skip


class VariantPatch(Patch):
    """What shall change of a text."""

    not_nullable: ClassVar[frozenset[str]] = frozenset({"text"})

    text: Source | None = None
    subject: Annotated[Text, Field(min_length=1, max_length=1_000)] | None = None


class ApprovedTextPatch(Patch):
    """What shall change of what the provider has approved."""

    not_nullable: ClassVar[frozenset[str]] = frozenset({"name", "languages", "parameters"})

    name: TemplateName | None = None
    languages: (
        Annotated[dict[Language, LanguageCode | None], Field(max_length=LANGUAGES_MAX, json_schema_extra=_ONLY_THESE)]
        | None
    ) = None
    parameters: _Parameters | None = None


class MessageTemplatePatch(Patch):
    """What shall change of a template; of `variants` language by language, null removes one."""

    not_nullable: ClassVar[frozenset[str]] = frozenset({"name", "channels", "variables", "variants"})

    name: Line | None = None
    channels: _Channels | None = None
    variables: _Declared | None = None
    variants: (
        Annotated[dict[Language, VariantPatch | None], Field(max_length=LANGUAGES_MAX, json_schema_extra=_ONLY_THESE)]
        | None
    ) = None
    provider_template: ApprovedTextPatch | None = None


class NewMessagePreview(Body):
    """For whom it is filled in, and how it would be sent."""

    contact_id: UUID
    variables: Variables = Field(default={})
    channel: ChannelName | None = None
    channel_account_id: UUID | None = None
    purpose: Purpose = SERVICE


@post(
    "/message-templates", scopes={"channels:write"}, problems=(InvalidTemplate, TemplateExists),
    headers=("ETag", "Location"),
)  # fmt: skip
async def create_message_template(
    session: Session, data: NewMessageTemplate, by: str, now: datetime, once: idempotency.Request | None
) -> Response[MessageTemplate]:
    """Create a message template.

    Whether it can be understood, and asks only for what there is, is checked here.
    """
    await idempotency.begin(session, request=once)
    template = await templates.create(session, draft=data.draft(), by=by, once=once, now=now)
    headers = etag(template.version) | {"Location": f"/v1/message-templates/{template.id}"}
    return Response(template, headers=headers)


@get("/message-templates", scopes={"channels:read"})
async def list_message_templates(session: Session, cursor: Cursor = None, limit: Limit = 50) -> Page[MessageTemplate]:
    """List message templates, newest first."""
    before = paging.decode(cursor, UUID)
    found = await templates.page(session, before=before[0] if before else None, limit=limit + 1)
    return paging.page_of(found, limit=limit, key=lambda template: (template.id,))


@get("/message-templates/{template_id:uuid}", scopes={"channels:read"}, problems=(TemplateNotFound,), headers=("ETag",))
async def get_message_template(session: Session, template_id: FromPath[UUID]) -> Response[MessageTemplate]:
    """Read a message template."""
    template = await templates.get(session, template_id=template_id)
    return Response(template, headers=etag(template.version))


@patch(
    "/message-templates/{template_id:uuid}",
    scopes={"channels:write"},
    problems=(TemplateNotFound, InvalidTemplate, TemplateExists),
    headers=("ETag",),
)
async def change_message_template(
    session: Session, template_id: FromPath[UUID], data: MessageTemplatePatch, now: datetime, if_match: IfMatch = None
) -> Response[MessageTemplate]:
    """Change a message template, for messages made of it from now on."""
    template = await templates.change(
        session, template_id=template_id, patch=data.model_dump(exclude_unset=True), version=version_of(if_match),
        now=now,
    )  # fmt: skip
    return Response(template, headers=etag(template.version))


@delete("/message-templates/{template_id:uuid}", scopes={"channels:write"}, problems=(TemplateNotFound,))
async def delete_message_template(session: Session, template_id: FromPath[UUID]) -> None:
    """Delete a message template; what was made of it stays."""
    await templates.delete(session, template_id=template_id)


@post(
    "/message-templates/{template_id:uuid}/previews",
    scopes={"channels:read", "contacts:read", "loyalty:read"},
    problems=(TemplateNotFound, UnknownReference, UnknownVariable, TemplateNotFilled),
    status_code=200,
)
async def preview_message_template(
    session: Session, template_id: FromPath[UUID], data: NewMessagePreview, house: House, now: datetime
) -> MessagePreview:
    """Fill a message template in for a contact.

    Nothing is sent or kept. The answer says what the message would be, and what its channel would not take.
    """
    draft = Draft(
        template_id=template_id, channel=data.channel, account_id=data.channel_account_id, purpose=data.purpose
    )
    return await previews.preview(
        session, template_id=template_id, contact_id=data.contact_id, variables=data.variables, draft=draft,
        house=house, now=now,
    )  # fmt: skip


handlers = [
    create_message_template, list_message_templates, get_message_template, change_message_template,
    delete_message_template, preview_message_template,
]  # fmt: skip
