"""Limits of rules: how much one member may have of a rule in a day, a week, a month, a year or ever."""

from collections import Counter
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest

from tests.loyalty.shop import ORDER, PROGRAM, Shop, at_once, checksum, statuses

pytestmark = pytest.mark.usefixtures("audited_session")


class Club(Shop):
    """A shop in Jakarta whose only rules are those of the test."""

    @classmethod
    async def of(cls, client: Any, *rules: dict[str, Any], **terms: Any) -> "Club":
        club = cls(client, (await client.post("/v1/programs", json=PROGRAM | terms)).json()["id"])
        for rule in rules:
            await club.add_rule(**rule)
        return club

    async def add_rule(self, **facts: Any) -> str:
        answer = await self.client.post(f"/v1/programs/{self.program_id}/earning-rules", json={"name": "base"} | facts)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def earn(self, who: UUID, at: str = "2026-11-01T05:00:00Z", total: str = "10000", **facts: Any) -> Any:
        """A purchase with a reference of its own; the answer."""
        self.count = getattr(self, "count", 0) + 1
        answer = await self.buy(who, order_ref=f"INV-{self.count}", occurred_at=at, total=total, **facts)
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def reasons(self, who: UUID, *ats: str, **facts: Any) -> list[tuple[str, int]]:
        """What the first rule said of purchases at these times, one after the other."""
        rows = [(await self.earn(who, at, **facts))["rules"][0] for at in ats]
        return [(row["reason"], row["points"]) for row in rows]


def per_amount(*limits: dict[str, Any], **facts: Any) -> dict[str, Any]:
    return {"kind": "per_amount", "points": 1, "per": "1000", "limits": list(limits), **facts}


def per_visit(*limits: dict[str, Any], **facts: Any) -> dict[str, Any]:
    return {"kind": "per_visit", "points": 10, "limits": list(limits), **facts}


def per_event(*limits: dict[str, Any], **facts: Any) -> dict[str, Any]:
    return {"kind": "per_event", "event": "review", "points": 5, "limits": list(limits), **facts}


# ---------------------------------------------------------------- periods


@dataclass(frozen=True, slots=True)
class Border:
    """The last moment of a period in Jakarta, and the first of the next one."""

    per: str
    last: str
    first: str


BORDERS = {
    "a day": Border("day", "2026-11-01T16:59:59.999999Z", "2026-11-01T17:00:00Z"),
    "a week ends on Sunday": Border("week", "2026-11-01T16:59:59.999999Z", "2026-11-01T17:00:00Z"),
    "a week over the end of a year": Border("week", "2026-01-04T16:59:59Z", "2026-01-04T17:00:00Z"),
    "a month": Border("month", "2026-10-31T16:59:59.999999Z", "2026-10-31T17:00:00Z"),
    "a year": Border("year", "2025-12-31T16:59:59.999999Z", "2025-12-31T17:00:00Z"),
}


@pytest.mark.parametrize("border", BORDERS.values(), ids=BORDERS)
async def test_a_period_is_one_of_the_programs_calendar(client, border):
    club = await Club.of(client, per_visit({"times": 1, "per": border.per}))
    sari = await club.member()
    assert await club.reasons(sari, border.last, border.first, border.last, border.first) == [
        ("applied", 10), ("applied", 10), ("limit_reached", 0), ("limit_reached", 0),
    ]  # fmt: skip


SAME = {
    "a day": ("day", "2026-11-01T17:00:00Z", "2026-11-02T16:59:59Z"),
    "a week from Monday": ("week", "2026-11-01T17:00:00Z", "2026-11-08T16:59:59Z"),
    "a week of two years": ("week", "2025-12-28T17:00:00Z", "2026-01-04T16:59:59Z"),
    "a month": ("month", "2026-09-30T17:00:00Z", "2026-10-31T16:59:59Z"),
    "a year": ("year", "2024-12-31T17:00:00Z", "2025-12-31T16:59:59Z"),
    "a life": ("lifetime", "1999-01-01T00:00:00Z", "2026-11-01T00:00:00Z"),
}


@pytest.mark.parametrize(("per", "first", "last"), SAME.values(), ids=SAME)
async def test_first_and_last_moment_of_a_period_share_what_there_is(client, per, first, last):
    club = await Club.of(client, per_visit({"times": 1, "per": per}))
    sari = await club.member()
    assert await club.reasons(sari, last, first) == [("applied", 10), ("limit_reached", 0)]


