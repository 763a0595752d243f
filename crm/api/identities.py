"""`/v1/contacts/{contact_id}/identities`, and finding a contact by one."""

from datetime import datetime
from pathlib import PurePosixPath
from typing import Annotated
from urllib.parse import unquote

from litestar import Response
from litestar.params import FromPath, PathParameter, QueryParameter
from pydantic import Field, StringConstraints

from crm.api.etags import etag
from crm.api.paging import Page
from crm.api.routes import AnyRequest, ContactId, delete, get, post
from crm.api.schemas import CODE_SCHEMA, Body, Code, Reference
from crm.contacts import contacts, identities
from crm.contacts.addresses import LENGTH_MAX, InvalidIdentity, address
from crm.contacts.contacts import Contact, ContactNotFound
from crm.contacts.identities import Identity, IdentityAmbiguous, IdentityNotFound, IdentityTaken
from crm.db import idempotency
from crm.db.session import Session
from crm.errors import FieldError
from crm.interactions import people

_KIND = PathParameter(schema_extra=CODE_SCHEMA)
Account = Annotated[
    str | None, QueryParameter(max_length=100, description="The channel account or shop that the value belongs to.")
]


class IdentityBody(Body):
    """An address of a contact, in whatever form it is typed.

    `account` tells apart values that mean somebody else on another channel account or in another shop; e-mail addresses
    and numbers have none.
    """

    kind: Code
    value: Annotated[Reference, Field(max_length=LENGTH_MAX)]
    account: Annotated[str, StringConstraints(max_length=100)] = ""
    verified: bool = False


@get(
    "/contacts/by/{kind:str}/{value:path}",
    scopes={"contacts:read"},
    problems=(ContactNotFound, IdentityAmbiguous, InvalidIdentity),
    headers=("ETag",),
)
async def get_contact_by_identity(
    session: Session, request: AnyRequest, kind: Annotated[str, _KIND], value: FromPath[PurePosixPath], region: str,
    account: Account = None,
) -> Response[Contact]:  # fmt: skip
    """Find a contact by an identity, typed in any form.

    The value is percent-encoded. Where contacts of several accounts have it, `account` is needed to tell them apart.
    """
    contact_id = await identities.resolve(
        session, kind=kind, value=tail(request, f"/by/{kind}/"), account=account, region=region
    )
    if contact_id is None:
        raise ContactNotFound("Nobody is known by this identity.")
    contact = await contacts.get(session, contact_id=contact_id)
    return Response(contact, headers=etag(contact.version))


@post(
    "/contacts/{contact_id:uuid}/identities",
    scopes={"contacts:write"},
    problems=(ContactNotFound, IdentityTaken, InvalidIdentity),
    repeated="The contact had this identity already.",
)
async def add_identity(
    session: Session, contact_id: FromPath[ContactId], data: IdentityBody, region: str, by: str, now: datetime,
    once: idempotency.Request | None,
) -> Response[Identity]:  # fmt: skip
    """Give a contact an identity.

    One that the contact has already answers 200; sent again with `verified`, it is verified. Of somebody else's, only
    one that is `verified` here and was not there goes over: the other contact shows it as `disputed` from now on, is
    neither found by it nor written to, and the two are suggested as duplicates.
    """
    await idempotency.begin(session, request=once)
    try:
        wanted = Identity.of(
            kind=data.kind, value=data.value, account=data.account, verified=data.verified, region=region
        )
    except InvalidIdentity as error:
        raise InvalidIdentity(error.detail, errors=[FieldError("/value", error.code, error.detail)]) from error
    kept, is_new = await people.add_identity(session, contact_id=contact_id, identity=wanted, by=by, now=now)
    status = 201 if is_new else 200
    await idempotency.keep(session, request=once, contact_id=contact_id, result=kept, status=status, now=now)
    return Response(kept, status_code=status)


@get("/contacts/{contact_id:uuid}/identities", scopes={"contacts:read"}, problems=(ContactNotFound,))
async def list_identities(session: Session, contact_id: FromPath[ContactId]) -> Page[Identity]:
    """List a contact's identities, in the order they were given."""
    contact = await contacts.get(session, contact_id=contact_id)
    return Page(contact.identities, None)


@delete(
    "/contacts/{contact_id:uuid}/identities",
    scopes={"contacts:write"},
    problems=(ContactNotFound, IdentityNotFound, InvalidIdentity),
)
async def remove_identity(
    session: Session, contact_id: FromPath[ContactId],
    kind: Annotated[str, QueryParameter(max_length=63, description="Its kind.", schema_extra=CODE_SCHEMA)],
    value: Annotated[str, QueryParameter(max_length=LENGTH_MAX, description="Its value, typed in any form.")],
    region: str, by: str, now: datetime, account: Account = None,
) -> None:  # fmt: skip
    """Take an identity from a contact."""
    wanted = address(kind=kind, value=value, account=account or "", region=region)
    await people.remove_identity(session, contact_id=contact_id, address=wanted, by=by, now=now)


def tail(request: AnyRequest, after: str) -> str:
    """What the path says behind `after`, as sent: routing has folded what an encoded slash made of it."""
    raw = request.scope["raw_path"].decode("ascii", "replace")
    return unquote(raw.partition(after)[2])


handlers = [get_contact_by_identity, add_identity, list_identities, remove_identity]
