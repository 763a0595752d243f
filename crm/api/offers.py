"""Offers: made to everybody, to some or to named people, seen by nobody else, and claimed."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Final, Literal, get_type_hints
from uuid import UUID

import msgspec
from litestar.params import FromPath
from pydantic import ConfigDict, Field, ValidationInfo, create_model, field_validator, model_validator
from pydantic_core import PydanticCustomError

from crm.api import paging
from crm.api.conditions import ConditionBody
from crm.api.earning_rules import Factor, FilterBody, Values, WindowBody
from crm.api.loyalty import MEMBERSHIP, PROGRAM, PlaceBody, ProgramId
from crm.api.paging import Cursor, Limit, Page, SortBy
from crm.api.requests import decode
from crm.api.routes import delete, get, patch, post, put
from crm.api.schemas import Body, Line, Patch, Points, Reference, Text
from crm.contacts.conditions import InvalidCondition
from crm.contacts.contacts import ContactNotFound
from crm.db import idempotency
from crm.db.session import Session
from crm.loyalty import claims, offered, offers
from crm.loyalty.books import POINTS_MAX, PointsOutOfRange
from crm.loyalty.catalogue import UnknownTier
from crm.loyalty.claims import Claimed, ClaimNotFound, ClaimView, NoClaimNeeded
from crm.loyalty.offered import NoPersonalCode, OfferCode, OfferCodeNotFound, Offered
from crm.loyalty.offers import OfferNotFound, OfferView, TooManyMultipliers, UnknownReward
from crm.loyalty.programs import ProgramNotFound
from crm.loyalty.recipients import Recipient, UnknownContact
from crm.loyalty.rewards import LimitReached, NotEligible, OutOfStock

CONTACTS_MAX: Final = 10_000
DAYS_MAX: Final = 36_500

MAKING = (InvalidCondition, UnknownTier, UnknownReward, UnknownContact, TooManyMultipliers)
"""What refuses the definition of an offer."""
CLAIMING = (
    ContactNotFound, OfferNotFound, *MEMBERSHIP, NotEligible, LimitReached, NoClaimNeeded, OutOfStock, PointsOutOfRange,
)  # fmt: skip
_OF_KIND: Final = {
    "multiplier": (("factor",), ("filter",)),
    "bonus_points": (("points",), ()),
    "reward": (("reward_id",), ()),
    "voucher": ((), ("uses_max", "valid_days", "text")),
}
"""The fields that a benefit of each kind needs, and those that it may have."""
_FIELDS: Final = sorted({name for needed, possible in _OF_KIND.values() for name in (*needed, *possible)})


def _one_kind() -> ConfigDict:
    """How the schema says which fields go with which kind."""
    choices: list[Any] = []
    for kind, (needed, possible) in _OF_KIND.items():
        others = {name: {"type": "null"} for name in _FIELDS if name not in needed and name not in possible}
        given = {name: {"not": {"type": "null"}} for name in needed}
        choices.append({"required": ["kind", *needed], "properties": {"kind": {"const": kind}, **given, **others}})
    return ConfigDict(json_schema_extra={"oneOf": choices})


class AudienceBody(Body):
    """Whom an offer is for: those of whom all that is said here is true.

    Those of whom the condition holds, who stand in the tier or above it, and who are among the people named.
    """

    condition: ConditionBody | None = None
    tier_id: UUID | None = None
    contact_ids: Annotated[list[UUID], Field(min_length=1, max_length=CONTACTS_MAX)] | None = None


class BenefitBody(Body):
    """What an offer gives: a `factor` on what purchases earn, `points`, a reward, or a voucher.

    A voucher is of use until the end of the local day `valid_days` after, and carries the `text`.
    """

    model_config = _one_kind()

    kind: Literal["multiplier", "bonus_points", "reward", "voucher"]
    factor: Factor | None = None
    filter: FilterBody | None = None
    points: Points | None = None
    reward_id: UUID | None = None
    uses_max: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    valid_days: Annotated[int, Field(ge=0, le=DAYS_MAX)] | None = None
    text: Line | None = None

    @model_validator(mode="after")
    def _of_its_kind(self) -> "BenefitBody":
        needed, possible = _OF_KIND[self.kind]
        missing = [name for name in needed if getattr(self, name) is None]
        beside = [name for name in _FIELDS if getattr(self, name) is not None and name not in (*needed, *possible)]
        if missing:
            raise PydanticCustomError("benefit", "a benefit of this kind needs {names}", {"names": ", ".join(missing)})
        if beside:
            raise PydanticCustomError("benefit", "a benefit of this kind has no {names}", {"names": ", ".join(beside)})
        return self


class NewOffer(Body):
    """Something for members to claim, for everybody where there is no `audience`.

    `claims_max` is how often it can be claimed in all. With `personal_code` each member gets a code of their own; with
    `auto` a multiplier needs no claim. `categories` and `skus` say what it is about, for whoever buys such things.
    """

    name: Line
    description: Text | None = None
    audience: AudienceBody | None = None
    window: WindowBody | None = None
    benefit: BenefitBody
    claims_max: Annotated[int, Field(ge=1, le=POINTS_MAX)] | None = None
    claims_max_per_member: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    personal_code: bool = False
    auto: bool = False
    categories: Values | None = None
    skus: Values | None = None
    status: Literal["active", "draft", "disabled"] = "active"

    @field_validator("claims_max_per_member")
    @classmethod
    def _once(cls, value: int, info: ValidationInfo) -> int:
        if value != 1 and _kind(info) == "multiplier":
            raise PydanticCustomError("claims_max_per_member", "must be 1: a multiplier that was claimed holds")
        return value

    @field_validator("auto")
    @classmethod
    def _without_claims(cls, value: bool, info: ValidationInfo) -> bool:
        if value and _kind(info) not in {None, "multiplier"}:
            raise PydanticCustomError("auto", "only a multiplier can hold without a claim")
        if value and (info.data.get("claims_max") is not None or info.data.get("personal_code")):
            raise PydanticCustomError("auto", "what needs no claim has neither claims_max nor a personal_code")
        return value


def _kind(info: ValidationInfo) -> str | None:
    benefit = info.data.get("benefit")
    return None if benefit is None else benefit.kind


_HINTS = get_type_hints(NewOffer, include_extras=True)


class _OfferPatch(Patch):
    not_nullable = frozenset({"name", "benefit"})


OfferPatch = create_model(
    "OfferPatch",
    __base__=_OfferPatch,
    __doc__="The fields to change, each as a whole; null goes back to the default.",
    **{name: (hint | None, None) for name, hint in _HINTS.items() if name in NewOffer.model_fields},  # type: ignore[call-overload]
)


class NewClaim(PlaceBody):
    """Where an offer is claimed, if that is to be known."""


class NewClaimByCode(PlaceBody):
    """The contact's own code of an offer, in any case, with or without its hyphens."""

    code: Reference


