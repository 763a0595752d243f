"""`/health/*` and `/metrics`, for whoever watches the service."""

from typing import Any

from litestar import Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from crm.api.auth import PUBLIC
from crm.api.routes import AnyRequest, get
from crm.db.session import Database
from crm.errors import Unavailable


@get("/health/live", scopes=PUBLIC)
async def live() -> dict[str, str]:
    """Say that the process runs."""
    return {"status": "ok"}


@get("/health/ready", scopes=PUBLIC)
async def ready(request: AnyRequest) -> dict[str, str]:
    """Say that the database answers too."""
    database: Database = request.app.state.database
    async with database.reading() as session:
        if await session.fetchval("SELECT 1") != 1:
            raise Unavailable("The database does not answer.")
    return {"status": "ok"}


@get("/metrics", scopes=PUBLIC, media_type="text/plain", documented=False)
async def metrics(request: AnyRequest) -> Response[Any]:
    """Prometheus metrics of this process."""
    await request.app.state.inbox_metrics.read(request.app.state.database, request.app.state.reception)
    return Response(generate_latest(request.app.state.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


handlers = [live, ready, metrics]
