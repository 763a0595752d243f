"""Fixtures of the tests that leave a ledger behind: whatever they did, the audit has nothing to say about it."""

from collections.abc import AsyncIterator

import pytest

from crm.db.session import Database, Session
from crm.loyalty import audit
from tests.loyalty.town import audited


@pytest.fixture
async def audited_session(session: Session) -> AsyncIterator[None]:
    yield
    assert (await audit.verify(session)).findings == []


@pytest.fixture
async def audited_database(database: Database) -> AsyncIterator[None]:
    yield
    await audited(database)