@post("/programs/{program_id:uuid}/offers", scopes={"programs:write"}, problems=(ProgramNotFound, *MAKING))
async def create_offer(
    session: Session, program_id: FromPath[UUID], data: NewOffer, by: str, now: datetime,
    once: idempotency.Request | None,
) -> OfferView:  # fmt: skip
    """Make an offer.

    The timelines of those whom it names are told of it.
    """
    await idempotency.begin(session, request=once)
    offer = await offers.create(
        session, program_id=program_id, definition=_definition(data), contact_ids=_named(data), by=by, now=now
    )
    await idempotency.keep(session, request=once, contact_id=None, result=offer, now=now)
    return offer


@get("/programs/{program_id:uuid}/offers", scopes={"programs:read"}, problems=(ProgramNotFound,))
async def list_offers(
    session: Session, program_id: FromPath[UUID], cursor: Cursor = None, limit: Limit = 50
) -> Page[OfferView]:
    """List a program's offers, newest first."""
    before = paging.decode(cursor, UUID)
    found = await offers.page(session, program_id=program_id, before=before[0] if before else None, limit=limit + 1)
    return paging.page_of(found, limit=limit, key=lambda offer: (offer.id,))


@get("/programs/{program_id:uuid}/offers/{offer_id:uuid}", scopes={"programs:read"}, problems=(OfferNotFound,))
async def get_offer(session: Session, program_id: FromPath[UUID], offer_id: FromPath[UUID]) -> OfferView:
    """Read an offer."""
    return await offers.get(session, program_id=program_id, offer_id=offer_id)


