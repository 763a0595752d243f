"""What a member's token opens: the member's own points, rewards, offers, vouchers and timeline. No key opens it.

A route here declares `scopes=MEMBER` and asks for `me`, the contact who is signed in; whose data it is never comes from
the request. What staff and systems know besides is left out: tags, attributes, notes, who did something, and the rules
that gave nothing.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from litestar import Response
from litestar.params import FromPath

from crm.api import paging
from crm.api.assistant import QuestionText, ReplyLocale
from crm.api.auth import MEMBER
from crm.api.loyalty import PROGRAM, ProgramId
from crm.api.offers import CLAIMING
from crm.api.paging import Cursor, Limit, Page, SortBy
from crm.api.redemptions import REDEEMING, RedemptionFields
from crm.api.routes import get, post, put
from crm.api.schemas import Body
from crm.assistant import replies
from crm.assistant.facts import Source
from crm.assistant.language_model import LanguageModel
from crm.assistant.replies import AssistantReply, Outcome, Question, ReplyNotFound
from crm.contacts import contacts
from crm.contacts.contacts import Contact, ContactNotFound
from crm.db import idempotency
from crm.db.session import Database, Session
from crm.interactions import shown
from crm.interactions.shown import TimelineEntry
from crm.loyalty import balances, choices, claims, offered, redemptions, rewards, standings, transactions, vouchers
from crm.loyalty.balances import Loyalty
from crm.loyalty.choices import Choice
from crm.loyalty.claims import Claimed, ClaimView
from crm.loyalty.offered import NoPersonalCode, OfferCode, OfferCodeNotFound, Offered
from crm.loyalty.offers import OfferNotFound
from crm.loyalty.redemptions import Redemption, RedemptionNotFound, RedemptionView
from crm.loyalty.standings import ProgramStanding
from crm.loyalty.transactions import PointsTransaction
from crm.loyalty.vouchers import Voucher

IDENTITIES: Final = frozenset({"email", "phone", "whatsapp", "card", "customer_id"})
"""The kinds that a member knows their own by. The others are names that systems gave them."""


@dataclass(frozen=True, slots=True)
class MyIdentity:
    """An address or number of the member, in canonical form."""

    kind: str
    value: str
    verified: bool


@dataclass(frozen=True, slots=True)
class MyProgram:
    """The default program."""

    id: UUID
    name: str


@dataclass(frozen=True, slots=True)
class Me:
    """The member. `program` is null before there is one, `tier`, the tier's name, before the first is reached."""

    id: UUID
    name: str
    given_name: str | None
    locale: str | None
    identities: list[MyIdentity]
    program: MyProgram | None
    tier: str | None

    @classmethod
    def of(cls, contact: Contact, standing: ProgramStanding | None) -> "Me":
        """What a contact may know of what is known about them."""
        return cls(
            contact.id, contact.name, contact.given_name, contact.locale,
            [MyIdentity(one.kind, one.value, one.verified) for one in contact.identities
             if one.kind in IDENTITIES and not one.disputed],
            None if standing is None else MyProgram(standing.program_id, standing.program),
            None if standing is None else standing.tier,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class MyRule:
    """What a rule gave, by the rule's name."""

    name: str
    points: int


@dataclass(frozen=True, slots=True)
class MyPointsTransaction:
    """One business fact on the member's account; `rules` are those that gave something."""

    id: UUID
    program_id: UUID
    kind: str
    cause: str
    points: int
    reason: str | None
    order_ref: str | None
    reverses: UUID | None
    occurred_at: datetime
    recorded_at: datetime
    available_after: int
    rules: list[MyRule]

    @classmethod
    def of(cls, transaction: PointsTransaction) -> "MyPointsTransaction":
        """The transaction without who posted it, and without the rules that did not apply: some are secret."""
        one = transaction
        return cls(
            one.id, one.program_id, one.kind, one.cause, one.points, one.reason, one.order_ref, one.reverses,
            one.occurred_at, one.recorded_at, one.available_after,
            [MyRule(rule["name"], rule["points"]) for rule in one.rules or () if rule["points"]],
        )  # fmt: skip


class MyRedemption(RedemptionFields):
    """Points that the member pays with, or a reward to buy with them. With an `order_ref`, once for that order.

    A member's word makes no order theirs: it can't keep a reference from whoever the order belongs to.
    """


class MyQuestion(Body):
    """Something that the member asks the bot; without a `locale` it is in the language of the text."""

    text: QuestionText
    locale: ReplyLocale | None = None


@dataclass(frozen=True, slots=True)
class MyReply:
    """A question of the member's, and what the bot answered; `sources` are what the answer rests on."""

    id: UUID
    locale: str
    question: str | None
    answer: str | None
    outcome: Outcome
    sources: list[Source]
    created_at: datetime

    @classmethod
    def of(cls, reply: AssistantReply) -> "MyReply":
        """The reply without what is the staff's: the case, and how it came about."""
        one = reply
        return cls(one.id, one.locale, one.question, one.answer, one.outcome, one.sources, one.created_at)


class MyClaim(Body):
    """Nothing needs to be said."""


@get("/me", scopes=MEMBER, problems=(ContactNotFound,))
async def get_me(session: Session, me: UUID, now: datetime) -> Me:
    """Read who is signed in."""
    contact = await contacts.get(session, contact_id=me)
    return Me.of(contact, await standings.find(session, contact_id=me, now=now))


@get("/me/loyalty", scopes=MEMBER, problems=PROGRAM)
async def get_my_loyalty(session: Session, me: UUID, now: datetime, program: ProgramId = None) -> Loyalty:
    """Read the member's balance and tier."""
    return await balances.read(session, program_id=program, contact_id=me, now=now)


@get("/me/points-transactions", scopes=MEMBER, problems=PROGRAM)
async def list_my_points_transactions(
    session: Session, me: UUID, program: ProgramId = None, cursor: Cursor = None, limit: Limit = 50
) -> Page[MyPointsTransaction]:
    """List the member's points transactions, newest first."""
    before = paging.decode(cursor, UUID)
    found = await transactions.page(
        session, program_id=program, contact_id=me, before=before[0] if before else None, limit=limit + 1
    )
    page = paging.page_of(found, limit=limit, key=lambda transaction: (transaction.id,))
    return Page([MyPointsTransaction.of(transaction) for transaction in page.items], page.next_cursor)


@post(
    "/me/redemptions",
    scopes=MEMBER,
    problems=REDEEMING,
    repeated="This was redeemed for this order before; the balance is today's.",
)
async def redeem_my_points(
    session: Session, me: UUID, data: MyRedemption, by: str, now: datetime, once: idempotency.Request | None
) -> Response[Redemption]:
    """Pay with the member's points, or buy a reward.

    It is refused rather than cut down where the points don't reach. The same `order_ref` again answers 200.
    """
    redeem = redemptions.redeem if data.reward_id is None else rewards.redeem
    redemption, created = await redeem(
        session, contact_id=me, **data.asked(), place={}, by=by, once=once, now=now, claims_order=False
    )
    return Response(redemption, status_code=201 if created else 200)


@get("/me/redemptions", scopes=MEMBER, problems=PROGRAM)
async def list_my_redemptions(
    session: Session, me: UUID, program: ProgramId = None, cursor: Cursor = None, limit: Limit = 50
) -> Page[RedemptionView]:
    """List the member's redemptions, newest first."""
    before = paging.decode(cursor, UUID)
    found = await redemptions.page(
        session, program_id=program, contact_id=me, before=before[0] if before else None, limit=limit + 1
    )
    return paging.page_of(found, limit=limit, key=lambda redemption: (redemption.id,))


@get("/me/redemptions/{redemption_id:uuid}", scopes=MEMBER, problems=(RedemptionNotFound,))
async def get_my_redemption(session: Session, me: UUID, redemption_id: FromPath[UUID]) -> RedemptionView:
    """Read a redemption of the member's."""
    return await redemptions.get(session, contact_id=me, redemption_id=redemption_id)


@get("/me/rewards", scopes=MEMBER, problems=PROGRAM)
async def list_my_rewards(
    session: Session, me: UUID, now: datetime, program: ProgramId = None, sort: SortBy = "made", cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[Choice]:  # fmt: skip
    """List a program's active rewards for the member.

    Each says whether the member can have it now and, if not, every reason why not and by how much; and how well it
    suits the member, with the reasons.
    """
    found = await choices.page(
        session, program_id=program, contact_id=me, sort=sort, after=paging.decode(cursor, int, UUID), limit=limit + 1,
        now=now,
    )  # fmt: skip
    return paging.page_of(found, limit=limit, key=lambda choice: (choice.score, choice.id))


@get("/me/offers", scopes=MEMBER, problems=PROGRAM)
async def list_my_offers(
    session: Session, me: UUID, now: datetime, program: ProgramId = None, sort: SortBy = "rank", cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[Offered]:  # fmt: skip
    """List a program's offers for the member, what suits best first, with the reasons.

    There are those that the member can claim now, and those that hold without a claim.
    """
    found = await offered.page(
        session, program_id=program, contact_id=me, sort=sort, after=paging.decode(cursor, int, UUID), limit=limit + 1,
        now=now,
    )  # fmt: skip
    return paging.page_of(found, limit=limit, key=lambda offer: (offer.score, offer.id))


@get("/me/offers/{offer_id:uuid}", scopes=MEMBER, problems=(ContactNotFound, OfferNotFound))
async def get_my_offer(session: Session, me: UUID, offer_id: FromPath[UUID], now: datetime) -> Offered:
    """Read an offer that is for the member now."""
    return await offered.get(session, contact_id=me, offer_id=offer_id, now=now)


@get("/me/offers/{offer_id:uuid}/code", scopes=MEMBER, problems=(ContactNotFound, OfferNotFound, OfferCodeNotFound))
async def get_my_offer_code(session: Session, me: UUID, offer_id: FromPath[UUID], now: datetime) -> OfferCode:
    """Read the member's own code of an offer."""
    return await offered.code(session, contact_id=me, offer_id=offer_id, now=now)


@put("/me/offers/{offer_id:uuid}/code", scopes=MEMBER, problems=(ContactNotFound, OfferNotFound, NoPersonalCode))
async def make_my_offer_code(session: Session, me: UUID, offer_id: FromPath[UUID], now: datetime) -> OfferCode:
    """Give the member their own code of an offer, always the same one."""
    return await offered.give_code(session, contact_id=me, offer_id=offer_id, now=now)


@post("/me/offers/{offer_id:uuid}/claims", scopes=MEMBER, problems=CLAIMING)
async def claim_my_offer(
    session: Session, me: UUID, offer_id: FromPath[UUID], data: MyClaim, by: str, now: datetime,
    once: idempotency.Request | None,
) -> Claimed:  # fmt: skip
    """Claim an offer, and get what it promises."""
    return await claims.claim(session, contact_id=me, offer_id=offer_id, place={}, by=by, once=once, now=now)


@get("/me/offers/{offer_id:uuid}/claims", scopes=MEMBER, problems=(ContactNotFound,))
async def list_my_claims_of_offer(
    session: Session, me: UUID, offer_id: FromPath[UUID], cursor: Cursor = None, limit: Limit = 50
) -> Page[ClaimView]:
    """List the member's claims of an offer, newest first."""
    before = paging.decode(cursor, UUID)
    found = await claims.page(
        session, contact_id=me, offer_id=offer_id, before=before[0] if before else None, limit=limit + 1
    )
    return paging.page_of(found, limit=limit, key=lambda claim: (claim.id,))


@get("/me/vouchers", scopes=MEMBER, problems=(ContactNotFound,))
async def list_my_vouchers(
    session: Session, me: UUID, now: datetime, cursor: Cursor = None, limit: Limit = 50
) -> Page[Voucher]:
    """List the member's own vouchers, newest first."""
    before = paging.decode(cursor, UUID)
    found = await vouchers.page_of_contact(
        session, contact_id=me, before=before[0] if before else None, limit=limit + 1, now=now
    )
    return paging.page_of(found, limit=limit, key=lambda voucher: (voucher.id,))


@get("/me/timeline", scopes=MEMBER, problems=(ContactNotFound,))
async def read_my_timeline(session: Session, me: UUID, cursor: Cursor = None, limit: Limit = 50) -> Page[TimelineEntry]:
    """Read the member's timeline, newest first.

    It holds the messages from and to the member, purchases, and what happened to points, tiers, rewards, vouchers,
    challenges, referrals, offers, surveys and memberships. A page may have fewer items than `limit`, or none, while
    `next_cursor` says that there is more.
    """
    before = paging.decode(cursor, datetime, UUID)
    entries, further = await shown.page(
        session, contact_id=me, before=(before[0], before[1]) if before else None, limit=limit
    )
    return Page(entries, further and paging.encode(*further))


@post("/me/assistant-replies", scopes=MEMBER, problems=(ContactNotFound,))
async def ask_my_assistant(
    database: Database, model: LanguageModel | None, me: UUID, data: MyQuestion, by: str, now: datetime,
    once: idempotency.Request | None,
) -> MyReply:  # fmt: skip
    """Ask the bot a question.

    It answers from help articles and from the member's own points, tier and orders, or hands the question over to
    people.
    """
    question = Question(data.text, locale=data.locale)
    reply = await replies.answer(
        database, contact_id=me, question=question, model=model, shown=MyReply.of, by=by, once=once, now=now
    )
    return MyReply.of(reply)


@get("/me/assistant-replies", scopes=MEMBER, problems=(ContactNotFound,))
async def list_my_assistant_replies(
    session: Session, me: UUID, cursor: Cursor = None, limit: Limit = 50
) -> Page[MyReply]:
    """List what the member asked the bot, newest first."""
    before = paging.decode(cursor, UUID)
    found = await replies.page(session, contact_id=me, before=before[0] if before else None, limit=limit + 1)
    page = paging.page_of(found, limit=limit, key=lambda reply: (reply.id,))
    return Page([MyReply.of(reply) for reply in page.items], page.next_cursor)


@get("/me/assistant-replies/{reply_id:uuid}", scopes=MEMBER, problems=(ReplyNotFound,))
async def get_my_assistant_reply(session: Session, me: UUID, reply_id: FromPath[UUID]) -> MyReply:
    """Read what the bot answered the member."""
    return MyReply.of(await replies.get(session, contact_id=me, reply_id=reply_id))


handlers = [
    get_me, get_my_loyalty, list_my_points_transactions, redeem_my_points, list_my_redemptions, get_my_redemption,
    list_my_rewards, list_my_offers, get_my_offer, get_my_offer_code, make_my_offer_code, claim_my_offer,
    list_my_claims_of_offer, list_my_vouchers, read_my_timeline,
    ask_my_assistant, list_my_assistant_replies, get_my_assistant_reply,
]  # fmt: skip
