"""Money in answers: exact until the end, then rounded once to the smallest unit of its currency."""

from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Final

# ISO 4217, table A.1: currencies whose smallest unit is not a hundredth.
_DIGITS: Final = {
    **dict.fromkeys(
        ("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF",
         "XPF"), 0,
    ),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
    **dict.fromkeys(("CLF", "UYW"), 4),
}  # fmt: skip
_USUAL_DIGITS: Final = 2
_ROUNDING: Final = Context(prec=200, rounding=ROUND_HALF_UP)


@dataclass(slots=True)
class Money:
    """An amount, in a decimal string with the digits of its currency."""

    amount: str
    currency: str

    @classmethod
    def of(cls, amount: Decimal, currency: str) -> "Money":
        """An exact amount, rounded half up to the smallest unit."""
        unit = Decimal(1).scaleb(-_DIGITS.get(currency, _USUAL_DIGITS))
        return cls(f"{amount.quantize(unit, context=_ROUNDING):f}", currency)