@patch(
    "/programs/{program_id:uuid}/offers/{offer_id:uuid}", scopes={"programs:write"}, problems=(OfferNotFound, *MAKING)
)
async def change_offer(
    session: Session, program_id: FromPath[UUID], offer_id: FromPath[UUID], data: OfferPatch, by: str, now: datetime
) -> OfferView:
    """Change an offer, from now on: what was claimed stays.

    An `audience` takes the place of the one before, with all whom that named.
    """
    changes = data.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude={"audience": {"contact_ids"}})
    return await offers.change(
        session, program_id=program_id, offer_id=offer_id, merge=partial(_merged, changes),
        contact_ids=(_named(data),) if "audience" in changes else None, by=by, now=now,
    )  # fmt: skip


@delete("/programs/{program_id:uuid}/offers/{offer_id:uuid}", scopes={"programs:write"}, problems=(OfferNotFound,))
async def end_offer(session: Session, program_id: FromPath[UUID], offer_id: FromPath[UUID], now: datetime) -> None:
    """End an offer; what was claimed stays, and nothing is multiplied any more."""
    await offers.end(session, program_id=program_id, offer_id=offer_id, now=now)


@get("/programs/{program_id:uuid}/offers/{offer_id:uuid}/contacts", scopes={"programs:read"}, problems=(OfferNotFound,))
async def list_contacts_of_offer(
    session: Session, program_id: FromPath[UUID], offer_id: FromPath[UUID], cursor: Cursor = None, limit: Limit = 50
) -> Page[Recipient]:
    """List the people whom an offer names, and those who have a code of it."""
    after = paging.decode(cursor, UUID)
    found = await offers.recipients_page(
        session, program_id=program_id, offer_id=offer_id, after=after[0] if after else None, limit=limit + 1
    )
    return paging.page_of(found, limit=limit, key=lambda recipient: (recipient.contact_id,))


@get("/contacts/{contact_id:uuid}/offers", scopes={"loyalty:read"}, problems=PROGRAM)
async def list_offers_of_contact(
    session: Session, contact_id: FromPath[UUID], now: datetime, program: ProgramId = None, sort: SortBy = "rank",
    cursor: Cursor = None, limit: Limit = 50,
) -> Page[Offered]:  # fmt: skip
    """List a program's offers for a contact, what suits best first, with the reasons.

    There are those that the contact can claim now, and those that hold without a claim.
    """
    found = await offered.page(
        session, program_id=program, contact_id=contact_id, sort=sort, after=paging.decode(cursor, int, UUID),
        limit=limit + 1, now=now,
    )  # fmt: skip
    return paging.page_of(found, limit=limit, key=lambda offer: (offer.score, offer.id))


@get(
    "/contacts/{contact_id:uuid}/offers/{offer_id:uuid}",
    scopes={"loyalty:read"},
    problems=(ContactNotFound, OfferNotFound),
)
async def get_offer_of_contact(
    session: Session, contact_id: FromPath[UUID], offer_id: FromPath[UUID], now: datetime
) -> Offered:
    """Read an offer that is for a contact now."""
    return await offered.get(session, contact_id=contact_id, offer_id=offer_id, now=now)


@get(
    "/contacts/{contact_id:uuid}/offers/{offer_id:uuid}/code",
    scopes={"loyalty:read"},
    problems=(ContactNotFound, OfferNotFound, OfferCodeNotFound),
)
async def get_offer_code(
    session: Session, contact_id: FromPath[UUID], offer_id: FromPath[UUID], now: datetime
) -> OfferCode:
    """Read a contact's own code of an offer."""
    return await offered.code(session, contact_id=contact_id, offer_id=offer_id, now=now)