async def test_the_calendar_is_that_of_the_programs_zone(client):
    club = await Club.of(client, per_visit({"times": 1, "per": "day"}), time_zone="Pacific/Kiritimati")
    sari = await club.member()
    noon = ("2026-11-01T09:59:59Z", "2026-11-01T10:00:00Z")
    assert await club.reasons(sari, *noon, noon[0]) == [("applied", 10), ("applied", 10), ("limit_reached", 0)]


async def test_a_day_of_twenty_five_hours_is_one_day(client):
    club = await Club.of(client, per_visit({"times": 1, "per": "day"}), time_zone="Europe/Berlin")
    sari = await club.member()
    moments = ("2025-10-25T22:00:00Z", "2025-10-26T22:59:59Z", "2025-10-26T23:00:00Z")
    assert await club.reasons(sari, *moments) == [("applied", 10), ("limit_reached", 0), ("applied", 10)]


async def test_a_purchase_told_late_counts_in_its_own_period(client):
    club = await Club.of(client, per_amount({"points": 15, "per": "month"}))
    sari = await club.member()
    moments = ("2026-10-20T05:00:00Z", "2026-11-01T05:00:00Z", "2026-10-10T05:00:00Z", "2026-11-02T05:00:00Z")
    assert await club.reasons(sari, *moments) == [("applied", 10), ("applied", 10), ("trimmed", 5), ("trimmed", 5)]


# ---------------------------------------------------------------- points and times


async def test_points_are_trimmed_to_what_is_left_and_then_nothing_is(client):
    club = await Club.of(client, per_amount({"points": 25, "per": "day"}))
    sari = await club.member()
    answers = [await club.earn(sari) for _ in range(4)]
    rows = [answer["rules"][0] for answer in answers]
    assert [(row["outcome"], row["reason"], row["points_requested"], row["points"]) for row in rows] == [
        ("applied", "applied", 10, 10), ("applied", "applied", 10, 10), ("applied", "trimmed", 10, 5),
        ("skipped", "limit_reached", 10, 0),
    ]  # fmt: skip
    assert [answer["points"] for answer in answers] == [10, 10, 5, 0]
    assert answers[-1]["transaction_id"] is None
    assert await club.available(sari) == 25


async def test_of_several_limits_the_tightest_holds(client):
    limits = [{"points": 15, "per": "day"}, {"times": 3, "per": "week"}, {"points": 32, "per": "lifetime"}]
    club = await Club.of(client, per_amount(*limits))
    sari = await club.member()
    # Monday twice, Tuesday, Wednesday, and the Monday after.
    days = ("2026-10-19", "2026-10-19", "2026-10-20", "2026-10-21", "2026-10-26")
    said = await club.reasons(sari, *(f"{day}T05:00:00Z" for day in days))
    assert said == [("applied", 10), ("trimmed", 5), ("applied", 10), ("limit_reached", 0), ("trimmed", 7)]


async def test_limits_are_each_members_and_each_rules_own(client):
    club = await Club.of(
        client, per_visit({"times": 1, "per": "day"}), per_visit({"times": 2, "per": "day"}, name="other", points=1)
    )
    sari, budi = await club.member(), await club.member()
    assert [(await club.earn(who))["points"] for who in (sari, sari, sari, budi)] == [11, 1, 0, 11]


async def test_limits_are_each_programs_own(client):
    club = await Club.of(client, per_visit({"times": 1, "per": "lifetime"}))
    other = await Club.of(client, per_visit({"times": 1, "per": "lifetime"}), name="Teh")
    sari = await club.member()
    assert (await club.earn(sari))["points"] == 10
    assert (await other.earn(sari, program_id=other.program_id))["points"] == 10
    assert (await other.earn(sari, program_id=other.program_id))["points"] == 0


async def test_events_share_the_limits_of_their_rules(client):
    club = await Club.of(client, per_event({"times": 2, "per": "day"}))
    sari = await club.member()
    said = []
    for number in range(3):
        body = {"event": "review", "ref": str(number), "occurred_at": "2026-11-01T05:00:00Z"}
        said.append((await club.post(sari, "events", body)).json()["rules"][0]["reason"])
    body = {"event": "review", "ref": "next day", "occurred_at": "2026-11-01T17:00:00Z"}
    said.append((await club.post(sari, "events", body)).json()["rules"][0]["reason"])
    assert said == ["applied", "applied", "limit_reached", "applied"]


