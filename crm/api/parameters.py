"""Instants in query strings."""

from datetime import datetime
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from crm.api.schemas import Instant
from crm.errors import FieldError, Invalid

DATE_TIME: Final[dict[str, Any]] = {"format": "date-time"}
_INSTANT: TypeAdapter[datetime] = TypeAdapter(Instant)


def moment(name: str, value: str | None) -> datetime | None:
    """The instant that the parameter `name` says, in UTC. Raises Invalid."""
    if value is None:
        return None
    if "T" in value:
        value = value.replace(" ", "+")  # what is left of the + of an offset that was not percent-encoded
    try:
        return _INSTANT.validate_python(value)
    except ValidationError as error:
        message = error.errors()[0]["msg"]
        raise Invalid(
            "A parameter is not valid.", errors=[FieldError(f"query/{name}", "date_time", message)]
        ) from error
