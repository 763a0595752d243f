"""`/v1/contacts/{contact_id}/consents`: what somebody allowed and forbade, with proof, and what may be sent to them."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from litestar import Response
from litestar.params import FromPath, QueryParameter
from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from crm.api import paging
from crm.api.interactions import Source
from crm.api.paging import Cursor, Limit, Page
from crm.api.routes import ContactId, get, post
from crm.api.schemas import Body, Code, ExternalId, Instant, JsonObject, Text
from crm.contacts import consents
from crm.contacts.consents import ADDRESSES, ALL, NAME, SERVICE, Consent, ConsentNotFound, Permission, UnspecificMessage
from crm.contacts.contacts import ContactNotFound
from crm.db import idempotency
from crm.db.session import Session
from crm.interactions import consenting
from crm.interactions.consenting import Declaration
from crm.interactions.timeline import CHANNELS, ExternalIdTaken, InTheFuture

EVIDENCE_BYTES_MAX = 64 * 1024
_Moment = Annotated[datetime, msgspec.Meta(tz=True)]


def _small(value: object) -> object:
    if len(msgspec.json.encode(value)) > EVIDENCE_BYTES_MAX:
        raise PydanticCustomError("too_large", "must have at most 64 KB as JSON")
    return value


_PATTERN = f"^{NAME}$"
_Name = Annotated[str, StringConstraints(pattern=_PATTERN)]
_ChannelFilter = Annotated[
    str | None, QueryParameter(name="channel", max_length=30, pattern=_PATTERN, description="Only of this channel.")
]
_PurposeFilter = Annotated[
    str | None, QueryParameter(name="purpose", max_length=30, pattern=_PATTERN, description="Only of this purpose.")
]


class NewConsent(Body):
    """What somebody allowed or forbade. With an `external_id` it is recorded once, however often it is sent.

    External ids are told apart by `source`, or by `channel` where there is none.
    """

    channel: Annotated[
        _Name, Field(description=f"Such as {', '.join(CHANNELS[:5])}, or `{ALL}` for every one, also those to come.")
    ]
    purpose: Annotated[
        _Name, Field(description=f"Such as `marketing`; `{SERVICE}`, which needs no consent; or `{ALL}` for every one.")
    ]
    status: Literal["granted", "denied"]
    legal_basis: Annotated[Code, Field(description="Such as `consent` or `contract`.")] | None = None
    source: Annotated[Source, Field(description="Where it was said: a form, a till, an app.")] | None = None
    external_id: ExternalId | None = None
    evidence: (
        Annotated[
            JsonObject | Text,
            AfterValidator(_small),
            Field(description="The proof: what was shown and said, which version of a text, by which means."),
        ]
        | None
    ) = None
    occurred_at: Annotated[Instant, Field(description="When it was said; left out, it is now.")] | None = None

    def declaration(self, now: datetime) -> Declaration:
        """What is to be taken down."""
        return Declaration(
            channel=self.channel, purpose=self.purpose, status=self.status, occurred_at=self.occurred_at or now,
            legal_basis=self.legal_basis, source=self.source, external_id=self.external_id, evidence=self.evidence,
        )  # fmt: skip


@post(
    "/contacts/{contact_id:uuid}/consents",
    scopes={"contacts:write"},
    problems=(ContactNotFound, ExternalIdTaken, InTheFuture),
    repeated="It was recorded before, as it is here.",
    headers=("Location",),
)
async def record_consent(
    session: Session, contact_id: FromPath[ContactId], data: NewConsent, by: str, now: datetime,
    once: idempotency.Request | None,
) -> Response[Consent]:  # fmt: skip
    """Record what a contact allowed or forbade.

    It is kept as it was said, and never changed: what was said last holds. Also on the timeline, as `consent.granted`
    or `consent.denied`.
    """
    consent, is_new = await consenting.record(
        session, contact_id=contact_id, declaration=data.declaration(now), by=by, once=once, now=now
    )
    location = f"/v1/contacts/{consent.contact_id}/consents/{consent.id}"
    return Response(consent, status_code=201 if is_new else 200, headers={"Location": location})


@get("/contacts/{contact_id:uuid}/consents", scopes={"contacts:read"}, problems=(ContactNotFound,))
async def list_consents(
    session: Session, contact_id: FromPath[ContactId], channel: _ChannelFilter = None, purpose: _PurposeFilter = None,
    cursor: Cursor = None, limit: Limit = 50,
) -> Page[Consent]:  # fmt: skip
    """List all that a contact ever allowed and forbade, newest first."""
    before = paging.decode(cursor, _Moment, UUID)
    found = await consents.page(
        session, contact_id=contact_id, channel=channel, purpose=purpose,
        before=(before[0], before[1]) if before else None, limit=limit + 1,
    )  # fmt: skip
    return paging.page_of(found, limit=limit, key=lambda consent: (consent.occurred_at, consent.id))


@get("/contacts/{contact_id:uuid}/consents/current", scopes={"contacts:read"}, problems=(ContactNotFound,))
async def list_current_consents(
    session: Session, contact_id: FromPath[ContactId], cursor: Cursor = None, limit: Limit = 50
) -> Page[Consent]:
    """List what a contact said last of each channel and purpose.

    It is what was said, by name; what follows for one message from all of it, `…/consents/check` says.
    """
    after = paging.decode(cursor, str, str)
    found = await consents.current(
        session, contact_id=contact_id, after=(after[0], after[1]) if after else None, limit=limit + 1
    )
    return paging.page_of(found, limit=limit, key=lambda consent: (consent.channel, consent.purpose))


@get(
    "/contacts/{contact_id:uuid}/consents/check",
    scopes={"contacts:read"},
    problems=(ContactNotFound, UnspecificMessage),
)
async def check_consent(
    session: Session, contact_id: FromPath[ContactId],
    channel: Annotated[
        str,
        QueryParameter(max_length=30, pattern=_PATTERN, description=f"Where it would go; {', '.join(ADDRESSES)} …"),
    ],
    purpose: Annotated[
        str, QueryParameter(max_length=30, pattern=_PATTERN, description="What for, such as `marketing`.")
    ],
) -> Permission:  # fmt: skip
    """Ask whether a message may be sent.

    `service` is allowed unless it is denied, every other purpose only where it is granted. A denial of `all` holds for
    all of it, until the same or a part of it is granted later. `why_not` is `denied`, `no_consent`, or `no_address`
    where nothing would reach the contact.
    """
    return await consents.may_send(session, contact_id=contact_id, channel=channel, purpose=purpose)


@get("/contacts/{contact_id:uuid}/consents/{consent_id:uuid}", scopes={"contacts:read"}, problems=(ConsentNotFound,))
async def get_consent(session: Session, contact_id: FromPath[ContactId], consent_id: FromPath[UUID]) -> Consent:
    """Read a consent, with its proof."""
    return await consents.get(session, contact_id=contact_id, consent_id=consent_id)


handlers = [record_consent, list_consents, list_current_consents, check_consent, get_consent]
