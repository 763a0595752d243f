"""How often something happened: counted in SQL, and as Python would count it."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from crm.contacts import conditions
from crm.contacts.conditions import Did
from crm.contacts.fields import Fields
from crm.db import writes
from crm.db.ids import uuid7
from crm.db.session import Session
from crm.interactions import histories, timeline
from crm.interactions.contribution import INTERACTIONS
from crm.interactions.timeline import Interaction

JAKARTA = ZoneInfo("Asia/Jakarta")
NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)


def did(kind: str = "visit", **asked: Any) -> Did:
    history = conditions.parse({"did": kind, **asked}, fields=Fields(()), interactions=INTERACTIONS)
    assert isinstance(history, Did)
    return history


def interaction(contact_id: UUID, *, occurred_at: datetime = NOW, kind: str = "visit", **facts: Any) -> Interaction:
    row = timeline.entry(
        contact_id, occurred_at=occurred_at, recorded_at=NOW, kind=kind, by="test", **{"channel": "web", **facts}
    )
    return Interaction(*row)


async def put(session: Session, happenings: Iterable[Interaction]) -> None:
    rows = [
        timeline.entry(
            one.contact_id, id=one.id, channel=one.channel, kind=one.kind, occurred_at=one.occurred_at,
            recorded_at=one.recorded_at, by=one.by, direction=one.direction, data=one.data,
        )
        for one in happenings
    ]  # fmt: skip
    await writes.write(session, [timeline.part(rows)])


async def counted(
    session: Session, history: Did, happenings: Sequence[Interaction], *, at: datetime = NOW, contact_id: UUID
) -> int:
    """How often it happened, which SQL and Python must agree on as far as it matters."""
    counts = await histories.count(session, histories=[history], moments=[(contact_id, at)], zone=JAKARTA)
    found = counts[contact_id, at][history]
    expected = sum(
        histories.would_count(history, one, at=at, zone=JAKARTA) for one in happenings if one.contact_id == contact_id
    )
    assert found == min(expected, history.enough)
    return found


async def test_only_this_kind_of_this_contact_counts(session: Session) -> None:
    sari, budi = uuid7(), uuid7()
    happenings = [
        interaction(sari), interaction(sari, kind="visit.ended"), interaction(sari, kind="purchase"),
        interaction(budi), interaction(budi),
    ]  # fmt: skip
    await put(session, happenings)
    many = {"count": {"lt": 9}}
    assert await counted(session, did("visit", **many), happenings, contact_id=sari) == 1
    assert await counted(session, did("visit.ended", **many), happenings, contact_id=sari) == 1
    assert await counted(session, did("visit", **many), happenings, contact_id=budi) == 2
    assert await counted(session, did("purchase", **many), happenings, contact_id=budi) == 0


@pytest.mark.parametrize(
    ("within", "occurred_at", "counts"),
    [
        (None, NOW, True),
        (None, datetime(1950, 1, 1, tzinfo=UTC), True),
        (None, NOW + timedelta(microseconds=1), False),
        ("P90D", NOW - timedelta(days=90), True),
        ("P90D", NOW - timedelta(days=90, microseconds=1), False),
        ("PT1H", NOW - timedelta(hours=1), True),
        ("PT1H", NOW - timedelta(hours=1, microseconds=1), False),
        ("P200Y", datetime(1950, 1, 1, tzinfo=UTC), True),
    ],
)
async def test_what_happened_up_to_the_moment_counts_both_ends_of_the_spell_included(
    session: Session, within: str | None, occurred_at: datetime, counts: bool
) -> None:
    sari = uuid7()
    happenings = [interaction(sari, occurred_at=occurred_at)]
    await put(session, happenings)
    assert await counted(session, did(within=within), happenings, contact_id=sari) == counts


async def test_a_month_is_one_of_the_calendar_of_the_zone(session: Session) -> None:
    sari, history = uuid7(), did(within="P1M")
    at = datetime(2026, 3, 30, 18, 0, tzinfo=UTC)  # in Jakarta the 31st, a month after 28 February
    happenings = [interaction(sari, occurred_at=datetime(2026, 2, 27, 18, 0, tzinfo=UTC))]
    await put(session, happenings)
    assert await counted(session, history, happenings, at=at, contact_id=sari) == 1
    assert await counted(session, history, happenings, at=at + timedelta(seconds=1), contact_id=sari) == 0
    in_utc = await histories.count(session, histories=[history], moments=[(sari, at)], zone=UTC)
    assert in_utc[sari, at][history] == 0


async def test_it_is_counted_no_further_than_makes_a_difference(session: Session) -> None:
    sari = uuid7()
    happenings = [interaction(sari) for _ in range(7)]
    await put(session, happenings)
    assert await counted(session, did(), happenings, contact_id=sari) == 1
    assert await counted(session, did(count={"lt": 3}), happenings, contact_id=sari) == 3
    assert await counted(session, did(count={"gte": 0}), happenings, contact_id=sari) == 0
    assert await counted(session, did(count={"eq": 0}), happenings, contact_id=sari) == 1
    assert await counted(session, did(count={"gte": 2, "lte": 4}), happenings, contact_id=sari) == 5
    assert await counted(session, did(count={"gte": 100}), happenings, contact_id=sari) == 7


async def test_all_histories_at_all_moments_are_one_query(session: Session, statements: list[str]) -> None:
    people = [uuid7() for _ in range(3)]
    await put(
        session, [interaction(person, occurred_at=NOW - timedelta(days=n)) for person in people for n in range(5)]
    )
    asked = [did(count={"lt": 99}), did(count={"lt": 99}, within="P2D"), did("purchase")]
    moments = [(person, NOW - timedelta(days=n)) for person in people for n in range(5)]
    statements.clear()
    counts = await histories.count(session, histories=asked, moments=moments, zone=JAKARTA)
    assert len(statements) == 1
    for number, moment in enumerate(moments):
        assert list(counts[moment].values()) == [5 - number % 5, min(5 - number % 5, 3), 0]


async def test_nothing_is_asked_where_nothing_has_to_be_known(session: Session, statements: list[str]) -> None:
    moment = (uuid7(), NOW)
    assert await histories.count(session, histories=[], moments=[moment], zone=JAKARTA) == {moment: {}}
    assert await histories.count(session, histories=[did()], moments=[], zone=JAKARTA) == {}
    assert statements == []


# ---------------------------------------------------------------- where

_MISSING = object()
FOUND = [
    _MISSING, None, "", "a", "A", "Bandung", "vip", "vip club", "45000.00", "0045", "-5.5", "1e3", " 7", "7\n",
    "9" * 16, "1.1234567", "true", 0, 1, 1.0, 7, 45000, 0.1, -5.5, 1e20, 1e-7, 2**53 - 1, True, False,
    [], ["vip"], ["a", "vip"], [1, "1"], [["vip"]], [True], {}, {"vip": 1}, Decimal("45000.00"), UUID(int=7),
]  # fmt: skip
VALUES = ["a", "vip", "45000.00", "true", str(UUID(int=7)), 0, 1, 7, 0.1, 45000, -5.5, 2**53 - 1, True, False]
WHERE = [
    *[{"field": "data.x", "op": op, "value": value} for op in ("eq", "ne") for value in VALUES],
    *[
        {"field": "data.x", "op": op, "value": value}
        for op in ("gt", "gte", "lt", "lte")
        for value in (0, 1, 0.1, 45000, "45000.00", -5.5, "1")
    ],
    *[
        {"field": "data.x", "op": op, "value": values}
        for op in ("in", "not_in")
        for values in (["a", "vip"], ["45000.00"], [1, 7], [0.1, 45000], [True], [False, True], ["1", "true"])
    ],
    *[
        {"field": "data.x", "op": op, "value": value}
        for op in ("contains", "starts_with")
        for value in ("a", "vip", "1", "%", "_", "\\")
    ],
    *[{"field": "data.x", "op": "exists", "value": value} for value in (True, False)],
    *[
        {"field": field, "op": op, "value": value}
        for field in ("channel", "direction")
        for op, value in (
            ("eq", "web"), ("ne", "web"), ("eq", "inbound"), ("in", ["web", "outbound"]), ("not_in", ["inbound"]),
            ("contains", "bound"), ("starts_with", "w"), ("exists", True), ("exists", False),
        )
    ],
    {"field": "kind", "op": "eq", "value": "visit"},
    {"all": [{"field": "data.x", "op": "exists"}, {"not": {"field": "data.x", "op": "eq", "value": "a"}}]},
    {"any": [{"field": "channel", "op": "eq", "value": "shop"}, {"field": "data.x", "op": "gte", "value": 7}]},
    {"not": {"any": [{"field": "direction", "op": "exists"}, {"not": {"field": "data.x", "op": "ne", "value": 1}}]}},
]  # fmt: skip


async def test_sql_and_python_agree_on_what_a_history_counts(session: Session) -> None:
    happenings = [
        interaction(uuid7(), data={} if found is _MISSING else {"x": found}, channel=channel, direction=direction)
        for found in FOUND
        for channel, direction in (("web", None), ("shop", "inbound"))
    ]
    await put(session, happenings)
    moments = [(one.contact_id, NOW) for one in happenings]
    admitted = dict.fromkeys((True, False), 0)
    for number in range(0, len(WHERE), 20):
        asked = {did(where=where): where for where in WHERE[number : number + 20]}
        counts = await histories.count(session, histories=asked, moments=moments, zone=JAKARTA)
        for one in happenings:
            for history, where in asked.items():
                expected = histories.would_count(history, one, at=NOW, zone=JAKARTA)
                assert counts[one.contact_id, NOW][history] == expected, (where, one.data, one.channel, one.direction)
                admitted[expected] += 1
    assert min(admitted.values()) > 500


async def test_a_name_within_the_data_is_a_parameter(session: Session) -> None:
    sari = uuid7()
    happenings = [interaction(sari, data={"größe.eu": "42", "x": "42"})]
    await put(session, happenings)
    history = did(where={"field": "data.größe.eu", "op": "eq", "value": "42"})
    assert await counted(session, history, happenings, contact_id=sari) == 1
    with pytest.raises(conditions.InvalidCondition):
        did(where={"field": "data.x' = '42", "op": "exists"})
