"""Looking for somebody who is known already uses its indexes, however many are known."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

import pytest

from benchmarks import history, town
from benchmarks.footprint import probed
from crm.db.session import Database
from tests.conftest import Template

RECORDS: Final = 20_000
NEWCOMERS: Final = {
    "somebody with a name only": ({}, 30),
    "somebody with a birth date": ({"birth_on": None}, 40),
    "somebody with a number and an e-mail address": (
        {"identities": [{"kind": "phone"}, {"kind": "email"}]},
        350,
    ),
}
"""Who comes, and how many pages of 8 KB taking them up may look at."""


_NUMBERS = count()


@dataclass(frozen=True, slots=True)
class Town:
    """A database with many people, and a key to the API on it."""

    dsn: str
    token: str


@pytest.fixture(scope="module")
async def crowd(migrated: Template) -> AsyncIterator[Town]:
    async with migrated.clone() as dsn:
        shop = await history.open_shop(dsn)
        database = await Database.connect(dsn, size_max=1)
        async with database.begin() as session:
            await town.settle(session, town.records(RECORDS, doubled=0, seed=9))
        await database.close()
        yield Town(dsn, shop.token)


@pytest.mark.parametrize("newcomer", NEWCOMERS)
@pytest.mark.parametrize("on_duplicate", ["create", "link"])
async def test_taking_somebody_up_reads_no_table_whole(crowd: Town, newcomer: str, on_duplicate: str) -> None:
    known, pages_max = NEWCOMERS[newcomer]

    def somebody() -> dict[str, Any]:
        number = next(_NUMBERS)
        values = {"phone": f"0812{number:05}555", "email": f"kucing{number}{on_duplicate}@gmail.com"}
        identities = [one | {"value": values[one["kind"]]} for one in known.get("identities", ())]
        # Nobody resembles whoever came before, or it would be told.
        name = "".join(2 * "bdfglmnprt"[int(digit)] + "ao" for digit in f"{number:03}")
        body = {"name": name, "identities": identities}
        if "birth_on" in known:
            body["birth_on"] = f"{1920 + number}-06-20"
        return {"method": "POST", "url": "/v1/contacts", "json": body | {"on_duplicate": on_duplicate}}

    async with probed(crowd.dsn, crowd.token, generic_plans=True) as probe:
        found = await probe.least(somebody)
    assert found.scanned == []
    assert found.buffers <= pages_max
