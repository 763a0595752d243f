"""The outermost ring: a request id, one log line and one measurement for every request, known route or not."""

import re
import time
from collections.abc import Callable

import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send
from prometheus_client import CollectorRegistry, Counter, Histogram

from crm.db.ids import uuid7

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}\Z")
_QUIET = frozenset({"/health/live", "/health/ready", "/metrics"})
_log = structlog.get_logger("crm.http")


class Edge:
    """Wraps the application; sets `scope["request_id"]`."""

    def __init__(self, app: ASGIApp, registry: CollectorRegistry) -> None:
        self._app = app
        self._seconds = Histogram(
            "http_request_duration_seconds", "How long requests took.", ("method", "path"), registry=registry
        )
        self._requests = Counter("http_requests", "Requests answered.", ("method", "path", "status"), registry=registry)
        self._observers: dict[tuple[str, str, int], tuple[Callable[[float], None], Callable[[], None]]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = (
            next(
                (
                    value.decode()
                    for name, value in scope["headers"]
                    if name == b"x-request-id" and _REQUEST_ID.match(value)
                ),
                None,
            )
            or uuid7().hex
        )
        scope["request_id"] = request_id  # type: ignore[typeddict-unknown-key]
        header = (b"x-request-id", request_id.encode())
        status = 500

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                location = scope.get("contact_location")
                moved = [] if location is None else [(b"content-location", str(location).encode())]
                message["headers"] = [*message["headers"], header, *moved]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            seconds = time.perf_counter() - started
            self._measure(scope, status, seconds)
            if scope["path"] not in _QUIET or status >= 500:
                principal = scope.get("auth")
                _log.info(
                    "request", request_id=request_id, method=scope["method"], path=scope["path"], status=status,
                    ms=round(seconds * 1000, 2), by=getattr(principal, "name", None),
                )  # fmt: skip

    def _measure(self, scope: HTTPScope, status: int, seconds: float) -> None:
        # The template, not the path: ids in labels would make a new series for every contact.
        key = (scope["method"], scope.get("path_template") or "unknown", status)
        observers = self._observers.get(key)
        if observers is None:
            method, path, _ = key
            observers = self._observers[key] = (
                self._seconds.labels(method, path).observe,
                self._requests.labels(method, path, str(status)).inc,
            )
        observers[0](seconds)
        observers[1]()
