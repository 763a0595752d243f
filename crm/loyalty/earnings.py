"""What a purchase or an event earned, put on the member's book."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from crm.loyalty.books import Book
from crm.loyalty.earning import Earned, Member, Rule, RuleOutcome
from crm.loyalty.expiry import local_day
from crm.loyalty.limits import period_key
from crm.loyalty.movements import Transaction
from crm.loyalty.programs import Program


@dataclass(slots=True)
class RuleRow:
    """Why a rule gave what it gave. `rule_id` is null for the tier's own factor; `basis` is the money it looked at."""

    rule_id: UUID | None
    version: int | None
    name: str
    outcome: str
    reason: str
    basis: str
    points_requested: int
    points: int


def member(book: Book, at: datetime, *, condition_holds: Callable[[Rule], bool]) -> Member:
    """What of the member decides how much something earns that happened at `at`."""
    tier = book.standing(at if book.ladder.needs_days else None).current
    if tier is None:
        return Member(usage=book.usages, condition_holds=condition_holds)
    return Member(tier_name=tier.name, tier_factor=tier.earn_factor, usage=book.usages, condition_holds=condition_holds)


def post(
    book: Book,
    program: Program,
    earned: Earned,
    *,
    cause: str,
    occurred_at: datetime,
    by: str,
    rules: Sequence[RuleRow],
    order_ref: str | None = None,
    reason: str | None = None,
    waits_for_event: bool = False,
) -> Transaction | None:
    """Credit what was earned, as pending, ending and limited as the program says; None where it is nothing.

    `waits_for_event`: where the program activates by an event, the points wait for it.
    """
    note_usage(book, program, earned, occurred_at)
    if not earned.points:
        return None
    transaction = book.open(
        "earn", cause=cause, points=earned.points, occurred_at=occurred_at, by=by, order_ref=order_ref, reason=reason,
        rules=rules,
    )  # fmt: skip
    zone, activation = program.terms.zone, program.activation
    waits = waits_for_event and activation.event is not None
    starts_at = activation.activates_at(occurred_at, zone)
    book.credit(
        earned.points,
        waits=waits,
        activates_at=starts_at,
        cancels_at=activation.cancels_at(occurred_at, zone) if waits else None,
        expires_at=None if waits else program.expiry.ends_at(starts_at or occurred_at, zone),
    )
    book.earn(earned.points)
    return transaction


def note_usage(book: Book, program: Program, earned: Earned, occurred_at: datetime) -> None:
    """Use up the limits of the rules that gave something."""
    if not program.limited:
        return
    day = local_day(occurred_at, program.terms.zone)
    limited = {rule.id: {limit.per for limit in rule.limits} for rule in program.rules if rule.limits}
    for outcome in earned.rules:
        if outcome.counted and outcome.rule_id is not None:
            for per in limited.get(outcome.rule_id, ()):
                book.use(outcome.rule_id, period_key(per, day), points=outcome.points, times=1)


def rule_row(outcome: RuleOutcome) -> RuleRow:
    """A row of the explanation, as it is kept and shown."""
    return RuleRow(
        outcome.rule_id, outcome.version, outcome.name, outcome.outcome, outcome.reason, str(outcome.basis),
        outcome.points_requested, outcome.points,
    )  # fmt: skip
