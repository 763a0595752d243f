"""`/v1/contacts`: who the customers are."""

import re
from collections.abc import Collection, Mapping
from datetime import date, datetime
from pathlib import PurePosixPath
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Response
from litestar.params import FromPath, QueryParameter
from pydantic import BeforeValidator, Field, StringConstraints, WithJsonSchema
from pydantic_core import PydanticCustomError

from crm.api import batches, paging
from crm.api.batches import BatchResult, Judged
from crm.api.etags import IfMatch, etag, version_of
from crm.api.identities import IdentityBody, tail
from crm.api.paging import Cursor, Limit, Page
from crm.api.routes import BATCH_BODY_MAX, AnyRequest, ContactId, delete, get, patch, post, put
from crm.api.schemas import ZONE_SCHEMA, Body, Line, Patch
from crm.contacts import attributes, contacts, definitions, drafts, identities, search, tags
from crm.contacts.addresses import InvalidIdentity
from crm.contacts.contacts import Contact, ContactNotFound
from crm.contacts.definitions import AttributeDefinition
from crm.contacts.drafts import Draft, NewIdentity
from crm.contacts.identities import IdentityTaken
from crm.contacts.tags import InvalidTag
from crm.db import idempotency
from crm.db.session import Session
from crm.errors import CrmError, Invalid
from crm.interactions import admissions, people
from crm.interactions.admissions import Admitted, Newcomer, OnDuplicate, PossibleDuplicate
from crm.interactions.people import HasHistory

BATCH_MAX = 500
_Rank = Annotated[int, msgspec.Meta(ge=0, le=search.RANK_MAX)]
_LOCALE = r"^[A-Za-z]{2,3}([-_][A-Za-z]{4})?([-_]([A-Za-z]{2}|[0-9]{3}))?(-[A-Za-z0-9]{1,8}){0,4}$"
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}\Z", re.ASCII)


def _day(value: Any) -> Any:
    if value is not None and not (isinstance(value, str) and _DAY.match(value)):
        raise PydanticCustomError("date", 'must be a date, such as "1990-03-10"')
    try:
        return value and date.fromisoformat(value)
    except ValueError as error:
        raise PydanticCustomError("date", "there is no such day") from error


Day = Annotated[date | None, BeforeValidator(_day)]
Locale = Annotated[
    str, StringConstraints(max_length=35), Field(json_schema_extra={"pattern": _LOCALE, "examples": ["id-ID"]})
]
Zone = Annotated[str, StringConstraints(max_length=64), ZONE_SCHEMA]
Tag = Annotated[
    str,
    StringConstraints(max_length=200),
    Field(json_schema_extra={"minLength": 1, "maxLength": tags.LENGTH_MAX, "pattern": r"\S"}),
]
Tags = Annotated[list[Tag], Field(max_length=tags.COUNT_MAX)]
_ATTRIBUTE_TEXT = {"type": "string", "maxLength": attributes.TEXT_LENGTH_MAX}
AttributeValues = Annotated[
    dict[str, str | bool | int | float | list[str] | None],
    Field(max_length=attributes.COUNT_MAX),
    WithJsonSchema(
        {
            "type": "object",
            "description": "Null removes one.",
            "maxProperties": attributes.COUNT_MAX,
            "propertyNames": {"pattern": r"^[^\W\d][\w.-]{0,62}$"},
            "additionalProperties": {
                "anyOf": [
                    _ATTRIBUTE_TEXT,
                    {"type": "number", "minimum": -attributes.NUMBER_MAX, "maximum": attributes.NUMBER_MAX},
                    {"type": "array", "items": _ATTRIBUTE_TEXT, "maxItems": attributes.LIST_LENGTH_MAX},
                    {"type": ["boolean", "null"]},
                ]
            },
        }
    ),
]


