"""`/v1/contacts/{contact_id}/personal-data` and `/erasure`: what belongs to a person, told and forgotten."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from litestar.params import FromPath, QueryParameter
from pydantic import Field

from crm.api import paging
from crm.api.auth import MEMBER
from crm.api.paging import Cursor, Limit, Page
from crm.api.routes import ContactId, get, post, put
from crm.api.schemas import Body, Code
from crm.contacts.contacts import ContactNotFound
from crm.db import idempotency
from crm.db.session import Session
from crm.insights import disclosures, pages
from crm.insights.disclosures import Disclosure
from crm.interactions import erasures, retention
from crm.interactions.erasures import Erasure, ErasureNotFound
from crm.interactions.retention import NoRetentionPolicy, RetentionPolicy, RetentionPreview
from crm.keepers import KEEPERS

_Locale = Annotated[
    str | None, QueryParameter(max_length=35, description="The language, such as `id` or `en`; else the contact's.")
]

Months = Annotated[int, Field(ge=1, le=1_200)]


class NewErasure(Body):
    """Why, as a short code, such as `requested`: the certificate shows it."""

    reason: Code | None = None


@get("/contacts/{contact_id:uuid}/personal-data", scopes={"contacts:read", "loyalty:read"}, problems=(ContactNotFound,))
async def get_personal_data(session: Session, contact_id: FromPath[ContactId], now: datetime) -> Disclosure:
    """Read all that is known of a person.

    It is what they may ask for: every row that is kept of them, by where it is kept. Others who took part in something
    are not named.
    """
    return await disclosures.read(session, contact_id=contact_id, keepers=KEEPERS, now=now)


@get(
    "/contacts/{contact_id:uuid}/personal-data.html",
    scopes={"contacts:read", "loyalty:read"},
    problems=(ContactNotFound,),
    media_type="text/html",
)
async def show_personal_data(
    session: Session, contact_id: FromPath[ContactId], now: datetime,
    locale: _Locale = None,
) -> str:  # fmt: skip
    """Read all that is known of a person, as a page.

    To be printed or sent. It loads nothing from anywhere.
    """
    disclosed = await disclosures.read(session, contact_id=contact_id, keepers=KEEPERS, now=now)
    return pages.disclosure(disclosed, locale=locale)


@get("/me/personal-data", scopes=MEMBER, problems=(ContactNotFound,))
async def get_my_personal_data(session: Session, me: UUID, now: datetime) -> Disclosure:
    """Read all that is known of the member."""
    return await disclosures.read(session, contact_id=me, keepers=KEEPERS, now=now)


@post("/contacts/{contact_id:uuid}/erasure", scopes={"contacts:write", "loyalty:adjust"}, problems=(ContactNotFound,))
async def erase_contact(
    session: Session, contact_id: FromPath[ContactId], data: NewErasure,
    by: str, now: datetime, once: idempotency.Request | None,
) -> Erasure:  # fmt: skip
    """Erase a person.

    Names, addresses, attributes, messages and all else that tells who they were go for good, under every id that they
    had. The ledger's numbers stay, so that its sums do; points that are left are written off. The answer is the
    certificate.
    """
    await idempotency.begin(session, request=once)
    return await erasures.erase(
        session, contact_id=contact_id, reason=data.reason, keepers=KEEPERS, by=by, once=once, now=now
    )


@get("/erasures", scopes={"contacts:read"})
async def list_erasures(session: Session, cursor: Cursor = None, limit: Limit = 50) -> Page[Erasure]:
    """List the certificates of erasures, newest first."""
    before = paging.decode(cursor, UUID)
    found = await erasures.page(session, before=before[0] if before else None, limit=limit + 1)
    return paging.page_of(found, limit=limit, key=lambda erasure: (erasure.id,))


@get("/erasures/{erasure_id:uuid}", scopes={"contacts:read"}, problems=(ErasureNotFound,))
async def get_erasure(session: Session, erasure_id: FromPath[UUID]) -> Erasure:
    """Read the certificate of an erasure."""
    return await erasures.get(session, erasure_id=erasure_id)


class NewRetentionPolicy(Body):
    """After how many months what goes by itself; null keeps it.

    Messages lose their content, of contacts with whom nothing happened for so long all goes that an erasure takes.
    """

    messages_months: Months | None = None
    contacts_months: Months | None = None


@get("/retention-policy", scopes={"contacts:read"}, problems=(NoRetentionPolicy,))
async def get_retention_policy(session: Session) -> RetentionPolicy:
    """Read how long things are kept, and what the last night came to."""
    return await retention.get(session)


@put("/retention-policy", scopes={"contacts:write", "loyalty:adjust"})
async def put_retention_policy(session: Session, data: NewRetentionPolicy, by: str, now: datetime) -> RetentionPolicy:
    """Say how long things are kept.

    It is carried out each night from the next one on, and nothing of it can be undone: read the preview first.
    """
    return await retention.put(
        session, messages_months=data.messages_months, contacts_months=data.contacts_months, by=by, now=now
    )


@get("/retention-policy/preview", scopes={"contacts:read"}, problems=(NoRetentionPolicy,))
async def preview_retention(session: Session, now: datetime) -> RetentionPreview:
    """Count what the policy would take if the night came now."""
    return await retention.preview(session, now=now)


handlers = [
    get_personal_data, show_personal_data, get_my_personal_data, erase_contact, list_erasures, get_erasure,
    get_retention_policy, put_retention_policy, preview_retention,
]  # fmt: skip
