"""Route decorators that make a scope compulsory and say what the contract can't read off a handler's types."""

from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID

import litestar
from litestar import Request
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody

from crm.errors import CrmError

BODY_MAX = 1_000_000
BATCH_BODY_MAX = 5_000_000
DEPENDENCIES = frozenset({"session", "now", "by", "once", "region"})
"""What a handler asks for by the name of its argument; see crm.app."""


def _route(
    factory: Callable[..., Any], path: str, *, scopes: frozenset[str] | set[str],
    problems: tuple[type[CrmError], ...] = (), repeated: str | None = None, headers: tuple[str, ...] = (),
    body_max: int = BODY_MAX, documented: bool = True, **options: Any,
) -> Callable[[Callable[..., Any]], HTTPRouteHandler]:  # fmt: skip
    """A decorator whose docstring is the operation's summary and description.

    `problems` are refusals of its own, beyond what its arguments imply. `repeated` says what a 200 means where the
    first request answered 201. `headers` are what its answer carries besides those of every answer.
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
            operation_id=function.__name__,
            summary=summary.rstrip("."),
            description=" ".join(description.split()) or None,
            request_max_body_size=body_max,
            **options,
        )(_marked(function))
        return handler

    return decorate


def _marked(function: Callable[..., Any]) -> Callable[..., Any]:
    """Say for every handler, in Litestar's words, which arguments are dependencies and which is the body."""
    types: dict[str, Any] = function.__annotations__
    for name in types:
        marker: Any = NamedDependency if name in DEPENDENCIES else JSONBody if name == "data" else None
        if marker is not None:
            types[name] = marker[types[name]]
    return function


get = partial(_route, litestar.get)
post = partial(_route, litestar.post)
put = partial(_route, litestar.put)
patch = partial(_route, litestar.patch)
delete = partial(_route, litestar.delete)

ContactId = UUID
AnyRequest = Request[Any, Any, Any]
