"""A provider and an account of it."""

from typing import Any

import pytest

from crm.inbox import providers
from tests.inbox import toychat
from tests.inbox.desk import Desk


@pytest.fixture(autouse=True)
def _toychat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(providers.ADAPTERS, toychat.NAME, toychat.ToyChat())


@pytest.fixture
async def desk(client: Any) -> Desk:
    return await Desk.open(client)


@pytest.fixture
async def live_desk(live_client: Any) -> Desk:
    """The same with real commits."""
    return await Desk.open(live_client)
