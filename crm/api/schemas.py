"""The types that request bodies are made of: strict, bounded, and clean of what Postgres or a client can't hold."""

import re
import unicodedata
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Annotated, Any, ClassVar, Final
from zoneinfo import available_timezones

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    StringConstraints,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from crm.loyalty.books import POINTS_MAX

YEAR_MIN, YEAR_MAX = 1900, 2199


class Body(BaseModel):
    """A request body: unknown fields are refused, nothing is coerced."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True, frozen=True)


def either(*choices: Mapping[str, str]) -> ConfigDict:
    """How the schema of a body says that it has exactly one field of each of these, by the type of its value."""
    return ConfigDict(
        json_schema_extra={
            "allOf": [
                {"oneOf": [{"required": [name], "properties": {name: {"type": of}}} for name, of in fields.items()]}
                for fields in choices
            ]
        }
    )


NOTHING: Final[Mapping[str, Any]] = {"type": "null"}
"""In `one_of`: a field that is left out."""
WHOLE: Final[Mapping[str, Any]] = {"type": "integer"}


def one_of(*shapes: tuple[Collection[str], Mapping[str, Any]]) -> ConfigDict:
    """How the schema of a body says that its fields go together in one of these ways: those required, and all types."""
    return ConfigDict(
        json_schema_extra={
            "oneOf": [{"required": list(required), "properties": dict(fields)} for required, fields in shapes]
        }
    )


class Patch(Body):
    """A JSON merge patch: what is absent stays, what is null is cleared. `model_fields_set` tells them apart.

    The fields in `not_nullable` can be changed, but not cleared.
    """

    not_nullable: ClassVar[frozenset[str]] = frozenset()

    @field_validator("*", mode="after")  # a validator before it would take strict JSON for Python
    @classmethod
    def _not_cleared(cls, value: Any, info: ValidationInfo) -> Any:
        if value is None and info.field_name in cls.not_nullable:
            raise PydanticCustomError("required", "can't be cleared")
        return value

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        described = handler(schema)
        properties = handler.resolve_ref_schema(described)["properties"]
        for name in cls.not_nullable:
            properties[name] = next(option for option in properties[name]["anyOf"] if option.get("type") != "null")
        return described


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


_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d", re.ASCII)


def _date_time(value: Any) -> Any:
    # Pydantic would take a number, in a string even, for seconds since 1970.
    if not (isinstance(value, str) and _DATE_TIME.match(value)):
        raise PydanticCustomError("date_time", 'must be a date-time with an offset, such as "2026-11-01T09:30:00Z"')
    return value


_DURATION = re.compile(r"P(?=.)(?:(\d{1,6})D)?(?:T(?=\d)(?:(\d{1,6})H)?(?:(\d{1,6})M)?(?:(\d{1,6})S)?)?\Z", re.ASCII)


def _duration(value: Any) -> Any:
    found = _DURATION.match(value) if isinstance(value, str) else None
    if found is None:
        raise PydanticCustomError("duration", 'must be a duration in days, hours, minutes and seconds, such as "PT15M"')
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)


def _utc(value: datetime) -> datetime:
    try:
        value = value.astimezone(UTC)
    except (OverflowError, ValueError):
        value = datetime.min.replace(tzinfo=UTC)
    if not YEAR_MIN <= value.year <= YEAR_MAX:
        raise PydanticCustomError("date_out_of_range", f"must lie between the years {YEAR_MIN} and {YEAR_MAX}")
    return value


ZONE_SCHEMA = WithJsonSchema({"type": "string", "format": "time-zone", "examples": ["Asia/Jakarta"]})
"""The name of a time zone in the IANA database."""

_DECIMAL = re.compile(r"-?\d{1,15}(\.\d{1,6})?\Z", re.ASCII)


def _decimal(value: Any) -> Any:
    if not isinstance(value, str) or not _DECIMAL.match(value):
        raise PydanticCustomError(
            "decimal_string", 'must be a decimal in a string, such as "120000.00", of at most 15 and 6 digits'
        )
    return Decimal(value)


@cache
def _time_zones() -> frozenset[str]:
    return frozenset(available_timezones())


def _time_zone(value: str) -> str:
    if value not in _time_zones():
        raise PydanticCustomError("time_zone", 'must be an IANA time zone, such as "Asia/Jakarta"')
    return value


_NOT_BLANK = Field(json_schema_extra={"pattern": r"[^\s\x1c-\x1f\x85]"})
_MONEY_SCHEMA: Final[dict[str, Any]] = {
    "type": "string",
    "pattern": r"^\d{1,15}(\.\d{1,6})?$",
    "examples": ["120000.00"],
}

Text = Annotated[str, AfterValidator(_clean), StringConstraints(max_length=20_000)]
"""Free text of up to 20,000 characters, in Unicode NFC."""
Line = Annotated[str, AfterValidator(_stripped), StringConstraints(min_length=1, max_length=200), _NOT_BLANK]
"""One trimmed, non-blank line of up to 200 characters."""
Reference = Annotated[str, AfterValidator(_stripped), StringConstraints(min_length=1, max_length=200), _NOT_BLANK]
"""Somebody else's id: text, whatever it looks like."""
ExternalId = Annotated[str, AfterValidator(_stripped), StringConstraints(min_length=1, max_length=500)]
"""The id of a message or event in the system it comes from; those of some channels are long."""
CODE_SCHEMA: Final[dict[str, Any]] = {"type": "string", "pattern": r"^[a-z][a-z0-9_.-]{0,62}$"}
Code = Annotated[str, StringConstraints(pattern=CODE_SCHEMA["pattern"])]
"""A short lower-case name."""
Points = Annotated[int, Field(ge=1, le=POINTS_MAX)]
SignedPoints = Annotated[int, Field(ge=-POINTS_MAX, le=POINTS_MAX)]
Amount = Annotated[Decimal, BeforeValidator(_decimal), Field(ge=0), WithJsonSchema(_MONEY_SCHEMA)]
"""Money that can't be negative, as a decimal string; zero is real."""
PositiveAmount = Annotated[
    Decimal,
    BeforeValidator(_decimal),
    Field(gt=0),
    WithJsonSchema(_MONEY_SCHEMA | {"pattern": r"^(?=.*[1-9])\d{1,15}(\.\d{1,6})?$"}),
]
Instant = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_date_time), AfterValidator(_utc)]
"""RFC 3339 with an offset; kept in UTC."""
Duration = Annotated[
    timedelta,
    BeforeValidator(_duration),
    WithJsonSchema({
        "type": "string",
        "pattern": r"^P(?=.)(\d{1,6}D)?(T(?=\d)(\d{1,6}H)?(\d{1,6}M)?(\d{1,6}S)?)?$",
        "examples": ["PT15M"],
    }),
]  # fmt: skip
"""ISO 8601, of units that always last the same: a day is 24 hours, and months and years are none of them."""
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
TimeZone = Annotated[str, StringConstraints(max_length=64), AfterValidator(_time_zone), ZONE_SCHEMA]
JsonObject = Annotated[dict[str, Any], AfterValidator(_clean_json)]
