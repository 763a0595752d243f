"""`crm keys`, as commands on a database with real commits."""

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from crm.api import tokens
from crm.api.auth import Authenticator
from crm.db.ids import uuid7
from crm.db.session import Database

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(dsn: str) -> Run:
    """Runs `crm keys`."""

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "crm.cli", "keys", *arguments]
        environment = os.environ | {"CRM_DATABASE_URL": dsn, "COLUMNS": "240"}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)

    return run


async def test_a_new_key_stands_alone_on_stdout_and_works_until_it_is_revoked(database: Database, run: Run) -> None:
    key = run("create", "till", "--scope", "loyalty:award", "--scope", "contacts:read").stdout.removesuffix("\n")

    assert "\n" not in key
    principal = await Authenticator(database).principal(key)
    assert principal is not None
    assert principal.scopes == {"loyalty:award", "contacts:read"}
    listed = run("list").stdout
    assert key not in listed
    assert "till" in listed

    assert run("revoke", str(principal.id)).returncode == 0

    assert await Authenticator(database).principal(key) is None


async def test_an_unknown_scope_is_named_and_nothing_is_made(database: Database, run: Run) -> None:
    done = run("create", "till", "--scope", "points:steal")

    assert done.returncode == 1
    assert "points:steal" in done.stderr
    assert done.stdout == ""
    async with database.reading() as session:
        assert await session.fetchval("SELECT count(*) FROM api_keys") == 0


async def test_a_new_secret_for_members_ends_their_tokens_and_prints_nothing(database: Database, run: Run) -> None:
    contact_id, now = uuid7(), datetime.now(UTC)
    async with database.begin() as session:
        await session.execute(
            "INSERT INTO contacts (id, name, created_at, updated_at) VALUES ($1, 'Sari', $2, $2)", contact_id, now
        )
        issued = await tokens.issue(session, contact_id=contact_id, expires_in=timedelta(hours=1), once=None, now=now)
    authenticator = Authenticator(database)
    assert await authenticator.principal(issued.token) is not None

    done = run("rotate-members")

    assert (done.returncode, done.stdout) == (0, "")
    assert await authenticator.principal(issued.token) is None


async def test_the_secret_for_members_may_be_changed_before_there_is_one(database: Database, run: Run) -> None:
    assert run("rotate-members").returncode == 0
    async with database.reading() as session:
        assert await session.fetchval("SELECT count(*) FROM member_token_secrets") == 1
