from collections.abc import Iterator

import pytest

from tests.insights.played import Table


@pytest.fixture
def table(dsn: str) -> Iterator[Table]:
    """For a test that is not a coroutine, such as one that Hypothesis runs."""
    table = Table(dsn)
    yield table
    table.close()
