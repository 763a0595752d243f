"""Route decorators that make a scope compulsory and say what the contract can't read off a handler's types."""

import functools
import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from uuid import UUID

import litestar
from litestar import Request
from litestar.di import NamedDependency
from litestar.enums import HttpMethod
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody

from crm.api import survivors
from crm.api.auth import PUBLIC
from crm.api.requests import FACTS
from crm.errors import CrmError

AnyRequest = Request[Any, Any, Any]

BODY_MAX = 1_000_000
BATCH_BODY_MAX = 5_000_000
UPLOAD_MAX = 64_000_000


def _route(
    factory: Callable[..., Any], path: str, *, scopes: frozenset[str] | set[str],
    problems: tuple[type[CrmError], ...] = (), repeated: str | None = None, headers: tuple[str, ...] = (),
    also: tuple[str, ...] = (), uploads: tuple[str, ...] = (), body_max: int = BODY_MAX, documented: bool = True,
    any_parameters: bool = False,
    **options: Any,
) -> Callable[[Callable[..., Any]], HTTPRouteHandler]:  # fmt: skip
    """A decorator whose docstring is the operation's summary and description.

    `problems` are refusals of its own, beyond what its arguments imply. `repeated` says what a 200 means where the
    first request answered 201. `headers` are what its answer carries besides those of every answer, `also` the media
    types in which it can be asked for besides its own, `uploads` those of a body that is a file. With `any_parameters`
    the query is its caller's own.
    """

    def decorate(function: Callable[..., Any]) -> HTTPRouteHandler:
        summary, _, description = (function.__doc__ or "").strip().partition("\n")
        handler: HTTPRouteHandler = factory(
            path,
            scopes=frozenset(scopes) or scopes,
            documented=documented,
            problems=problems,
            repeated=repeated,
            headers=headers,
            also=also,
            uploads=uploads,
            any_parameters=any_parameters,
            operation_id=function.__name__,
            summary=summary.rstrip("."),
            description=" ".join(description.split()) or None,
            request_max_body_size=body_max,
            idempotent=bool(uploads) or "once" in function.__annotations__,
            **options,
        )(_with_facts(_marked(function)))
        return handler

    return decorate


def options(handlers: Sequence[HTTPRouteHandler]) -> list[HTTPRouteHandler]:
    """What answers OPTIONS on the paths of `handlers`, to be registered before them.

    The framework's own would name the methods of one handler only.
    """
    methods: dict[str, set[str]] = {}
    for handler in handlers:
        for path in handler.paths:
            methods.setdefault(path, {"OPTIONS"}).update(handler.http_methods)
    return [_options(path, ", ".join(sorted(allowed))) for path, allowed in methods.items()]


def _options(path: str, allowed: str) -> HTTPRouteHandler:
    @litestar.route(path, http_method=HttpMethod.OPTIONS, status_code=204, scopes=PUBLIC)
    async def answer() -> litestar.Response[None]:
        return litestar.Response(None, headers={"Allow": allowed})

    return answer


def _marked(function: Callable[..., Any]) -> Callable[..., Any]:
    """Say for every handler, in Litestar's words, which argument is the dependency and which is the body."""
    types: dict[str, Any] = function.__annotations__
    for name, marker in (("session", NamedDependency), ("data", JSONBody)):
        if name in types:
            types[name] = marker[types[name]]
    return function


def _with_facts(function: Callable[..., Any]) -> Callable[..., Any]:
    """Fill in what a handler asks to know of its request.

    As dependencies of the framework, several such facts would each become a task of their own for every request.
    """
    signature = inspect.signature(function)
    facts = [(name, FACTS[name]) for name in signature.parameters if name in FACTS]
    if not facts and "contact_id" not in signature.parameters:
        return function

    @functools.wraps(function)
    async def handler(request: AnyRequest, **arguments: Any) -> Any:
        for name, fact in facts:
            arguments[name] = await fact(request)  # type: ignore[arg-type]
        if "request" in signature.parameters:
            arguments["request"] = request
        return await survivors.carry_out(function, arguments, request)  # type: ignore[arg-type]

    kept = {name: each for name, each in signature.parameters.items() if name not in FACTS and name != "request"}
    first = inspect.Parameter("request", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=AnyRequest)
    handler.__signature__ = signature.replace(parameters=[first, *kept.values()])  # type: ignore[attr-defined]
    handler.__annotations__ = {
        "request": AnyRequest,
        **{name: each.annotation for name, each in kept.items()},
        "return": signature.return_annotation,
    }
    return handler


get = partial(_route, litestar.get)
post = partial(_route, litestar.post)
put = partial(_route, litestar.put)
patch = partial(_route, litestar.patch)
delete = partial(_route, litestar.delete)

ContactId = UUID
