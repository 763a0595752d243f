"""Whoever wrote a message that went out is told apart alike in Python and in SQL."""

from typing import Any

import pytest

from crm.interactions.authorship import BY_HUMAN, is_machine


@pytest.mark.parametrize(
    ("by", "data", "machine"),
    [
        ("key:desk", {}, False),
        ("key:desk", None, False),
        ("channel:Toko", {"text": "Halo"}, False),
        ("key:desk", {"by": "human"}, False),
        ("key:desk", {"by": "bot"}, True),
        ("channel:Mail", {"automatic": "auto_reply"}, True),
        ("channel:Mail", {"automatic": None}, True),
        ("bot", {}, True),
        ("bot:helper", {}, True),
        ("playbook:birthday", {}, True),
        ("key:bot", {}, False),
        ("bottega", {}, False),
    ],
)
async def test_a_machine_is_told_from_a_person(session, by: str, data: dict[str, Any] | None, machine: bool):
    assert is_machine(by, data) is machine
    found = await session.fetchval(
        f"SELECT {BY_HUMAN} FROM (SELECT 'outbound' AS direction, $1::jsonb AS data, $2::text AS by) i", data or {}, by
    )
    assert found is not machine
