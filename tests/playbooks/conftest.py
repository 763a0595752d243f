"""The hall that playbooks are tried in."""

import pytest

from tests.playbooks.hall import Hall


@pytest.fixture
async def hall(live_client):
    return await Hall.open(live_client)