async def test_limits_made_later_count_from_then_on(client):
    club = await Club.of(client, per_visit())
    sari = await club.member()
    await club.earn(sari)
    (rule,) = (await client.get(f"/v1/programs/{club.program_id}/earning-rules")).json()["items"]
    url = f"/v1/programs/{club.program_id}/earning-rules/{rule['id']}"
    assert (await client.patch(url, json={"limits": [{"times": 1, "per": "lifetime"}]})).status_code == 200
    assert [(await club.earn(sari))["points"] for _ in range(2)] == [10, 0]
    assert (await client.patch(url, json={"limits": None})).status_code == 200
    assert (await club.earn(sari))["points"] == 10


# ---------------------------------------------------------------- what uses a limit and what does not


async def test_an_order_on_which_a_multiplier_added_nothing_does_not_use_its_limit(client):
    double = {"name": "double", "kind": "multiplier", "factor": "2", "limits": [{"times": 1, "per": "day"}]}
    club = await Club.of(client, double, per_amount(name="tea", filter={"skus": ["tea"]}))
    sari = await club.member()
    cake, tea = ([{"sku": sku, "quantity": "1", "unit_price": "10000"}] for sku in ("cake", "tea"))
    answers = [await club.earn(sari, total=None, lines=lines) for lines in (cake, tea, tea)]  # type: ignore[arg-type]
    assert [answer["points"] for answer in answers] == [0, 20, 10]
    assert [answer["rules"][0]["reason"] for answer in answers] == ["no_matching_lines", "applied", "limit_reached"]


ONCE = {"times": 1, "per": "day"}
UNUSED = {
    "a code that was missing": (per_visit(ONCE, code="SUNDAY"), {}, "code_missing"),
    "a spend that was too small": (per_visit(ONCE, min_spend="50000"), {"total": "1000"}, "below_min_spend"),
    "an hour too late": (
        per_visit(ONCE, window={"hours": ["10:00", "12:00"]}), {"at": "2026-11-01T05:00:00Z"}, "outside_window",
    ),
    "more than it may give": (
        per_amount(ONCE, max_points_per_purchase=60, over_max="reject"), {"total": "61000"}, "rejected",
    ),
    "another rule that stood alone": (per_visit(ONCE), {"code": "ALONE"}, "superseded"),
}  # fmt: skip


@pytest.mark.parametrize(("rule", "facts", "reason"), UNUSED.values(), ids=UNUSED)
async def test_a_rule_that_did_not_apply_has_used_nothing(client, rule, facts, reason):
    club = await Club.of(client, rule)
    await club.add_rule(name="alone", kind="per_visit", stackable=False, code="ALONE")
    sari = await club.member()
    fitting = {"total": "60000", "code": "SUNDAY", "at": "2026-11-01T04:00:00Z"}
    said = [
        (await club.earn(sari, **asked))["rules"][0]["reason"]
        for asked in (fitting | {"code": None} | facts, fitting, fitting)
    ]
    assert said == [reason, "applied", "limit_reached"]


async def test_the_same_order_again_uses_nothing_more(client):
    club = await Club.of(client, per_visit({"times": 2, "per": "day"}))
    sari = await club.member()
    for _ in range(3):
        await club.buy(sari, order_ref="INV-A", occurred_at="2026-11-01T05:00:00Z")
    assert await club.reasons(sari, *["2026-11-01T05:00:00Z"] * 2) == [("applied", 10), ("limit_reached", 0)]


async def test_a_refused_purchase_uses_nothing(client, session):
    club = await Club.of(client, per_visit({"times": 1, "per": "day"}))
    sari = await club.member()
    before = await checksum(session)
    assert (await club.buy(sari, currency="SGD", occurred_at="2026-11-01T05:00:00Z")).status_code == 422
    assert await checksum(session) == before
    assert (await club.earn(sari))["points"] == 10


