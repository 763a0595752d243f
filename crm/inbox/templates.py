"""Templates of messages: a text in several languages, and by what name a provider has approved it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec
from asyncpg import Record
from sqlalchemy import BigInteger, Column, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from crm.contacts import contacts
from crm.contacts.contacts import Contact
from crm.db import idempotency
from crm.db.ids import uuid7
from crm.db.session import Session
from crm.db.tables import Instant, metadata
from crm.errors import Conflict, FieldError, Invalid, NotFound, Stale
from crm.inbox import personalization, wording
from crm.inbox.wording import InvalidTemplate
from crm.interactions.channels.outgoing import ProviderTemplate

message_templates = Table(
    "message_templates",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("channels", ARRAY(Text), nullable=False),
    Column("variables", ARRAY(Text), nullable=False),
    Column("variants", JSONB, nullable=False),
    Column("provider_template", JSONB),
    Column("version", BigInteger, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("updated_at", Instant, nullable=False),
)

LANGUAGE: Final = "id"
"""The language of those of whom none is known."""
_COLUMNS: Final = tuple(column.name for column in message_templates.columns)
_SELECTED: Final = ", ".join(_COLUMNS)


class TemplateNotFound(NotFound):
    code = "message_template_not_found"
    title = "There is no such message template"


class TemplateExists(Conflict):
    code = "message_template_exists"
    title = "There is a message template of this name already"


class StaleTemplate(Stale):
    title = "The message template has changed since you read it"


class TemplateOfOtherChannels(Invalid):
    code = "template_of_other_channels"
    title = "This template is for other channels"


class UnknownVariable(Invalid):
    code = "unknown_variable"
    title = "The template does not ask for this"


@dataclass(frozen=True, slots=True)
class Variant:
    """A text in one language; the subject is for mail."""

    text: str
    subject: str | None = None


@dataclass(frozen=True, slots=True)
class ApprovedText:
    """What a provider has approved under a name: its code of each language, and what stands in its places, in order."""

    name: str
    languages: dict[str, str]
    parameters: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateDraft:
    """A template as somebody writes it; without `channels` it is for all."""

    name: str
    channels: list[str] = field(default_factory=list)
    variables: list[str] = field(default_factory=list)
    variants: dict[str, Variant] = field(default_factory=dict)
    provider_template: ApprovedText | None = None


@dataclass(slots=True)
class MessageTemplate:
    """A template as it is kept. `variants` are by language; `variables` are what has to be given with each message."""

    id: UUID
    name: str
    channels: list[str]
    variables: list[str]
    variants: dict[str, Variant]
    provider_template: ApprovedText | None
    version: int
    created_at: datetime
    created_by: str
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Filled:
    """A template filled in for somebody, in their language or the next best."""

    language: str
    text: str | None
    subject: str | None
    provider_template: ProviderTemplate | None


async def create(
    session: Session, *, draft: TemplateDraft, by: str, once: idempotency.Request | None = None, now: datetime
) -> MessageTemplate:
    """Keep a template. Raises InvalidTemplate, TemplateExists."""
    _check(draft)
    row = await session.fetchrow(
        f"""
        INSERT INTO message_templates ({_SELECTED}) VALUES ($1, $2, $3, $4, $5, $6, 1, $7, $8, $7)
        ON CONFLICT (name) DO NOTHING RETURNING {_SELECTED}
        """,
        uuid7(), *_stored(draft), now, by,
    )  # fmt: skip
    if row is None:
        raise TemplateExists(f"Change the template '{draft.name}' that is there.")
    template = _view(row)
    await idempotency.keep(session, request=once, contact_id=None, result=template, now=now)
    return template


async def change(
    session: Session, *, template_id: UUID, patch: Mapping[str, Any], version: int | None = None, now: datetime
) -> MessageTemplate:
    """Apply a merge patch. Raises TemplateNotFound, StaleTemplate, InvalidTemplate, TemplateExists."""
    before = _view(
        await session.fetchrow(f"SELECT {_SELECTED} FROM message_templates WHERE id = $1 FOR UPDATE", template_id)
    )
    if version is not None and version != before.version:
        raise StaleTemplate("Read it again, and send the new ETag in If-Match.", version=before.version)
    kept = {name: value for name, value in asdict(before).items() if name in TemplateDraft.__dataclass_fields__}
    draft = _draft(_merged(kept, patch))
    _check(draft)
    if await session.fetchval(
        "SELECT true FROM message_templates WHERE name = $1 AND id <> $2", draft.name, template_id
    ):
        raise TemplateExists(f"Another template is called '{draft.name}'.")
    row = await session.fetchrow(
        f"""
        UPDATE message_templates SET name = $2, channels = $3, variables = $4, variants = $5, provider_template = $6,
            version = version + 1, updated_at = $7
        WHERE id = $1 RETURNING {_SELECTED}
        """,
        template_id, *_stored(draft), now,
    )  # fmt: skip
    return _view(row)


async def delete(session: Session, *, template_id: UUID) -> None:
    """Forget a template; what was made of it stays. Raises TemplateNotFound."""
    if not await session.execute("DELETE FROM message_templates WHERE id = $1", template_id):
        raise _not_found()


async def get(session: Session, *, template_id: UUID) -> MessageTemplate:
    """One template. Raises TemplateNotFound."""
    return _view(await session.fetchrow(f"SELECT {_SELECTED} FROM message_templates WHERE id = $1", template_id))


async def page(session: Session, *, before: UUID | None, limit: int) -> list[MessageTemplate]:
    """Templates, the newest first, older than `before`."""
    rows = await session.fetch(
        f"SELECT {_SELECTED} FROM message_templates WHERE $1::uuid IS NULL OR id < $1 ORDER BY id DESC LIMIT $2",
        before, limit,
    )  # fmt: skip
    return [_view(row) for row in rows]


async def fill(
    session: Session, *, template: MessageTemplate, contact_id: UUID, variables: Mapping[str, Any], now: datetime
) -> Filled:
    """The template for somebody. Raises ContactNotFound, UnknownVariable, TemplateNotFilled."""
    unknown = sorted(set(variables) - set(template.variables))
    if unknown:
        asked = ", ".join(template.variables) or "none"
        raise UnknownVariable(
            f"Its variables are {asked}.",
            errors=[FieldError(f"/variables/{name}", "unknown_variable", "is not one of its own") for name in unknown],
        )
    contact = await contacts.get(session, contact_id=contact_id)
    return await _filled(session, template, contact, variables, now)


def language_of(locale: str | None, there: Sequence[str]) -> str:
    """In which of the languages that are there to speak to somebody of this locale."""
    wanted = (locale or "").replace("_", "-").partition("-")[0].lower()
    return next((each for each in (wanted, LANGUAGE, "en") if each in there), next(iter(there)))


async def _filled(
    session: Session, template: MessageTemplate, contact: Contact, variables: Mapping[str, Any], now: datetime
) -> Filled:
    approved = template.provider_template
    language = language_of(contact.locale, [*template.variants, *(approved.languages if approved else ())])
    variant = template.variants.get(language)
    sources = {}
    if variant is not None:
        sources[f"/variants/{language}/text"] = variant.text
        if variant.subject is not None:
            sources[f"/variants/{language}/subject"] = variant.subject
    places = {}
    if approved is not None and language in approved.languages:
        places = {f"/provider_template/parameters/{place}": one for place, one in enumerate(approved.parameters)}
    known = {
        **await personalization.known(
            session, contact=contact, language=language, asked=wording.asked([*sources.values(), *places.values()]),
            now=now,
        ),
        **variables,
    }  # fmt: skip
    words = {pointer: wording.fill(source, known=known, pointer=pointer) for pointer, source in sources.items()}
    parameters = [wording.fill(source, known=known, pointer=pointer) for pointer, source in places.items()]
    text, subject = (words.get(f"/variants/{language}/{part}") for part in ("text", "subject"))
    provided = None
    if approved is not None and language in approved.languages:
        provided = ProviderTemplate(
            name=approved.name, language=approved.languages[language], parameters=tuple(parameters)
        )
    return Filled(language, text or None, " ".join((subject or "").split()) or None, provided)


def _check(draft: TemplateDraft) -> None:
    approved = draft.provider_template
    if not draft.variants and (approved is None or not approved.languages):
        raise InvalidTemplate(
            "A template has a text in at least one language.",
            errors=[FieldError("/variants", "missing", "is missing")],
        )
    sources = {
        f"/variants/{language}/{part}": source
        for language, variant in draft.variants.items()
        for part, source in (("text", variant.text), ("subject", variant.subject))
        if source is not None
    }
    if approved is not None:
        sources |= {
            f"/provider_template/parameters/{place}": source for place, source in enumerate(approved.parameters)
        }
    taken = sorted(set(draft.variables) & set(wording.KNOWN))
    if taken:
        raise InvalidTemplate(
            f"'{taken[0]}' is a name of ours.", errors=[FieldError("/variables", "reserved", "is a reserved name")]
        )
    wording.check(sources, variables=draft.variables)


def _merged(before: Any, patch: Any) -> Any:
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(before) if isinstance(before, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merged(merged.get(name), value)
    return merged


def _draft(facts: Mapping[str, Any]) -> TemplateDraft:
    try:
        return msgspec.convert(facts, TemplateDraft)
    except msgspec.ValidationError as error:
        # What a patch leaves may lack what it must have, such as a text.
        raise InvalidTemplate(f"The change leaves something incomplete: {error}.") from error


def _stored(draft: TemplateDraft) -> tuple[Any, ...]:
    approved = draft.provider_template
    return (
        draft.name, draft.channels, draft.variables,
        {language: asdict(variant) for language, variant in draft.variants.items()},
        None if approved is None else asdict(approved),
    )  # fmt: skip


def _view(row: Record | None) -> MessageTemplate:
    if row is None:
        raise _not_found()
    return msgspec.convert(dict(row), MessageTemplate)


def _not_found() -> TemplateNotFound:
    return TemplateNotFound("No message template has this id.")
