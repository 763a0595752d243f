"""Every refusal as RFC 9457 problem+json, in one place."""

import http
from collections.abc import Mapping
from typing import Any

import asyncpg
import msgspec
import structlog
from litestar import Request, Response
from litestar.enums import ParamType
from litestar.exceptions import HTTPException
from litestar.exceptions import ValidationException as LitestarValidation
from litestar.params import ParameterKwarg

from crm.db.idempotency import Replay
from crm.errors import (
    Conflict,
    CrmError,
    Forbidden,
    Invalid,
    Malformed,
    NotFound,
    Stale,
    Unauthenticated,
    Unavailable,
)

PROBLEM_JSON = "application/problem+json"
RETRY_AFTER_SECONDS = 1


class UnsupportedMediaType(Malformed):
    code = "unsupported_media_type"
    title = "Send JSON"


class NoTable(UnsupportedMediaType):
    code = "no_table"
    title = "Send a CSV file or an Excel workbook"


class BodyTooLarge(Malformed):
    code = "body_too_large"
    title = "Send less at once"


_STATUS: Mapping[type[CrmError], int] = {
    BodyTooLarge: 413,
    UnsupportedMediaType: 415,
    Malformed: 400,
    Unauthenticated: 401,
    Forbidden: 403,
    NotFound: 404,
    Conflict: 409,
    Stale: 412,
    Invalid: 422,
    Unavailable: 503,
}

# What passes when it is tried again: a failover, a deadlock, a lock or statement time-out, no connection left.
_TRANSIENT = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
    asyncpg.QueryCanceledError,
    asyncpg.TooManyConnectionsError,
    asyncpg.CannotConnectNowError,
    asyncpg.PostgresConnectionError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.DiskFullError,
    asyncpg.OutOfMemoryError,
    asyncpg.OperatorInterventionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a connection that broke off within a statement, and was given out again
    ConnectionError,
    TimeoutError,
)

_log = structlog.get_logger("crm.api")


def request_id_of(request: Request[Any, Any, Any]) -> str:
    """The id that the edge gave the request, or took over from the caller."""
    return str(request.scope.get("request_id", ""))


def problem(
    request_id: str,
    status: int,
    *,
    code: str,
    title: str,
    detail: str,
    errors: list[dict[str, str]] | None = None,
    members: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The problem document itself; a batch puts the same shape beside the items it refused."""
    return {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": request_id,
        "errors": errors or [],
        **(members or {}),
    }


def problem_of(error: CrmError, request_id: str) -> dict[str, Any]:
    """A refusal of ours as a problem document."""
    return problem(
        request_id,
        status_of(error),
        code=error.code,
        title=error.title,
        detail=error.detail,
        errors=[{"pointer": e.pointer, "code": e.code, "message": e.message} for e in error.errors],
        members=error.members,
    )


def status_of(error: CrmError | type[CrmError]) -> int:
    """The HTTP status of a refusal, or of a class of refusals."""
    refusal = error if isinstance(error, type) else type(error)
    return next(_STATUS[kind] for kind in refusal.__mro__ if kind in _STATUS)


def respond(request: Request[Any, Any, Any], exception: Exception) -> Response[bytes]:
    """Litestar's one exception handler."""
    request_id = request_id_of(request)
    headers: dict[str, str] = {}
    if isinstance(exception, Replay):
        return Response(
            exception.body,
            status_code=exception.status,
            media_type="application/json",
            headers={"Idempotency-Replayed": "true"},
        )
    if isinstance(exception, CrmError):
        document = problem_of(exception, request_id)
        if isinstance(exception, Unauthenticated):
            headers["WWW-Authenticate"] = "Bearer"
    elif isinstance(exception, HTTPException):
        document = _framework_problem(exception, request, request_id)
        headers.update(exception.headers or {})
    elif isinstance(exception, _TRANSIENT) or (isinstance(exception, OSError) and exception.errno is not None):
        _log.warning("database_unavailable", error=repr(exception), request_id=request_id)
        document = problem(
            request_id, 503, code="unavailable", title=Unavailable.title,
            detail="Nothing was changed. Send the same request again, with the same Idempotency-Key.",
        )  # fmt: skip
    elif isinstance(exception, asyncpg.UniqueViolationError):
        document = problem(
            request_id, 409, code="conflict", title=Conflict.title,
            detail="Somebody else wrote the same at this moment. Read it, and send the request again if it is needed.",
        )  # fmt: skip
    elif isinstance(exception, asyncpg.DataError):
        # A value that passed our checks and not the database's: our checks have a hole, the caller still gets a 422.
        _log.error("unchecked_value", error=repr(exception), request_id=request_id)
        document = problem(
            request_id, 422, code="invalid", title=Invalid.title, detail="A value is out of the range that can be kept."
        )
    else:
        _log.error("unexpected", request_id=request_id, exc_info=exception)
        document = problem(
            request_id, 500, code="internal", title="Something went wrong here",
            detail="This is our mistake. Tell us the request_id.",
        )  # fmt: skip
    if document["status"] == 503:
        headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return Response(
        msgspec.json.encode(document), status_code=document["status"], media_type=PROBLEM_JSON, headers=headers
    )


def _framework_problem(exception: HTTPException, request: Request[Any, Any, Any], request_id: str) -> dict[str, Any]:
    status = exception.status_code
    if isinstance(exception, LitestarValidation):
        return _parameter_problem(exception, request, request_id)
    phrase = http.HTTPStatus(status).phrase
    return problem(
        request_id,
        status,
        code={413: "body_too_large", 415: "unsupported_media_type"}.get(status, phrase.lower().replace(" ", "_")),
        title=phrase,
        detail=exception.detail or phrase,
    )


def _parameter_problem(
    exception: LitestarValidation, request: Request[Any, Any, Any], request_id: str
) -> dict[str, Any]:
    extra: Any = exception.extra if isinstance(exception.extra, list) else []
    if any(item.get("key") == "data" for item in extra) or not extra:
        return problem(
            request_id, 400, code="malformed", title=Malformed.title, detail="Send a JSON body, as application/json."
        )
    return problem(
        request_id,
        422,
        code="invalid",
        title=Invalid.title,
        detail="A parameter is not valid.",
        errors=[
            {
                "pointer": f"{ParamType(item.get('source', 'path')).value}/{_parameter_name(request, item)}",
                "code": "invalid",
                "message": str(item.get("message", "")),
            }
            for item in extra
        ],
    )


def _parameter_name(request: Request[Any, Any, Any], item: Mapping[str, Any]) -> str:
    """A parameter's name as the caller knows it; the framework tells ours."""
    name = str(item.get("key", ""))
    field = request.route_handler.parsed_fn_signature.parameters.get(name)
    said = field.kwarg_definition if field is not None else None
    return said.name or name if isinstance(said, ParameterKwarg) else name