async def test_a_refund_gives_back_what_the_order_used(client):
    club = await Club.of(client, per_amount({"points": 10, "per": "day"}))
    sari = await club.member()
    await club.buy(sari, order_ref="INV-A", occurred_at="2026-11-01T05:00:00Z", total="10000")
    refund = {"refund_ref": "CN-1", "amount": "4000"}
    assert (await club.post(sari, "purchases/INV-A/refunds", refund)).json()["points_taken_back"] == 4
    assert await club.reasons(sari, *["2026-11-01T06:00:00Z"] * 2) == [("trimmed", 4), ("limit_reached", 0)]


# ---------------------------------------------------------------- many


async def test_purchases_of_a_batch_share_limits_in_their_order(client):
    club = await Club.of(client, per_amount({"points": 15, "per": "day"}))
    sari, budi = await club.member(), await club.member()
    items = [
        ORDER | {"order_ref": f"INV-{number}", "total": "10000", "contact_id": str(who)}
        for number, who in enumerate((sari, budi, sari, sari, budi))
    ]
    answer = await client.post("/v1/purchases/batch", json={"items": items})
    assert [item["body"]["points"] for item in answer.json()["items"]] == [10, 10, 5, 0, 5]
    assert [await club.available(who) for who in (sari, budi)] == [15, 15]


async def test_a_batch_ends_as_the_same_purchases_one_by_one(client):
    limits = [{"points": 12, "per": "day"}, {"points": 25, "per": "week"}, {"times": 5, "per": "month"}]
    club = await Club.of(client, per_amount(*limits))
    together, alone = await club.member(), await club.member()
    moments = [f"2026-10-{day:02}T{hour:02}:00:00Z" for day in (26, 20, 27, 26) for hour in (5, 18)]
    items = [
        ORDER | {"order_ref": f"T-{number}", "total": "10000", "contact_id": str(together), "occurred_at": at}
        for number, at in enumerate(moments)
    ]
    batch = (await client.post("/v1/purchases/batch", json={"items": items})).json()["items"]
    single = [await club.earn(alone, at) for at in moments]
    assert [item["body"]["rules"] for item in batch] == [answer["rules"] for answer in single]
    assert [item["body"]["balance"] for item in batch] == [answer["balance"] for answer in single]


async def test_of_twenty_purchases_at_once_a_limit_of_one_lets_one_through(live_client):
    club = await Club.of(live_client, per_visit({"times": 1, "per": "day"}))
    sari = await club.member()
    answers = await at_once(*(club.buy(sari, order_ref=f"INV-{number}") for number in range(20)))
    assert statuses(answers) == {201: 20}
    assert Counter(answer.json()["rules"][0]["reason"] for answer in answers) == {"applied": 1, "limit_reached": 19}
    assert await club.available(sari) == 10


async def test_purchases_and_events_at_once_never_exceed_a_limit_of_points(live_client):
    club = await Club.of(
        live_client, per_amount({"points": 55, "per": "lifetime"}),
        per_event({"points": 10, "per": "month"}, points=3),
    )  # fmt: skip
    sari = await club.member()
    said = [{"event": "review", "ref": str(number)} for number in range(8)]
    answers = await at_once(
        *(club.buy(sari, order_ref=f"INV-{number}", total="10000") for number in range(10)),
        *(club.post(sari, "events", body) for body in said),
    )
    assert statuses(answers) == {201: 18}
    assert sorted(answer.json()["points"] for answer in answers[:10]) == [0] * 4 + [5] + [10] * 5
    assert sorted(answer.json()["points"] for answer in answers[10:]) == [0] * 4 + [1] + [3] * 3
    assert await club.available(sari) == 65


# ---------------------------------------------------------------- what is a limit


BAD = {
    "neither points nor times": {"per": "day"},
    "both": {"points": 1, "times": 1, "per": "day"},
    "none at all": {"times": 0, "per": "day"},
    "fewer than none": {"points": -1, "per": "day"},
    "no period": {"times": 1},
    "an unknown period": {"times": 1, "per": "decade"},
}


@pytest.mark.parametrize("limit", BAD.values(), ids=BAD)
async def test_what_is_no_limit_is_refused(client, limit):
    club = await Club.of(client)
    rule = {"name": "base"} | per_visit(limit)
    answer = await client.post(f"/v1/programs/{club.program_id}/earning-rules", json=rule)
    assert answer.status_code == 422
    assert all(error["pointer"].startswith("/limits/0") for error in answer.json()["errors"])
