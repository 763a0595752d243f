"""Programs: the rules of one loyalty scheme, as stored and as the ledger uses them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, Literal, TypeAlias
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import BigInteger, Boolean, Column, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from crm.db.ids import uuid7
from crm.db.session import Session
from crm.db.tables import Instant, metadata
from crm.errors import FieldError, Invalid, NotFound, Stale
from crm.loyalty import contribution, tiers
from crm.loyalty.audiences import Offer
from crm.loyalty.basket import Terms
from crm.loyalty.conversion import Conversion
from crm.loyalty.earning import Rule
from crm.loyalty.expiry import Activation, Expiry
from crm.loyalty.ladders import Ladder, Tier
from crm.loyalty.multipliers import Multiplier
from crm.loyalty.stamping import Challenge
from crm.loyalty.tiers import TierPolicy, TierView

programs = Table(
    "programs",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("time_zone", Text, nullable=False),
    Column("is_default", Boolean, nullable=False),
    Column("settings", JSONB, nullable=False),
    Column("tier_policy", JSONB, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
)

_LOADED_MAX: Final = 1_000
_RETURNING = "id, name, currency, time_zone, is_default, settings, version, created_at, updated_at"


class ProgramNotFound(NotFound):
    code = "program_not_found"
    title = "There is no such program"


class ProgramRequired(Invalid):
    code = "program_required"
    title = "There is no program yet"


class UnknownReward(Invalid):
    code = "unknown_reward"
    title = "A tier can only give rewards of its program"


class StaleProgram(Stale):
    title = "The program has changed since you read it"


@dataclass(frozen=True, slots=True)
class EarnOn:
    """What earns besides the goods."""

    tax: bool = False
    shipping: bool = False


ReturnPolicy: TypeAlias = Literal["only_pending", "within_balance", "unlimited"]
SpentReturnPolicy: TypeAlias = Literal["prorate", "full_refund_only", "none"]

_DEFAULTS: Final[dict[str, Any]] = {
    "rounding": "floor", "activation": {"days": 0}, "expiry": {"kind": "never"}, "return_policy": "within_balance",
    "spent_return_policy": "prorate", "return_grace_days": 0, "milestones": [], "enrolment": "automatic",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class AwardLimits:
    """How much may be given by hand by those who may not adjust points; None is any number.

    `points_max` is for one award, the others for a local day: of one caller, and to one member.
    """

    points_max: int | None = None
    points_per_day: int | None = None
    member_points_per_day: int | None = None


@dataclass(slots=True)
class ProgramView:
    """A program as it is shown. `cost_per_point` is null while nobody has said what a point costs."""

    id: UUID
    name: str
    currency: str
    time_zone: str
    default: bool
    rounding: str
    earn_on: EarnOn
    activation: dict[str, Any]
    expiry: dict[str, Any]
    return_policy: str
    spent_return_policy: str
    return_grace_days: int
    milestones: list[int]
    enrolment: str
    redemption: Conversion | None
    award_limits: AwardLimits | None
    cost_per_point: str | None
    expected_breakage: str
    version: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Program:
    """A program as the ledger uses it: rules and tiers compiled once for each version."""

    id: UUID
    version: int
    name: str
    terms: Terms
    rules: tuple[Rule, ...]
    ladder: Ladder
    activation: Activation
    expiry: Expiry
    return_policy: ReturnPolicy
    spent_return_policy: SpentReturnPolicy
    return_grace_days: int
    milestones: tuple[int, ...]
    explicit_enrolment: bool
    redemption: Conversion | None = None
    award_limits: AwardLimits | None = None
    multipliers: tuple[Multiplier, ...] = ()
    """Active offers; those of one member are rules of theirs, behind the program's own."""
    challenges: tuple[Challenge, ...] = ()
    """Those that are open, in the order they were made."""

    @property
    def limited(self) -> bool:
        """Whether a rule or a challenge has limits, so that a post must know what was had before."""
        return any(rule.limits for rule in self.rules) or any(challenge.limits for challenge in self.challenges)

    def challenges_of(self, event: str) -> list[Challenge]:
        """The open challenges that count such events."""
        return [challenge for challenge in self.challenges if challenge.event == event]


async def create(
    session: Session,
    *,
    name: str,
    currency: str,
    time_zone: str,
    default: bool | None,
    settings: dict[str, Any],
    now: datetime,
) -> ProgramView:
    """Start a program. The first one is the default; a later one becomes it when it says so."""
    first = not await session.fetchval("SELECT EXISTS (SELECT 1 FROM programs)")
    is_default = first or bool(default)
    if is_default:
        await session.execute("UPDATE programs SET is_default = false, version = version + 1 WHERE is_default")
    row = await session.fetchrow(
        f"""
        INSERT INTO programs (id, name, currency, time_zone, is_default, settings, created_at, updated_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $7) RETURNING {_RETURNING}
        """,
        uuid7(), name, currency, time_zone, is_default, settings, now,
    )  # fmt: skip
    return _view(row)