@put(
    "/contacts/{contact_id:uuid}/offers/{offer_id:uuid}/code",
    scopes={"loyalty:redeem"},
    problems=(ContactNotFound, OfferNotFound, NoPersonalCode),
)
async def make_offer_code(
    session: Session, contact_id: FromPath[UUID], offer_id: FromPath[UUID], now: datetime
) -> OfferCode:
    """Give a contact their own code of an offer, always the same one.

    Those whom an offer names have theirs from the beginning.
    """
    return await offered.give_code(session, contact_id=contact_id, offer_id=offer_id, now=now)


@post("/contacts/{contact_id:uuid}/offers/{offer_id:uuid}/claims", scopes={"loyalty:redeem"}, problems=CLAIMING)
async def claim_offer(
    session: Session, contact_id: FromPath[UUID], offer_id: FromPath[UUID], data: NewClaim, by: str, now: datetime,
    once: idempotency.Request | None,
) -> Claimed:  # fmt: skip
    """Claim an offer for a contact, and give what it promises.

    One that is not for this contact is answered like one that does not exist.
    """
    return await claims.claim(
        session, contact_id=contact_id, offer_id=offer_id, place=data.place(), by=by, once=once, now=now
    )


@get("/contacts/{contact_id:uuid}/offers/{offer_id:uuid}/claims", scopes={"loyalty:read"}, problems=(ContactNotFound,))
async def list_claims_of_offer(
    session: Session, contact_id: FromPath[UUID], offer_id: FromPath[UUID], cursor: Cursor = None, limit: Limit = 50
) -> Page[ClaimView]:
    """List a contact's claims of an offer, newest first."""
    before = paging.decode(cursor, UUID)
    return _claims(
        await claims.page(
            session, contact_id=contact_id, offer_id=offer_id, before=before[0] if before else None, limit=limit + 1
        ),
        limit,
    )


@post("/contacts/{contact_id:uuid}/offer-claims", scopes={"loyalty:redeem"}, problems=CLAIMING)
async def claim_offer_by_code(
    session: Session, contact_id: FromPath[UUID], data: NewClaimByCode, by: str, now: datetime,
    once: idempotency.Request | None,
) -> Claimed:  # fmt: skip
    """Claim the offer that a contact's own code stands for.

    A code of somebody else's is answered like one that does not exist.
    """
    return await claims.claim_by_code(
        session, contact_id=contact_id, code=data.code, place=data.place(), by=by, once=once, now=now
    )


@get("/contacts/{contact_id:uuid}/offer-claims", scopes={"loyalty:read"}, problems=(ContactNotFound,))
async def list_claims(
    session: Session, contact_id: FromPath[UUID], cursor: Cursor = None, limit: Limit = 50
) -> Page[ClaimView]:
    """List what a contact has claimed of offers, newest first."""
    before = paging.decode(cursor, UUID)
    found = await claims.page(session, contact_id=contact_id, before=before[0] if before else None, limit=limit + 1)
    return _claims(found, limit)


@get(
    "/contacts/{contact_id:uuid}/offer-claims/{claim_id:uuid}",
    scopes={"loyalty:read"},
    problems=(ClaimNotFound,),
)
async def get_claim(session: Session, contact_id: FromPath[UUID], claim_id: FromPath[UUID]) -> ClaimView:
    """Read a claim."""
    return await claims.get(session, contact_id=contact_id, claim_id=claim_id)


def _claims(found: Sequence[ClaimView], limit: int) -> Page[ClaimView]:
    return paging.page_of(found, limit=limit, key=lambda claim: (claim.id,))


def _named(data: Any) -> Sequence[UUID] | None:
    return None if data.audience is None else data.audience.contact_ids


def _merged(changes: dict[str, Any], definition: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in (definition | changes).items() if value is not None}
    return _definition(decode(NewOffer, msgspec.json.encode(kept)))


def _definition(data: NewOffer) -> dict[str, Any]:
    definition = data.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"audience": {"contact_ids"}})
    if not definition.get("audience"):
        definition.pop("audience", None)
    return definition


handlers = [
    create_offer, list_offers, get_offer, change_offer, end_offer, list_contacts_of_offer,
    list_offers_of_contact, get_offer_of_contact, get_offer_code, make_offer_code, claim_offer, list_claims_of_offer,
    claim_offer_by_code, list_claims, get_claim,
]  # fmt: skip
