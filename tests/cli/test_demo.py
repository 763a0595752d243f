"""`crm demo`, as a command in a place of its own."""

import os
import subprocess
import sys

from crm.db.session import Database
from crm.loyalty import audit


async def test_the_demo_makes_a_year_that_the_audit_finds_clean(database: Database, dsn: str) -> None:
    environment = os.environ | {"CRM_DATABASE_URL": dsn, "COLUMNS": "200"}
    command = [sys.executable, "-m", "crm.cli", "demo", "--contacts", "25"]

    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Kopi Senja: 25 contacts, ")
    async with database.reading() as session:
        assert await session.fetchval("SELECT count(*) FROM contacts") == 25
        assert await session.fetchval("SELECT count(DISTINCT channel) FROM interactions") >= 5
        assert await session.fetchval("SELECT count(*) FROM redemptions") > 0
        assert await session.fetchval("SELECT count(DISTINCT tier_id) FROM loyalty_accounts") >= 2
        for name in ("vouchers", "challenge_cards", "qualifying_days", "offers"):
            assert await session.fetchval(f"SELECT count(*) FROM {name}") > 0, name
        assert await session.fetchval("SELECT count(*) FROM points_transactions WHERE kind = 'expire'") > 0
        span = await session.fetchval("SELECT max(occurred_at) - min(occurred_at) FROM purchases")
        assert span.days > 180
        assert not (await audit.verify(session)).findings

    again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)

    assert again.returncode == 1
    assert "only for an empty place" in again.stderr
