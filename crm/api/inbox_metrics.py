"""What the inbox tells whoever watches the service."""

import asyncio
from collections import Counter as Count
from typing import Final

import asyncpg
from prometheus_client import CollectorRegistry, Counter, Gauge

from crm.db.session import Database
from crm.inbox import accounts
from crm.inbox.reception import Reception

SECONDS_MAX: Final = 2
"""How long the database may take to answer, before nobody waits for it."""


class InboxMetrics:
    """Read when they are asked for. No names of accounts: the metrics are there for anybody who asks."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._silent = Gauge(
            "channel_accounts_silent", "Channel accounts of which nothing comes any more.", ("provider",),
            registry=registry,
        )  # fmt: skip
        self._refused = Counter(
            "inbox_deliveries_refused", "Deliveries that were not signed as they should be.", ("provider",),
            registry=registry,
        )  # fmt: skip
        self._told: Count[str] = Count()

    async def read(self, database: Database, reception: Reception) -> None:
        """Bring them up to date; what the database knows stays as it was while that does not answer."""
        for provider, count in reception.refused.items():
            self._refused.labels(provider).inc(count - self._told[provider])
            self._told[provider] = count
        try:
            async with asyncio.timeout(SECONDS_MAX), database.reading() as session:
                counts = await accounts.silent_counts(session)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return
        self._silent.clear()
        for provider, count in counts.items():
            self._silent.labels(provider).set(count)
