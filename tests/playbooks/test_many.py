"""Many are found at once: in so many statements, however many they are, and by an index."""

from datetime import UTC, datetime

import pytest

from crm.playbooks import starting
from tests.playbooks.hall import GIFT

MORNING = datetime(2027, 3, 10, 3, tzinfo=UTC)
BIRTHDAY = {"kind": "date", "date": "birthday"}
_PEOPLE = """
    INSERT INTO contacts (id, name, birth_on, time_zone, created_at, updated_at)
    SELECT new_uuid7(), 'P' || n, $2, CASE WHEN n % 2 = 0 THEN 'Asia/Makassar' END, now(), now()
    FROM generate_series(1, $1) n
"""


async def begin(hall, count, statements):
    async with hall.client.database.begin() as session:
        await session.execute("DELETE FROM contacts")
        await session.execute("DELETE FROM playbook_runs")
        await session.execute("DELETE FROM playbook_days")
        await session.execute(_PEOPLE, count, datetime(1990, 3, 10).date())  # noqa: DTZ001 - a day
    statements.clear()
    begun = await hall.morning(MORNING)
    return begun.total(), len(statements)


async def test_a_day_costs_as_many_statements_for_many_as_for_few(hall, statements):
    await hall.active(
        trigger={"kind": "date", "date": "birthday"}, steps=[GIFT], since=datetime(2027, 3, 10, tzinfo=UTC)
    )
    few, many = [await begin(hall, count, statements) for count in (4, 400)]
    assert (few[0], many[0]) == (4, 400)
    assert few[1] == many[1]


async def test_a_day_that_breaks_off_goes_on_behind_whom_it_had(hall, statements, monkeypatch):
    monkeypatch.setattr(starting, "CHUNK", 10)
    await hall.active(
        trigger={"kind": "date", "date": "birthday"}, steps=[GIFT], since=datetime(2027, 3, 10, tzinfo=UTC)
    )
    move_on, said = starting._MOVE_ON, []

    async with hall.client.database.begin() as session:
        await session.execute(_PEOPLE, 45, datetime(1990, 3, 10).date())  # noqa: DTZ001 - a day
    monkeypatch.setattr(starting, "_MOVE_ON", move_on.replace("SET", "SET no_such_column = 1,"))
    with pytest.raises(Exception, match="no_such_column"):
        await hall.morning(MORNING)
    monkeypatch.setattr(starting, "_MOVE_ON", move_on)
    said.append((await hall.morning(MORNING)).total())
    said.append((await hall.morning(MORNING)).total())
    assert said == [45, 0]
