"""What points are worth in money, where a program lets its members pay with them. Pure and exact."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

from crm.errors import FieldError, Invalid
from crm.loyalty.basket import EXACT


class ConversionMissing(Invalid):
    code = "no_conversion"
    title = "Points of this program have no worth in money"


class BelowMinimum(Invalid):
    code = "below_minimum"
    title = "These are fewer points than can be paid with"


class NotAMultiple(Invalid):
    code = "not_a_multiple"
    title = "These points can't be turned into money as a whole"


class AboveShare(Invalid):
    code = "above_share"
    title = "This is more of the order than can be paid with points"


@dataclass(frozen=True, slots=True)
class Conversion:
    """`amount` of money for every `points`, in whole steps of them.

    Fewer than `min_points` can't be paid with, and no more than `max_share` of an order, a fraction of 1.
    """

    points: int
    amount: Decimal
    min_points: int | None = None
    max_share: Decimal | None = None

    @classmethod
    def of(cls, settings: Mapping[str, Any] | None) -> "Conversion | None":
        """The conversion in a program's settings; None where it has none."""
        if not settings:
            return None
        share = settings.get("max_share")
        return cls(
            settings["points"], Decimal(settings["amount"]), settings.get("min_points"),
            None if share is None else Decimal(share),
        )  # fmt: skip

    def worth(self, points: int) -> Decimal:
        """The money for whole steps of points, with the decimals in which `amount` was given."""
        return EXACT.multiply(Decimal(points // self.points), self.amount)

    def most(self, *, points: int, available: int, order_total: Decimal) -> int:
        """The points that can really be paid with: the least of what is asked for, there, and allowed for the order.

        Rounded down to whole steps; 0 where that is below the minimum.
        """
        steps = min(max(0, min(points, available)) // self.points, self._steps_of(order_total))
        found = steps * self.points
        return 0 if found < (self.min_points or 0) else found

    def check(self, *, points: int, order_total: Decimal | None) -> None:
        """What `most` would cut down is refused. Raises BelowMinimum, NotAMultiple, AboveShare.

        The share can only be checked where the order's total is known.
        """
        if points < (self.min_points or 0):
            raise BelowMinimum(
                f"At least {self.min_points} points can be paid with.", errors=[_wrong("below_minimum", "too few")]
            )
        if points % self.points:
            raise NotAMultiple(
                f"Points are worth something in steps of {self.points}; {points // self.points * self.points} are.",
                errors=[_wrong("not_a_multiple", f"must be a multiple of {self.points}")],
            )
        if order_total is not None and points // self.points > self._steps_of(order_total):
            raise AboveShare(
                f"Of this order, {self._steps_of(order_total) * self.points} points can be paid.",
                errors=[_wrong("above_share", "too many for this order")],
            )

    def _steps_of(self, order_total: Decimal) -> int:
        share = Fraction(1) if self.max_share is None else Fraction(self.max_share)
        return int(Fraction(order_total) * share // Fraction(self.amount))


def _wrong(code: str, message: str) -> FieldError:
    return FieldError("/points", code, message)