class NewContact(Body):
    """A person.

    `on_duplicate` is what to do where they may be known already: refuse it, link it to the one who is there, or make
    another contact all the same, which shows identities of others as disputed.
    """

    name: Line
    given_name: Line | None = None
    family_name: Line | None = None
    locale: Locale | None = None
    time_zone: Zone | None = None
    birth_on: Day = None
    identities: Annotated[list[IdentityBody], Field(max_length=identities.COUNT_MAX, default_factory=list)]
    tags: Annotated[Tags, Field(default_factory=list)]
    attributes: Annotated[AttributeValues, Field(default_factory=dict)]
    on_duplicate: OnDuplicate = "reject"

    def draft(self) -> Draft:
        """What is asked for."""
        return Draft(
            name=self.name, given_name=self.given_name, family_name=self.family_name, locale=self.locale,
            time_zone=self.time_zone, birth_on=self.birth_on, tags=self.tags, attributes=self.attributes,
            identities=[
                NewIdentity(kind=i.kind, value=i.value, account=i.account, verified=i.verified) for i in self.identities
            ],
        )  # fmt: skip


class ContactPatch(Patch):
    """What can change here; `attributes` are merged name by name, `tags` are replaced."""

    name: Line | None = None
    given_name: Line | None = None
    family_name: Line | None = None
    locale: Locale | None = None
    time_zone: Zone | None = None
    birth_on: Day = None
    tags: Tags | None = None
    attributes: AttributeValues | None = None

    not_nullable = frozenset({"name"})

    def changes(self) -> dict[str, Any]:
        """What is given, null included."""
        return {name: getattr(self, name) for name in self.model_fields_set}


class ContactBatch(Body):
    """Up to 500 contacts."""

    items: Annotated[list[Annotated[NewContact, Judged()]], Field(min_length=1, max_length=BATCH_MAX)]


@post(
    "/contacts",
    scopes={"contacts:write"},
    problems=(IdentityTaken, PossibleDuplicate, InvalidIdentity),
    repeated="With `on_duplicate` `link`: who was there before, with those of the identities that were free.",
    headers=("ETag", "Location"),
)
async def create_contact(
    session: Session, data: NewContact, region: str, by: str, now: datetime, once: idempotency.Request | None
) -> Response[Contact]:
    """Create a contact.

    An identity that belongs to somebody else is refused with that contact's id, unless it is `verified` here and was
    not there: then the other contact shows it as `disputed` from now on. A blocked one is refused. Refused is also
    somebody whose name sounds the same and who has the same birth date, or a phone number or e-mail address that is the
    same but for a slip: with all who may be meant. People who share no more than a name are not held up.
    """
    await idempotency.begin(session, request=once)
    admitted = await admissions.admit(
        session, draft=data.draft(), on_duplicate=data.on_duplicate, region=region, by=by, once=once, now=now
    )
    contact = admitted.contact
    return Response(
        contact,
        status_code=_status(admitted),
        headers=etag(contact.version) | {"Location": f"/v1/contacts/{contact.id}"},
    )


@post("/contacts/batch", scopes={"contacts:write"}, body_max=BATCH_BODY_MAX, status_code=200)
async def create_contacts(
    session: Session, data: ContactBatch, request: AnyRequest, region: str, by: str, now: datetime,
    once: idempotency.Request | None,
) -> BatchResult[Contact]:  # fmt: skip
    """Create many contacts.

    Each is answered as if it had been sent alone, in order: 201, 200, 409 or 422. One that is refused stops none of the
    others.
    """
    await idempotency.begin(session, request=once)
    defined = await definitions.read(session, names={name for item in data.items for name in _attributes(item)})
    made = [_made(item, region, defined, now) for item in data.items]
    admitted = iter(
        await admissions.admit_all(
            session, newcomers=[item for item in made if isinstance(item, Newcomer)], by=by, now=now
        )
    )
    results = [next(admitted) if isinstance(item, Newcomer) else item for item in made]
    result = batches.answer(
        [(_status(one), one.contact) if isinstance(one, Admitted) else (201, one) for one in results], request
    )
    await idempotency.keep(session, request=once, contact_id=None, result=result, status=200, now=now)
    return result


