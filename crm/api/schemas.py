"""The types that request bodies are made of: strict, bounded, and clean of what Postgres or a client can't hold."""

import re
import unicodedata
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, ClassVar
from uuid import UUID
from zoneinfo import available_timezones

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

POINTS_MAX = 2**53 - 1
YEAR_MIN, YEAR_MAX = 1900, 2199


class Body(BaseModel):
    """A request body: unknown fields are refused, nothing is coerced."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True, frozen=True)


class Patch(Body):
    """A JSON merge patch: what is absent stays, what is null is cleared. `model_fields_set` tells them apart."""

    not_nullable: ClassVar[frozenset[str]] = frozenset()


def _clean(value: str) -> str:
    if "\x00" in value:
        raise PydanticCustomError("nul_character", "must not contain the NUL character")
    return unicodedata.normalize("NFC", value)


def _stripped(value: str) -> str:
    value = _clean(value).strip()
    if not value:
        raise PydanticCustomError("blank", "must not be blank")
    return value


def _clean_json(value: Any) -> Any:
    if isinstance(value, str):
        return _clean(value)
    if isinstance(value, dict):
        return {_clean(key): _clean_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_clean_json(item) for item in value]
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) > POINTS_MAX:
        raise PydanticCustomError(
            "number_out_of_range", "numbers must lie within ±(2^53 - 1); send larger ones as text"
        )
    return value


def _utc(value: datetime) -> datetime:
    try:
        value = value.astimezone(UTC)
    except (OverflowError, ValueError):
        value = datetime.min.replace(tzinfo=UTC)
    if not YEAR_MIN <= value.year <= YEAR_MAX:
        raise PydanticCustomError("date_out_of_range", f"must lie between the years {YEAR_MIN} and {YEAR_MAX}")
    return value


_DECIMAL = re.compile(r"-?\d{1,15}(\.\d{1,6})?\Z", re.ASCII)


def _decimal(value: Any) -> Any:
    if not isinstance(value, str) or not _DECIMAL.match(value):
        raise PydanticCustomError(
            "decimal_string", 'must be a decimal in a string, such as "120000.00", of at most 15 and 6 digits'
        )
    return Decimal(value)


def _time_zone(value: str) -> str:
    if value not in available_timezones():
        raise PydanticCustomError("time_zone", 'must be an IANA time zone, such as "Asia/Jakarta"')
    return value


_MONEY_SCHEMA = {"type": "string", "pattern": r"^\d{1,15}(\.\d{1,6})?$", "examples": ["120000.00"]}

Text = Annotated[str, AfterValidator(_clean), StringConstraints(max_length=20_000)]
"""Free text of up to 20,000 characters, in Unicode NFC."""
Line = Annotated[str, AfterValidator(_stripped), StringConstraints(min_length=1, max_length=200)]
"""One trimmed, non-blank line of up to 200 characters."""
Reference = Annotated[str, AfterValidator(_stripped), StringConstraints(min_length=1, max_length=200)]
"""Somebody else's id: text, whatever it looks like."""
ExternalId = Annotated[str, AfterValidator(_stripped), StringConstraints(min_length=1, max_length=500)]
"""The id of a message or event in the system it comes from; those of some channels are long."""
Code = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_.-]{0,62}$")]
"""A short lower-case name."""
Points = Annotated[int, Field(ge=1, le=POINTS_MAX)]
SignedPoints = Annotated[int, Field(ge=-POINTS_MAX, le=POINTS_MAX)]
Amount = Annotated[Decimal, BeforeValidator(_decimal), Field(ge=0), WithJsonSchema(_MONEY_SCHEMA)]
"""Money that can't be negative, as a decimal string; zero is real."""
PositiveAmount = Annotated[Decimal, BeforeValidator(_decimal), Field(gt=0), WithJsonSchema(_MONEY_SCHEMA)]
Instant = Annotated[AwareDatetime, AfterValidator(_utc)]
"""RFC 3339 with an offset; kept in UTC."""
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
TimeZone = Annotated[str, StringConstraints(max_length=64), AfterValidator(_time_zone)]
JsonObject = Annotated[dict[str, Any], AfterValidator(_clean_json)]
Id = UUID