async def change(
    session: Session, *, program_id: UUID, version: int | None, changes: dict[str, Any], now: datetime
) -> ProgramView:
    """Apply `changes`: columns by name, and `settings` merged key by key. Raises ProgramNotFound, StaleProgram."""
    current = await session.fetchrow("SELECT version FROM programs WHERE id = $1 FOR UPDATE", program_id)
    if current is None:
        raise ProgramNotFound("No program has this id.")
    if version is not None and version != current["version"]:
        raise StaleProgram("Read the program again and repeat your change on what you find.")
    if changes.get("is_default"):
        await session.execute(
            "UPDATE programs SET is_default = false, version = version + 1 WHERE is_default AND id <> $1", program_id
        )
    row = await session.fetchrow(
        f"""
        UPDATE programs SET
            name = coalesce($2, name), time_zone = coalesce($3, time_zone), is_default = coalesce($4, is_default),
            settings = settings || $5, version = version + 1, updated_at = $6
        WHERE id = $1 RETURNING {_RETURNING}
        """,
        program_id, changes.get("name"), changes.get("time_zone"), changes.get("is_default"),
        changes.get("settings", {}), now,
    )  # fmt: skip
    return _view(row)


async def get(session: Session, *, program_id: UUID) -> ProgramView:
    """One program. Raises ProgramNotFound."""
    row = await session.fetchrow(f"SELECT {_RETURNING} FROM programs WHERE id = $1", program_id)
    if row is None:
        raise ProgramNotFound("No program has this id.")
    return _view(row)


async def page(session: Session, *, before: UUID | None, limit: int) -> list[ProgramView]:
    """Programs, newest first, older than `before`."""
    rows = await session.fetch(
        f"SELECT {_RETURNING} FROM programs WHERE $1::uuid IS NULL OR id < $1 ORDER BY id DESC LIMIT $2", before, limit
    )
    return [_view(row) for row in rows]


async def set_tier_policy(session: Session, *, program_id: UUID, policy: TierPolicy, now: datetime) -> TierPolicy:
    """Decide what counts towards the tiers, and for how long. Raises ProgramNotFound."""
    if not await session.execute(
        "UPDATE programs SET tier_policy = $2, version = version + 1, updated_at = $3 WHERE id = $1",
        program_id, policy, now,
    ):  # fmt: skip
        raise ProgramNotFound("No program has this id.")
    return policy


async def tier_policy(session: Session, *, program_id: UUID) -> TierPolicy:
    """What counts towards the tiers, and for how long. Raises ProgramNotFound."""
    row = await session.fetchrow("SELECT tier_policy FROM programs WHERE id = $1", program_id)
    if row is None:
        raise ProgramNotFound("No program has this id.")
    return TierPolicy(**{"basis": "points"} | row["tier_policy"])


async def add_tier(
    session: Session, *, program_id: UUID, name: str, threshold: int, benefits: dict[str, Any], now: datetime
) -> TierView:
    """Add a tier; members who qualify stand in it from their next read on.

    Raises ProgramNotFound, ThresholdTaken, UnknownReward.
    """
    await touch(session, program_id=program_id, now=now)
    unknown = await session.fetchval(
        """
        SELECT min(id::text) FROM (
            SELECT unnest($1::uuid[]) AS id EXCEPT SELECT id FROM rewards WHERE program_id = $2
        ) r
        """,
        [UUID(reward_id) for reward_id in benefits.get("reward_ids", ())], program_id,
    )  # fmt: skip
    if unknown is not None:
        raise UnknownReward(
            f"The program has no reward {unknown}.",
            errors=[FieldError("/benefits/reward_ids", "unknown_reward", "names a reward that the program lacks")],
        )
    return await tiers.create(
        session, program_id=program_id, name=name, threshold=threshold, benefits=benefits, now=now
    )


async def tiers_page(session: Session, *, program_id: UUID, above: int | None, limit: int) -> list[TierView]:
    """A program's tiers, lowest first, from above the threshold `above`. Raises ProgramNotFound."""
    found = await tiers.page(session, program_id=program_id, above=above, limit=limit)
    if not found:
        await get(session, program_id=program_id)
    return found


async def touch(session: Session, *, program_id: UUID, now: datetime) -> None:
    """A rule or a tier has changed: every process loads the program anew. Raises ProgramNotFound."""
    if not await session.execute(
        "UPDATE programs SET version = version + 1, updated_at = $2 WHERE id = $1", program_id, now
    ):
        raise ProgramNotFound("No program has this id.")


async def default_id(session: Session) -> UUID:
    """The program that is meant where none is named. Raises ProgramRequired."""
    found: UUID | None = await session.fetchval("SELECT id FROM programs WHERE is_default")
    if found is None:
        raise ProgramRequired("Make a program with POST /v1/programs, or name one.")
    return found


_loaded: dict[UUID, Program] = {}