@get("/contacts", scopes={"contacts:read"})
async def list_contacts(
    session: Session,
    region: str,
    q: Annotated[
        str | None,
        QueryParameter(
            max_length=200,
            description="Part of a name, roughly spelled, or an identity, or how one begins: the best first.",
        ),
    ] = None,
    tag: Annotated[str | None, QueryParameter(max_length=200, description="Only contacts with this tag.")] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[Contact]:
    """List contacts, newest first, or find them."""
    if q is None or not q.strip():
        before = paging.decode(cursor, UUID)
        found = await search.page(session, tag=tag, before=before[0] if before else None, limit=limit + 1)
        return paging.page_of(found, limit=limit, key=lambda contact: (contact.id,))
    after = paging.decode(cursor, _Rank, UUID)
    hits = await search.find(
        session, q=q, tag=tag, after=(after[0], after[1]) if after else None, limit=limit + 1, region=region
    )
    page = paging.page_of(hits, limit=limit, key=lambda hit: (hit.rank, hit.contact.id))
    return Page([hit.contact for hit in page.items], page.next_cursor)


@get("/contacts/{contact_id:uuid}", scopes={"contacts:read"}, problems=(ContactNotFound,), headers=("ETag",))
async def get_contact(session: Session, contact_id: FromPath[ContactId]) -> Response[Contact]:
    """Read a contact."""
    contact = await contacts.get(session, contact_id=contact_id)
    return Response(contact, headers=etag(contact.version))


@patch("/contacts/{contact_id:uuid}", scopes={"contacts:write"}, problems=(ContactNotFound,), headers=("ETag",))
async def update_contact(
    session: Session, contact_id: FromPath[ContactId], data: ContactPatch, by: str, now: datetime,
    if_match: IfMatch = None,
) -> Response[Contact]:  # fmt: skip
    """Change a contact, by a JSON merge patch.

    Identities have routes of their own.
    """
    contact = await people.update(
        session, contact_id=contact_id, changes=data.changes(), version=version_of(if_match), by=by, now=now
    )
    return Response(contact, headers=etag(contact.version))


@delete("/contacts/{contact_id:uuid}", scopes={"contacts:write"}, problems=(ContactNotFound, HasHistory))
async def delete_contact(session: Session, contact_id: FromPath[ContactId], if_match: IfMatch = None) -> None:
    """Delete a contact with whom nothing has happened yet."""
    await people.delete(session, contact_id=contact_id, version=version_of(if_match))


@put(
    "/contacts/{contact_id:uuid}/tags/{tag:path}",
    scopes={"contacts:write"},
    problems=(ContactNotFound, InvalidTag),
    headers=("ETag",),
)
async def add_tag(
    session: Session, request: AnyRequest, contact_id: FromPath[ContactId], tag: FromPath[PurePosixPath], by: str,
    now: datetime,
) -> Response[Contact]:  # fmt: skip
    """Put a tag on a contact."""
    contact = await people.add_tag(session, contact_id=contact_id, tag=tail(request, "/tags/"), by=by, now=now)
    return Response(contact, headers=etag(contact.version))


@delete("/contacts/{contact_id:uuid}/tags/{tag:path}", scopes={"contacts:write"}, problems=(ContactNotFound,))
async def remove_tag(
    session: Session, request: AnyRequest, contact_id: FromPath[ContactId], tag: FromPath[PurePosixPath], by: str,
    now: datetime,
) -> None:  # fmt: skip
    """Take a tag off a contact, if it is there."""
    await people.remove_tag(session, contact_id=contact_id, tag=tail(request, "/tags/"), by=by, now=now)


def _attributes(item: NewContact | CrmError) -> Collection[str]:
    return () if isinstance(item, CrmError) else item.attributes


def _made(
    item: NewContact | CrmError, region: str, defined: Mapping[str, AttributeDefinition], now: datetime
) -> Newcomer | CrmError:
    if isinstance(item, CrmError):
        return item
    try:
        contact = drafts.contact_of(item.draft(), region=region, defined=defined, now=now)
        return Newcomer(contact, item.on_duplicate)
    except Invalid as error:
        return error


def _status(admitted: Admitted) -> int:
    return 201 if admitted.is_new else 200


handlers = [
    create_contact, create_contacts, list_contacts, get_contact, update_contact, delete_contact, add_tag, remove_tag,
]  # fmt: skip
