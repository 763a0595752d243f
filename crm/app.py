"""The application: routes, the edge around them, and the database's life."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from litestar import Litestar, Router
from litestar.di import Provide
from litestar.types import ASGIApp
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector

from crm.api import (
    auth,
    contacts,
    docs,
    errors,
    health,
    identities,
    interactions,
    keys,
    loyalty,
    programs,
    purchases,
    requests,
)
from crm.api.edge import Edge
from crm.db.session import Database
from crm.settings import Settings

V1 = [
    *keys.handlers,
    *contacts.handlers,
    *identities.handlers,
    *interactions.handlers,
    *programs.handlers,
    *loyalty.handlers,
    *purchases.handlers,
]


def create_app(
    database: Callable[[], AbstractAsyncContextManager[Database]], *, region: str = "ID"
) -> tuple[Litestar, ASGIApp]:
    """The Litestar application and, around it, what a server should call.

    `database` opens the pool when the application starts and closes it when it stops. `region` is the country of phone
    numbers that are written without one.
    Raises RuntimeError for a route without declared scopes.
    """
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        async with database() as pool:
            app.state.database = pool
            app.state.authenticator = auth.Authenticator(pool)
            yield

    app = Litestar(
        [
            Router("/v1", route_handlers=V1, before_request=requests.refuse_unknown_parameters),
            *health.handlers,
            *docs.handlers,
        ],
        lifespan=[lifespan],
        guards=[auth.authorize],
        request_class=requests.ApiRequest,
        logging_config=None,
        exception_handlers={Exception: errors.respond},
        dependencies={
            "session": Provide(requests.provide_session),
            "now": Provide(requests.provide_now),
            "by": Provide(requests.provide_by),
            "once": Provide(requests.provide_idempotency),
            "region": Provide(identities.provide_region),
        },
        openapi_config=None,  # the contract is crm.api.contract's
    )
    app.state.registry = registry
    app.state.region = region
    for route in app.routes:
        for handler in getattr(route, "route_handlers", ()):
            if "scopes" not in handler.opt and "OPTIONS" not in handler.http_methods:
                raise RuntimeError(f"{route.path} declares no scopes")
    return app, Edge(app, registry)


def app_factory() -> ASGIApp:
    """What the server loads in each of its processes: configured by the environment."""
    settings = Settings()

    @asynccontextmanager
    async def database() -> AsyncIterator[Database]:
        pool = await Database.connect(settings.database_url or "", size_max=settings.pool_size_max)
        try:
            yield pool
        finally:
            await pool.close()

    return create_app(database, region=settings.default_region)[1]
