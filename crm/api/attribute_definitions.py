"""`/v1/attribute-definitions`: what attributes of contacts mean."""

import re
from datetime import datetime
from typing import Annotated, Any, Final

from litestar.params import FromPath
from pydantic import AfterValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from crm.api import paging
from crm.api.paging import Cursor, Limit, Page
from crm.api.routes import delete, get, patch, post
from crm.api.schemas import Body, Currency, Line, Patch, Text
from crm.contacts import attributes, definitions
from crm.contacts.attribute_types import Kind
from crm.contacts.attributes import TEXT_LENGTH_MAX
from crm.contacts.definitions import (
    OPTIONS_MAX,
    AttributeDefined,
    AttributeDefinition,
    AttributeDefinitionNotFound,
    InvalidDefinition,
    TooManyDefinitions,
    ValuesDoNotFit,
)
from crm.db import idempotency
from crm.db.session import Session

LABELS_MAX: Final = 50
_LANGUAGE: Final = re.compile(r"[a-z]{2,3}(-[A-Z]{2})?\Z", re.ASCII)


def _name(value: str) -> str:
    if not attributes.is_name(value):
        raise PydanticCustomError("attribute_name", "must be a letter, then up to 62 letters, digits, _ . -")
    return value


def _languages(value: dict[str, Any]) -> dict[str, Any]:
    if any(not _LANGUAGE.match(language) for language in value):
        raise PydanticCustomError("language", 'the names are languages, such as "id" or "en-GB"')
    return value


def _labels_schema(label: dict[str, Any]) -> WithJsonSchema:
    return WithJsonSchema(
        {
            "type": "object",
            "maxProperties": LABELS_MAX,
            "propertyNames": {"pattern": "^[a-z]{2,3}(-[A-Z]{2})?$"},
            "additionalProperties": label,
        }
    )


_LABEL: Final = {"type": "string", "minLength": 1, "maxLength": 200, "pattern": r"[^\s\x1c-\x1f\x85]"}
Name = Annotated[str, AfterValidator(_name), WithJsonSchema({"type": "string", "pattern": r"^[^\W\d][\w.-]{0,62}$"})]
Labels = Annotated[dict[str, Line], Field(max_length=LABELS_MAX), AfterValidator(_languages), _labels_schema(_LABEL)]
ChangedLabels = Annotated[
    dict[str, Line | None],
    Field(max_length=LABELS_MAX),
    AfterValidator(_languages),
    _labels_schema({"anyOf": [_LABEL, {"type": "null"}]}),
]
Option = Annotated[Line, Field(max_length=TEXT_LENGTH_MAX)]
Options = Annotated[
    list[Option],
    Field(min_length=1, max_length=OPTIONS_MAX, description="Those of a choice; for a list, what its items may be."),
]
_CURRENCY: Final = Field(description="That of money, and of nothing else.")


class NewAttributeDefinition(Body):
    """What an attribute means. `labels` are its names by language, such as `{"id": "Toko favorit"}`."""

    name: Name
    type: Kind
    labels: Annotated[Labels, Field(default_factory=dict)]
    description: Annotated[Text, Field(max_length=1_000)] | None = None
    options: Options | None = None
    currency: Annotated[Currency, _CURRENCY] | None = None


class AttributeDefinitionPatch(Patch):
    """What can change; `labels` are merged language by language."""

    type: Kind | None = None
    labels: ChangedLabels | None = None
    description: Annotated[Text, Field(max_length=1_000)] | None = None
    options: Options | None = None
    currency: Annotated[Currency, _CURRENCY] | None = None

    not_nullable = frozenset({"type"})

    def changes(self) -> dict[str, Any]:
        """What is given, null included."""
        return {name: getattr(self, name) for name in self.model_fields_set}


@post(
    "/attribute-definitions",
    scopes={"contacts:write"},
    problems=(InvalidDefinition, AttributeDefined, TooManyDefinitions, ValuesDoNotFit),
)
async def define_attribute(
    session: Session, data: NewAttributeDefinition, now: datetime, once: idempotency.Request | None
) -> AttributeDefinition:
    """Define an attribute.

    From then on values are checked when contacts are written, and conditions have the operators of its type. It is
    refused where contacts have other values; attributes without a definition stay free.
    """
    return await definitions.create(
        session, name=data.name, type=data.type, labels=data.labels, description=data.description,
        options=data.options, currency=data.currency, once=once, now=now,
    )  # fmt: skip


@get("/attribute-definitions", scopes={"contacts:read"})
async def list_attribute_definitions(
    session: Session, cursor: Cursor = None, limit: Limit = 50
) -> Page[AttributeDefinition]:
    """List the attributes that are defined, by name."""
    after = paging.decode(cursor, str)
    found = await definitions.page(session, after=after[0] if after else None, limit=limit + 1)
    return paging.page_of(found, limit=limit, key=lambda definition: (definition.name,))


@get("/attribute-definitions/{name:str}", scopes={"contacts:read"}, problems=(AttributeDefinitionNotFound,))
async def get_attribute_definition(session: Session, name: FromPath[str]) -> AttributeDefinition:
    """Read the definition of an attribute."""
    return await definitions.get(session, name=name)


@patch(
    "/attribute-definitions/{name:str}",
    scopes={"contacts:write"},
    problems=(AttributeDefinitionNotFound, InvalidDefinition, ValuesDoNotFit),
)
async def change_attribute_definition(
    session: Session, name: FromPath[str], data: AttributeDefinitionPatch, now: datetime
) -> AttributeDefinition:
    """Change the definition of an attribute, by a JSON merge patch.

    Another type, other options or another currency are refused where contacts have values that don't fit. Conditions
    that are kept go on to read the attribute as they did.
    """
    return await definitions.change(session, name=name, changes=data.changes(), now=now)


@delete("/attribute-definitions/{name:str}", scopes={"contacts:write"}, problems=(AttributeDefinitionNotFound,))
async def delete_attribute_definition(session: Session, name: FromPath[str]) -> None:
    """End the definition of an attribute; its values stay, and are free."""
    await definitions.delete(session, name=name)


handlers = [
    define_attribute, list_attribute_definitions, get_attribute_definition, change_attribute_definition,
    delete_attribute_definition,
]  # fmt: skip