async def load(session: Session, *, program_id: UUID, version: int | None = None) -> Program:
    """The compiled program; from memory where `version` says that what is there still holds. Raises ProgramNotFound."""
    known = _loaded.get(program_id)
    if known is not None and known.version == version:
        return known
    row = await session.fetchrow(
        """
        SELECT p.id, p.version, p.name, p.currency, p.time_zone, p.settings, p.tier_policy,
            (SELECT jsonb_agg(jsonb_build_array(r.id, r.version, r.definition) ORDER BY r.id) FROM earning_rules r
             WHERE r.program_id = p.id AND r.deleted_at IS NULL) AS rules,
            (SELECT jsonb_agg(jsonb_build_array(t.id, t.name, t.threshold, t.benefits) ORDER BY t.threshold)
             FROM tiers t WHERE t.program_id = p.id) AS tiers,
            (SELECT jsonb_agg(jsonb_build_array(o.id, o.version, o.contacts_count IS NOT NULL, o.definition)
                ORDER BY o.id) FROM offers o
             WHERE o.program_id = p.id AND o.ended_at IS NULL AND o.kind = 'multiplier' AND o.status = 'active'
            ) AS multipliers,
            (SELECT jsonb_agg(jsonb_build_array(c.id, c.definition) ORDER BY c.id) FROM challenges c
             WHERE c.program_id = p.id AND c.status = 'active' AND c.deleted_at IS NULL) AS challenges
        FROM programs p WHERE p.id = $1
        """,
        program_id,
    )
    if row is None:
        raise ProgramNotFound("No program has this id.")
    if len(_loaded) >= _LOADED_MAX:
        _loaded.clear()
    settings = _DEFAULTS | row["settings"]
    earn_on = settings.get("earn_on", {})
    zone = ZoneInfo(row["time_zone"])
    policy = TierPolicy(**{"basis": "points"} | row["tier_policy"])
    program = _loaded[program_id] = Program(
        id=row["id"],
        version=row["version"],
        name=row["name"],
        terms=Terms(
            currency=row["currency"],
            zone=zone,
            rounding=settings["rounding"],
            tax=earn_on.get("tax", False),
            shipping=earn_on.get("shipping", False),
        ),
        rules=tuple(rule_of(*rule) for rule in row["rules"] or ()),
        ladder=Ladder(
            _tiers(row["tiers"] or ()), policy.basis, policy.window, policy.months or 12, policy.downgrade,
            policy.grace_days, zone,
        ),
        activation=Activation(**settings["activation"]),
        expiry=Expiry.of(settings["expiry"]),
        return_policy=settings["return_policy"],
        spent_return_policy=settings["spent_return_policy"],
        return_grace_days=settings["return_grace_days"],
        milestones=tuple(sorted(settings["milestones"])),
        explicit_enrolment=settings["enrolment"] == "explicit",
        redemption=Conversion.of(settings.get("redemption")),
        award_limits=_award_limits(settings),
        multipliers=tuple(_multiplier(program_id, *offer) for offer in row["multipliers"] or ()),
        challenges=tuple(Challenge.of(doc, id=UUID(challenge_id)) for challenge_id, doc in row["challenges"] or ()),
    )  # fmt: skip
    return program


def rule_of(rule_id: str, version: int, definition: dict[str, Any]) -> Rule:
    """The compiled rule, its condition included, of a stored definition."""
    if (condition := definition.get("condition")) is not None:
        definition = {**definition, "condition": contribution.condition_of(condition)}
    return Rule.of(definition, id=UUID(rule_id), version=version)


def _multiplier(program_id: UUID, offer_id: str, version: int, named: bool, definition: dict[str, Any]) -> Multiplier:
    facts = {"id": UUID(offer_id), "program_id": program_id, "version": version, "status": "active"}
    return Multiplier.of(Offer.of(definition, named=named, **facts))


def _tiers(rows: Sequence[tuple[str, str, int, dict[str, Any]]]) -> tuple[Tier, ...]:
    return tuple(
        Tier(
            UUID(tier_id), name, threshold, Decimal(benefits.get("earn_factor", "1")),
            tuple(map(UUID, benefits.get("reward_ids", ()))),
        )
        for tier_id, name, threshold, benefits in rows
    )  # fmt: skip


def _award_limits(settings: dict[str, Any]) -> AwardLimits | None:
    limits = settings.get("award_limits")
    return None if limits is None else AwardLimits(**limits)


def _view(row: Any) -> ProgramView:
    settings = _DEFAULTS | row["settings"]
    return ProgramView(
        id=row["id"],
        name=row["name"],
        currency=row["currency"],
        time_zone=row["time_zone"],
        default=row["is_default"],
        earn_on=EarnOn(**settings.get("earn_on", {})),
        redemption=Conversion.of(settings.get("redemption")),
        award_limits=_award_limits(settings),
        cost_per_point=settings.get("cost_per_point"),
        expected_breakage=settings.get("expected_breakage") or "0",
        version=row["version"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        **{name: settings[name] for name in _DEFAULTS},
    )
