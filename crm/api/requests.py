"""How a request becomes arguments: strict JSON bodies, the session, the caller, the Idempotency-Key."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, TypeVar

import jiter
from litestar import Request
from litestar.handlers import BaseRouteHandler
from litestar.params import QueryParameter
from pydantic import ValidationError

from crm.api.errors import UnsupportedMediaType
from crm.api.schemas import Body
from crm.db import idempotency
from crm.db.session import Database, Session
from crm.errors import FieldError, Invalid, Malformed, NotFound

_KEY_LENGTH_MAX = 255
B = TypeVar("B", bound=Body)


class ApiRequest(Request[Any, Any, Any]):
    """Reads a body once, strictly, as the model that its handler asks for."""

    async def json(self) -> Any:
        if self.content_type[0] not in {"application/json", ""}:
            raise UnsupportedMediaType(f"Send application/json, not {self.content_type[0]}.")
        field = self.route_handler.parsed_data_field
        assert field is not None, "only handlers with `data` ask for the body"
        return decode(field.annotation, await self.body())


def decode(model: type[B], raw: bytes) -> B:
    """The body as `model`. Raises Malformed for what is not JSON, Invalid with every wrong field."""
    try:
        jiter.from_json(raw, allow_inf_nan=False, catch_duplicate_keys=True)
    except ValueError as error:
        raise Malformed(f"This is not JSON that can be read: {error}.") from error
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        raise Invalid(
            "Some fields are not valid.",
            errors=[
                FieldError("".join(f"/{_escaped(part)}" for part in item["loc"]), item["type"], item["msg"])
                for item in error.errors(include_url=False, include_context=False, include_input=False)
            ],
        ) from error


async def refuse_unknown_parameters(request: Request[Any, Any, Any]) -> None:
    """What runs before a handler: a parameter nobody reads is a filter that silently does nothing. Raises Invalid."""
    if "\x00" in request.scope["path"]:
        raise NotFound("No path contains the NUL character.")
    if not request.scope["query_string"]:
        return
    given = request.query_params
    known = _parameters(request.route_handler)
    errors = [
        *(FieldError(f"query/{name}", "unknown_parameter", "is not known here") for name in given if name not in known),
        *(
            FieldError(f"query/{name}", "repeated_parameter", "is given more than once")
            for name in given
            if not known.get(name, True) and len(given.getall(name)) > 1
        ),
        *(
            FieldError(f"query/{name}", "nul_character", "must not contain the NUL character")
            for name, value in given.multi_items()
            if "\x00" in value
        ),
    ]
    if errors:
        raise Invalid(f"The parameters here are: {', '.join(sorted(known)) or 'none'}.", errors=errors)


def _parameters(handler: BaseRouteHandler) -> dict[str, bool]:
    """The query parameters that a handler declares, and whether each may be repeated."""
    known: dict[str, bool] | None = handler.opt.get("parameters")
    if known is None:
        known = handler.opt["parameters"] = {
            field.kwarg_definition.name or name: field.is_non_string_sequence
            for name, field in handler.parsed_fn_signature.parameters.items()
            if isinstance(field.kwarg_definition, QueryParameter)
        }
    return known


async def provide_session(request: ApiRequest) -> AsyncIterator[Session]:
    """The request's session: one transaction around everything that may write, none around a read."""
    database: Database = request.app.state.database
    async with database.reading() if request.method in {"GET", "HEAD"} else database.begin() as session:
        yield session


async def provide_now() -> datetime:
    """When the request arrived, in UTC."""
    return datetime.now(UTC)


async def provide_by(request: ApiRequest) -> str:
    """What the books say about who did it."""
    return request.scope["auth"].name  # type: ignore[no-any-return]


async def provide_idempotency(request: ApiRequest) -> idempotency.Request | None:
    """The request's identity for retries, where the caller gave it an Idempotency-Key."""
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    if not 0 < len(key) <= _KEY_LENGTH_MAX:
        raise Invalid(
            f"An Idempotency-Key has 1 to {_KEY_LENGTH_MAX} characters; a UUIDv7 is best.",
            errors=[FieldError("header/Idempotency-Key", "invalid", "wrong length")],
        )
    return idempotency.Request.of(
        principal=str(request.scope["auth"].id),
        method=request.method,
        path=request.url.path,
        key=key,
        body=await request.body(),
    )


def _escaped(part: int | str) -> str:
    return str(part).replace("~", "~0").replace("/", "~1")
