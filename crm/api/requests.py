"""How a request becomes arguments: strict JSON bodies, the session, the caller, the Idempotency-Key."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeVar
from uuid import UUID

import jiter
from litestar import Request
from litestar.handlers import BaseRouteHandler
from litestar.params import QueryParameter
from litestar.typing import FieldDefinition
from pydantic import ValidationError

from crm.api import auth
from crm.api.errors import UnsupportedMediaType
from crm.api.schemas import Body
from crm.assistant.language_model import LanguageModel
from crm.db import idempotency
from crm.db.session import Database, Session
from crm.db.vault import Vault
from crm.errors import FieldError, Invalid, Malformed, NotFound
from crm.inbox.house import House

_KEY_LENGTH_MAX = 255
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z", re.ASCII | re.IGNORECASE)
_WHOLE = re.compile(r"-?\d+\Z", re.ASCII)
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
        document = jiter.from_json(raw, allow_inf_nan=False, catch_duplicate_keys=True)
    except ValueError as error:
        raise Malformed(f"This is not JSON that can be read: {error}.") from error
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        raise Invalid(
            "Some fields are not valid.",
            errors=[
                FieldError(_pointer(item["loc"], document), item["type"], item["msg"])
                for item in error.errors(include_url=False, include_context=False, include_input=False)
            ],
        ) from error


async def admit(request: Request[Any, Any, Any]) -> None:
    """What runs before every handler: the caller is known and may, and every parameter is read by somebody.

    A hook and not a guard: the framework copies the handler for every guard, which costs more than the check.
    Raises Unauthenticated, ScopeMissing, MemberTokenNeeded, Invalid.
    """
    await auth.authorize(request)
    _refuse_unknown_parameters(request)


def _refuse_unknown_parameters(request: Request[Any, Any, Any]) -> None:
    # A parameter nobody reads is a filter that silently does nothing.
    if "\x00" in request.scope["path"]:
        raise NotFound("No path contains the NUL character.")
    if request.route_handler.opt.get("any_parameters"):
        return
    known = _parameters(request.route_handler)
    if not request.scope["query_string"] and not any(field.is_required for field in known.values()):
        return
    given = request.query_params
    errors = [
        *(FieldError(f"query/{name}", "unknown_parameter", "is not known here") for name in given if name not in known),
        *(
            FieldError(f"query/{name}", "repeated_parameter", "is given more than once")
            for name in given
            if name in known and not known[name].is_non_string_sequence and len(given.getall(name)) > 1
        ),
        *(
            FieldError(f"query/{name}", code, message)
            for name, value in given.multi_items()
            for code, message in _problems(known.get(name), value)
        ),
        *(
            FieldError(f"query/{name}", "missing", "is needed here")
            for name, field in known.items()
            if field.is_required and name not in given
        ),
    ]
    if errors:
        raise Invalid(f"The parameters here are: {', '.join(sorted(known)) or 'none'}.", errors=errors)


def _parameters(handler: BaseRouteHandler) -> dict[str, FieldDefinition]:
    """The query parameters that a handler declares."""
    known: dict[str, FieldDefinition] | None = handler.opt.get("parameters")
    if known is None:
        known = handler.opt["parameters"] = {
            field.kwarg_definition.name or name: field
            for name, field in handler.parsed_fn_signature.parameters.items()
            if isinstance(field.kwarg_definition, QueryParameter)
        }
    return known


def _problems(field: FieldDefinition | None, value: str) -> Iterator[tuple[str, str]]:
    """What the framework would let through: it takes `null` for nothing, and 1e1 for a whole number."""
    if "\x00" in value:
        yield "nul_character", "must not contain the NUL character"
    elif field is not None and value == "null" and field.is_optional and not field.has_inner_subclass_of(str):
        yield "null", "must not be null: leave it out"
    elif field is not None and field.has_inner_subclass_of(UUID) and not _UUID.match(value):
        yield "uuid", "must be a UUID"
    elif field is not None and field.is_subclass_of(int) and not _WHOLE.match(value):
        yield "integer", "must be a whole number"


async def provide_session(request: ApiRequest) -> AsyncIterator[Session]:
    """The request's session: one transaction around everything that may write, none around a read."""
    database: Database = request.app.state.database
    async with database.reading() if request.method in {"GET", "HEAD"} else database.begin() as session:
        yield session


async def _now(_: ApiRequest) -> datetime:
    return datetime.now(UTC)


async def _by(request: ApiRequest) -> str:
    return request.scope["auth"].name  # type: ignore[no-any-return]


async def _trusted(request: ApiRequest) -> bool:
    return request.scope["auth"].may(frozenset({"loyalty:adjust"}))  # type: ignore[no-any-return]


async def _me(request: ApiRequest) -> UUID:
    return request.scope["auth"].contact_id  # type: ignore[no-any-return]


async def _database(request: ApiRequest) -> Database:
    return request.app.state.database  # type: ignore[no-any-return]


async def _principal(request: ApiRequest) -> auth.Principal:
    return request.scope["auth"]  # type: ignore[no-any-return]


async def _region(request: ApiRequest) -> str:
    return request.app.state.region  # type: ignore[no-any-return]


async def _vault(request: ApiRequest) -> Vault:
    return request.app.state.vault  # type: ignore[no-any-return]


async def _house(request: ApiRequest) -> House:
    return request.app.state.house  # type: ignore[no-any-return]


async def _model(request: ApiRequest) -> LanguageModel | None:
    return request.app.state.model  # type: ignore[no-any-return]


async def _once(request: ApiRequest) -> idempotency.Request | None:
    return once_of(request, await request.body()) if "idempotency-key" in request.headers else None


def once_of(request: Request[Any, Any, Any], content: bytes) -> idempotency.Request | None:
    """The request's identity for retries, where the caller gave it one; `content` is what it says. Raises Invalid."""
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
        body=content,
    )


FACTS: Final[Mapping[str, Callable[[ApiRequest], Awaitable[Any]]]] = {
    "now": _now,
    "by": _by,
    "trusted": _trusted,
    "me": _me,
    "region": _region,
    "database": _database,
    "principal": _principal,
    "vault": _vault,
    "house": _house,
    "model": _model,
    "once": _once,
}
"""What a handler learns of its request by the name of an argument.

`now` is when it arrived, in UTC; `by` what the books say about who did it; `trusted` whether they may adjust
points, as a manager does; `me` the member who is signed in, on the routes that are for members; `region` the country of
phone numbers written without one; `vault` what encrypts secrets; `house` what holds for all channel accounts; `model`
the language model, if there is one; `once` the request's identity for retries. `database` is for those whose work
outlasts one transaction, or must not hold one while it waits for the caller; `principal` for those that may do more or
less by what they ask for.
"""


def _pointer(location: Sequence[int | str], document: Any) -> str:
    """Where in a body something is wrong, without the names by which Pydantic tells the members of a union apart."""
    pointer, place, told = "", document, False
    for part in location:
        if not told and isinstance(part, str) and isinstance(place, dict) and place.get("kind") == part:
            told = True
            continue
        told = False
        pointer += f"/{_escaped(part)}"
        try:
            place = place[part]
        except (TypeError, LookupError):
            place = None
    return pointer


def _escaped(part: int | str) -> str:
    return str(part).replace("~", "~0").replace("/", "~1")
