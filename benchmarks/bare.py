"""What the service is compared with: Litestar and asyncpg with nothing between them, and none of our guarantees."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg
from litestar import Litestar, Request, get, post
from litestar.params import FromPath, JSONBody
from litestar.types import ASGIApp
from pydantic import BaseModel

from crm.db.session import Connection
from crm.settings import Settings

SCHEMA = """
    CREATE TABLE bare_balances (contact_id uuid PRIMARY KEY, balance bigint NOT NULL);
    CREATE TABLE bare_entries (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, contact_id uuid NOT NULL, points bigint NOT NULL,
        reason text NOT NULL, at timestamptz NOT NULL
    );
"""
DELIVERIES = """
    CREATE TABLE bare_deliveries (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, received_at timestamptz NOT NULL, headers jsonb NOT NULL,
        body bytea NOT NULL
    );
"""
KEEP = "INSERT INTO bare_deliveries (received_at, body, headers) VALUES (now(), $1, $2)"
UPDATE = "UPDATE bare_balances SET balance = balance + $2 WHERE contact_id = $1 RETURNING balance"
INSERT = "INSERT INTO bare_entries (contact_id, points, reason, at) VALUES ($1, $2, $3, now())"
AWARD = f"WITH u AS ({UPDATE}), i AS ({INSERT}) SELECT balance FROM u"
BALANCE = """
    SELECT program_id, available, pending, held, lifetime_earned, lifetime_redeemed
    FROM loyalty_accounts WHERE contact_id = $1
"""


class Award(BaseModel):
    points: int
    reason: str


@get("/health/live")
async def live() -> str:
    """What `crm serve` asks before it says that it is ready."""
    return "alive"


@get("/contacts/{contact_id:uuid}/balance")
async def balance(contact_id: FromPath[UUID], request: Request[Any, Any, Any]) -> dict[str, Any]:
    """One SELECT."""
    async with request.app.state.pool.acquire() as connection:
        return dict(await connection.fetchrow(BALANCE, contact_id))


@post("/contacts/{contact_id:uuid}/awards")
async def award(contact_id: FromPath[UUID], data: JSONBody[Award], request: Request[Any, Any, Any]) -> dict[str, Any]:
    """One statement that writes two rows."""
    async with request.app.state.pool.acquire() as connection:
        return {"balance": await connection.fetchval(AWARD, contact_id, data.points, data.reason)}


@post("/deliveries", status_code=200)
async def keep(request: Request[Any, Any, Any]) -> None:
    """One row, unchecked."""
    body, headers = await request.body(), json.dumps(dict(request.headers))
    async with request.app.state.pool.acquire() as connection:
        await connection.execute(KEEP, body, headers)


def app_factory() -> ASGIApp:
    """Configured by the same settings as ours."""
    settings = Settings()

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        async with asyncpg.create_pool(
            settings.database_url, min_size=0, max_size=settings.pool_size_max, connection_class=Connection
        ) as app.state.pool:
            yield

    return Litestar([live, balance, award, keep], lifespan=[lifespan], logging_config=None, openapi_config=None)
