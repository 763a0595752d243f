"""Route decorators that make a scope compulsory and put the problems a route can answer into the OpenAPI."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

import litestar
from litestar import Request
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from litestar.params import JSONBody

from crm.api.errors import PROBLEM_JSON

BODY_MAX = 1_000_000
BATCH_BODY_MAX = 5_000_000
DEPENDENCIES = frozenset({"session", "now", "by", "once", "region"})
"""What a handler asks for by the name of its argument; see crm.app."""


@dataclass(slots=True)
class ProblemError:
    """What is wrong with one field."""

    pointer: str
    code: str
    message: str


@dataclass(slots=True)
class Problem:
    """RFC 9457; further members carry the numbers of the refusal, such as `missing`."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[ProblemError]


_MEANINGS: Mapping[int, tuple[str, str]] = {
    400: ("malformed", "The body is not JSON, or the cursor was not made here."),
    401: ("unauthenticated", "No key was sent, or it is unknown, expired or revoked."),
    403: ("scope_missing", "The key lacks a scope."),
    404: ("not_found", "There is no such thing."),
    409: ("conflict", "The current state does not allow this."),
    412: ("stale_version", "It has changed since `If-Match` was read."),
    413: ("body_too_large", "The body is larger than this route takes."),
    415: ("unsupported_media_type", "Send application/json."),
    422: ("invalid", "The content breaks a rule; `errors` names the fields."),
    503: ("unavailable", "The service can't answer now; send the same request again."),
}


def _responses(method: str, path: str, scopes: frozenset[str], conflicts: tuple[int, ...]) -> dict[int, ResponseSpec]:
    statuses = {400, 422, 503, *conflicts}
    if scopes:
        statuses |= {401, 403}
    if "{" in path:
        statuses.add(404)
    if method in {"POST", "PUT", "PATCH"}:
        statuses |= {404, 409, 413, 415}
    if method == "DELETE":
        statuses |= {404, 409}
    return {status: _problem_spec(status) for status in sorted(statuses)}


def _problem_spec(status: int) -> ResponseSpec:
    code, meaning = _MEANINGS[status]
    example = Problem("about:blank", meaning, status, meaning, code, "019a3c5e7b1e7cc0a3f2", [])
    return ResponseSpec(
        Problem,
        media_type=PROBLEM_JSON,
        description=meaning,
        generate_examples=False,
        examples=[Example(value=example)],
    )


def _route(
    factory: Callable[..., Any], method: str, path: str, *, scopes: frozenset[str] | set[str],
    problems: tuple[int, ...] = (), body_max: int = BODY_MAX, **options: Any,
) -> Callable[[Callable[..., Any]], HTTPRouteHandler]:  # fmt: skip
    def decorate(function: Callable[..., Any]) -> HTTPRouteHandler:
        summary, _, description = (function.__doc__ or "").strip().partition("\n")
        options.setdefault("summary", summary.rstrip("."))
        options.setdefault("description", " ".join(description.split()) or None)
        options.setdefault("operation_id", function.__name__)
        granted = frozenset(scopes)
        if granted:
            options.setdefault("security", [{"bearer": sorted(granted)}])
        handler: HTTPRouteHandler = factory(
            path,
            scopes=granted or scopes,
            responses=_responses(method, path, granted, problems),
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


get = partial(_route, litestar.get, "GET")
post = partial(_route, litestar.post, "POST")
put = partial(_route, litestar.put, "PUT")
patch = partial(_route, litestar.patch, "PATCH")
delete = partial(_route, litestar.delete, "DELETE")

ContactId = UUID
AnyRequest = Request[Any, Any, Any]
