"""What attributes mean: a type, names in several languages, options. An attribute without a definition is free.

Definitions are few and change seldom. They are read with each write that has attributes, and never kept: another
process may have changed them. What is written from then on must fit.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Column, Table, Text
from sqlalchemy.dialects.postgresql import JSONB

from crm.contacts import attribute_types, attributes
from crm.contacts.attribute_types import Kind
from crm.contacts.attributes import Attribute
from crm.db import idempotency, writes
from crm.db.session import Session
from crm.db.tables import Instant, metadata
from crm.db.writes import Insert, Update
from crm.errors import Conflict, FieldError, Invalid, NotFound

COUNT_MAX: Final = 200
OPTIONS_MAX: Final = 100
_SHOWN_MAX: Final = 5

attribute_definitions = Table(
    "attribute_definitions",
    metadata,
    Column("name", Text, primary_key=True),
    Column("type", Text, nullable=False),
    Column("labels", JSONB, nullable=False),
    Column("description", Text),
    Column("options", JSONB),
    Column("currency", Text),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
)

_COLUMNS: Final = tuple(column.name for column in attribute_definitions.columns)
_SELECTED: Final = ", ".join(_COLUMNS)


class AttributeDefinitionNotFound(NotFound):
    code = "attribute_definition_not_found"
    title = "This attribute is not defined"


class AttributeDefined(Conflict):
    code = "attribute_defined"
    title = "This attribute is defined already"


class TooManyDefinitions(Conflict):
    code = "too_many_definitions"
    title = "There are too many definitions of attributes"


class ValuesDoNotFit(Conflict):
    code = "values_do_not_fit"
    title = "Contacts have other values"


class InvalidDefinition(Invalid):
    title = "An attribute can't be defined so"


@dataclass(frozen=True, slots=True)
class AttributeDefinition:
    """What an attribute of contacts means. `labels` are its names, by language.

    Money is a decimal in a text, in the definition's `currency`; a choice is one of the `options`, and the items of a
    list are where it has some.
    """

    name: str
    type: Kind
    labels: dict[str, str]
    description: str | None
    options: list[str] | None
    currency: str | None
    created_at: datetime
    updated_at: datetime


async def create(
    session: Session,
    *,
    name: str,
    type: Kind,  # noqa: A002 - it is named as the field
    labels: Mapping[str, str],
    description: str | None,
    options: list[str] | None,
    currency: str | None,
    once: idempotency.Request | None,
    now: datetime,
) -> AttributeDefinition:
    """Define an attribute; what contacts have under the name already must fit.

    Raises InvalidDefinition, AttributeDefined, ValuesDoNotFit, TooManyDefinitions.
    """
    await idempotency.begin(session, request=once)
    made = AttributeDefinition(name, type, dict(labels), description, options, currency, now, now)
    _check(made)
    row = await session.fetchrow(
        """
        SELECT (SELECT count(*) FROM attribute_definitions) AS count,
            EXISTS (SELECT FROM attribute_definitions WHERE name = $1) AS is_defined
        """,
        name,
    )
    assert row is not None, "a query without FROM has one row"
    if row["is_defined"]:
        raise AttributeDefined(f"'{name}' has a definition; PATCH it to change it.")
    if row["count"] >= COUNT_MAX:
        raise TooManyDefinitions(f"{COUNT_MAX} attributes can be defined at most.")
    await _check_values(session, made)
    await writes.write(
        session,
        [
            Insert(attribute_definitions, _COLUMNS, [tuple(getattr(made, name) for name in _COLUMNS)]),
            *idempotency.answer(once, contact_id=None, result=made, now=now),
        ],
    )
    return made


async def get(session: Session, *, name: str) -> AttributeDefinition:
    """One definition. Raises AttributeDefinitionNotFound."""
    found = (await read(session, names=[name])).get(name)
    if found is None:
        raise _not_found(name)
    return found


async def read(session: Session, *, names: Collection[str]) -> dict[str, AttributeDefinition]:
    """The definitions of those of these attributes that have one; nothing is asked for no names."""
    if not names:
        return {}
    rows = await session.fetch(
        f"SELECT {_SELECTED} FROM attribute_definitions WHERE name = ANY ($1)",
        # What is no name has no definition, and may hold what Postgres can't.
        [name for name in names if attributes.is_name(name)],
    )
    return {row["name"]: AttributeDefinition(*row) for row in rows}


async def read_all(session: Session) -> dict[str, AttributeDefinition]:
    """All definitions, by name; there are at most `COUNT_MAX`."""
    rows = await session.fetch(f"SELECT {_SELECTED} FROM attribute_definitions")
    return {row["name"]: AttributeDefinition(*row) for row in rows}


async def page(session: Session, *, after: str | None, limit: int) -> list[AttributeDefinition]:
    """Definitions by name, behind `after`."""
    rows = await session.fetch(
        f"""
        SELECT {_SELECTED} FROM attribute_definitions WHERE $1::text IS NULL OR name > $1 ORDER BY name LIMIT $2
        """,
        after, limit,
    )  # fmt: skip
    return [AttributeDefinition(*row) for row in rows]


async def change(session: Session, *, name: str, changes: Mapping[str, Any], now: datetime) -> AttributeDefinition:
    """Apply a JSON merge patch of a definition's fields; what contacts have must fit what it becomes.

    Raises AttributeDefinitionNotFound, InvalidDefinition, ValuesDoNotFit.
    """
    await session.execute("SELECT FROM attribute_definitions WHERE name = $1 FOR UPDATE", name)
    before = await get(session, name=name)
    labels = {**before.labels, **changes["labels"]} if changes.get("labels") is not None else {}
    values = dict(changes)
    if "labels" in changes:
        values["labels"] = {language: label for language, label in labels.items() if label is not None}
    after = replace(before, **values)
    if after == before:
        return before
    _check(after)
    if (after.type, after.options, after.currency) != (before.type, before.options, before.currency):
        await _check_values(session, after, before)
    after = replace(after, updated_at=now)
    await writes.write(
        session, [Update(attribute_definitions, _COLUMNS, [tuple(getattr(after, name) for name in _COLUMNS)], 1)]
    )
    return after


async def delete(session: Session, *, name: str) -> None:
    """End a definition; what contacts have under the name is free again. Raises AttributeDefinitionNotFound."""
    if not await session.execute("DELETE FROM attribute_definitions WHERE name = $1", name):
        raise _not_found(name)


def problems(given: Mapping[str, Attribute | None], defined: Mapping[str, AttributeDefinition]) -> Iterator[FieldError]:
    """What of the attributes that somebody gave does not fit its definition."""
    for name, value in given.items():
        definition = defined.get(name)
        if definition is not None and value is not None:
            for place, message in attribute_types.problems(definition.type, definition.options, value):
                yield FieldError(f"/attributes/{name}{place}", "attribute_value", message)


async def typed(session: Session, document: Any) -> Any:
    """A condition as it is to be kept: each attribute that is defined with the type that it has now, and no other.

    What is kept like that means the same for good, whatever becomes of the definition.
    """
    names = set(_names(document))
    return _typed(document, await read(session, names=names)) if names else document


def _names(document: Any) -> Iterator[str]:
    for part in _parts(document):
        yield from _names(part)
    name = _attribute(document)
    if name is not None:
        yield name


def _typed(document: Any, defined: Mapping[str, AttributeDefinition]) -> Any:
    if isinstance(document, list):
        return [_typed(part, defined) for part in document]
    if not isinstance(document, dict):
        return document
    name = _attribute(document)
    if name is None:
        return {key: _typed(part, defined) if key in _NESTING else part for key, part in document.items()}
    kept = {key: part for key, part in document.items() if key != "type"}
    return {**kept, "type": defined[name].type} if name in defined else kept


def _parts(document: Any) -> Iterator[Any]:
    if isinstance(document, list):
        yield from document
    elif isinstance(document, dict):
        yield from (document[key] for key in _NESTING if key in document)


def _attribute(document: Any) -> str | None:
    field = document.get("field") if isinstance(document, dict) else None
    return field.removeprefix(_ATTRIBUTE) if isinstance(field, str) and field.startswith(_ATTRIBUTE) else None


_ATTRIBUTE: Final = "attributes."
_NESTING: Final = ("all", "any", "not")


def _check(definition: AttributeDefinition) -> None:
    errors = []
    if not attributes.is_name(definition.name):
        errors.append(FieldError("/name", "attribute_name", "is a letter, then up to 62 letters, digits, _ . -"))
    if (definition.type == "money") != (definition.currency is not None):
        errors.append(FieldError("/currency", "currency", "is what money has, and nothing else"))
    if definition.type == "choice" and not definition.options:
        errors.append(FieldError("/options", "options", "a choice needs at least one"))
    if definition.type not in ("choice", "list") and definition.options is not None:
        errors.append(FieldError("/options", "options", "only a choice or a list has some"))
    if definition.options is not None and len(set(definition.options)) < len(definition.options):
        errors.append(FieldError("/options", "options", "must differ from each other"))
    if errors:
        raise InvalidDefinition("`errors` says which fields don't go together.", errors=errors)


async def _check_values(
    session: Session, after: AttributeDefinition, before: AttributeDefinition | None = None
) -> None:
    # An amount is no less wrong in another currency for having its form.
    revalued = before is not None and before.currency != after.currency and after.type == before.type
    fits = attribute_types.fits(after.type, value="c.attributes -> $1", options="$2::text[]")
    rows = await session.fetch(
        f"""
        SELECT c.id FROM contacts c WHERE c.attributes ? $1::text AND ($3 OR NOT coalesce({fits}, false)) LIMIT $4
        """,
        after.name, after.options, revalued, _SHOWN_MAX,
    )  # fmt: skip
    if rows:
        raise ValuesDoNotFit(
            f"Some contacts have another kind of '{after.name}'. Change it there first; `contact_ids` are a few.",
            contact_ids=[str(row["id"]) for row in rows],
        )


def _not_found(name: str) -> AttributeDefinitionNotFound:
    return AttributeDefinitionNotFound(f"'{name}' has no definition; contacts may have it all the same.")
