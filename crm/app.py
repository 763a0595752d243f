"""The application: routes, the edge around them, and the database's life."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta

from litestar import Litestar, Router
from litestar.di import Provide
from litestar.types import ASGIApp
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector

from crm.api import (
    agents,
    attribute_definitions,
    auth,
    backtests,
    blocked_identities,
    business_calendars,
    case_conversations,
    case_rules,
    cases,
    challenges,
    channel_accounts,
    consents,
    contacts,
    deliveries,
    docs,
    duplicates,
    earning_rules,
    erasures,
    errors,
    events,
    exports,
    health,
    holds,
    identities,
    imports,
    inbox,
    insights,
    interactions,
    keys,
    loyalty,
    me,
    members,
    memberships,
    merges,
    message_templates,
    messages,
    offers,
    playbooks,
    programs,
    purchases,
    redemptions,
    referrals,
    refunds,
    requests,
    rewards,
    routes,
    search,
    segments,
    sla_policies,
    surveys,
    tasks,
    threads,
    tiers,
    trials,
    voucher_pools,
    vouchers,
)
from crm.api.edge import Edge
from crm.api.inbox_metrics import InboxMetrics
from crm.db.session import Database
from crm.db.vault import Vault
from crm.inbox.house import House
from crm.inbox.reception import Reception
from crm.settings import Settings

V1 = [
    *keys.handlers,
    *contacts.handlers,
    *search.handlers,
    *segments.handlers,
    *identities.handlers,
    *blocked_identities.handlers,
    *consents.handlers,
    *attribute_definitions.handlers,
    *duplicates.handlers,
    *merges.handlers,
    *erasures.handlers,
    *surveys.handlers,
    *tasks.handlers,
    *cases.handlers,
    *case_conversations.handlers,
    *case_rules.handlers,
    *sla_policies.handlers,
    *business_calendars.handlers,
    *agents.handlers,
    *playbooks.handlers,
    *interactions.handlers,
    *messages.handlers,
    *programs.handlers,
    *earning_rules.handlers,
    *tiers.handlers,
    *backtests.handlers,
    *loyalty.handlers,
    *purchases.handlers,
    *rewards.handlers,
    *offers.handlers,
    *redemptions.handlers,
    *vouchers.handlers,
    *voucher_pools.handlers,
    *refunds.handlers,
    *holds.handlers,
    *members.handlers,
    *me.handlers,
    *insights.handlers,
    *events.handlers,
    *memberships.handlers,
    *challenges.handlers,
    *referrals.handlers,
    *imports.handlers,
    *exports.handlers,
    *threads.handlers,
    *channel_accounts.handlers,
    *trials.handlers,
    *message_templates.handlers,
    *deliveries.handlers,
    *inbox.handlers,
]


def create_app(
    database: Callable[[], AbstractAsyncContextManager[Database]], *, house: House | None = None,
    vault: Vault | None = None,
) -> tuple[Litestar, ASGIApp]:  # fmt: skip
    """The Litestar application and, around it, what a server should call.

    `database` opens the pool when the application starts and closes it when it stops. Without a `vault`, nobody can
    read secrets any more when the application has stopped.
    Raises RuntimeError for a route without declared scopes, and for one that is a member's by its path or by its scope
    only.
    """
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        async with database() as pool:
            app.state.database = pool
            app.state.authenticator = auth.Authenticator(pool)
            app.state.reception = Reception(pool, app.state.vault)
            yield

    public = [*health.handlers, *docs.handlers, *surveys.public]
    app = Litestar(
        [
            Router("/v1", route_handlers=[*routes.options(V1), *V1]),
            *routes.options(public),
            *public,
        ],
        lifespan=[lifespan],
        before_request=requests.admit,
        request_class=requests.ApiRequest,
        logging_config=None,
        exception_handlers={Exception: errors.respond},
        dependencies={"session": Provide(requests.provide_session)},
        openapi_config=None,  # the contract is crm.api.contract's
    )
    app.state.registry = registry
    app.state.house = house or House("ID", timedelta(days=1))
    app.state.region = app.state.house.region
    app.state.exporting = asyncio.Semaphore(exports.EXPORTS_MAX)
    app.state.inbox_metrics = InboxMetrics(registry)
    app.state.vault = vault or Vault(secrets.token_hex())
    for route in app.routes:
        for handler in getattr(route, "route_handlers", ()):
            if "OPTIONS" in handler.http_methods:
                continue
            if "scopes" not in handler.opt:
                raise RuntimeError(f"{route.path} declares no scopes")
            if (handler.opt["scopes"] == auth.MEMBER) != f"{route.path}/".startswith("/v1/me/"):
                raise RuntimeError(f"{route.path}: what lies under /v1/me is for members, and nothing else is")
            if handler.resolve_before_request() is not app.before_request:
                raise RuntimeError(f"{route.path} lets in whoever comes: before_request belongs to the application")
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

    return create_app(database, house=House.of(settings), vault=Vault.of(settings))[1]
