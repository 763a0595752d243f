"""Pins: a tier given by hand holds until it ends, whatever the points say, and then the facts speak again."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from crm.db.ids import uuid7
from crm.db.session import Session
from crm.loyalty import balances, ledger, pins, programs
from crm.loyalty.ledger import Award
from crm.loyalty.tiers import TierPolicy
from tests.loyalty.shop import Shop, at_once, checksum, statuses

pytestmark = pytest.mark.usefixtures("audited_session")

NOBODY = UUID("01a200ec-0000-7000-8000-000000000000")
VIEW = {"program_id", "tier_id", "name", "since", "until"}
TIERS = {"Silver": 100, "Gold": 500, "Platinum": 1000}


@pytest.fixture
async def shop(client: Any) -> Shop:
    return await Shop.open(client)


@pytest.fixture
async def tiers(shop: Shop) -> dict[str, str]:
    """The ids of the tiers by name."""
    return await add_tiers(shop)


@pytest.fixture
async def sari(shop: Shop) -> UUID:
    return await shop.member()


async def add_tiers(shop: Shop) -> dict[str, str]:
    url = f"/v1/programs/{shop.program_id}/tiers"
    bodies = [
        {"name": name, "threshold": threshold, "benefits": {"earn_factor": "2" if name == "Gold" else "1"}}
        for name, threshold in TIERS.items()
    ]
    return {body["name"]: (await shop.client.post(url, json=body)).json()["id"] for body in bodies}


async def pin(shop: Shop, contact_id: UUID, tier_id: Any, **facts: Any) -> Any:
    body = {"tier_id": tier_id, "reason": "A guest of the house", **facts}
    return await shop.client.put(f"/v1/contacts/{contact_id}/tier-pin", json=body)


async def unpin(shop: Shop, contact_id: UUID) -> Any:
    return await shop.client.delete(f"/v1/contacts/{contact_id}/tier-pin")


async def pinned(shop: Shop, contact_id: UUID) -> Any:
    return await shop.client.get(f"/v1/contacts/{contact_id}/tier-pin")


def problem(answer: Any, status: int, code: str) -> dict[str, Any]:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    document: dict[str, Any] = answer.json()
    return document


def ahead(**spell: float) -> str:
    return (datetime.now(UTC) + timedelta(**spell)).isoformat()


async def told(shop: Shop, contact_id: UUID) -> list[Any]:
    """What the timeline says of tiers, oldest first."""
    items = (await shop.get(contact_id, "timeline?limit=200"))["items"]
    found = [one for one in items if one["kind"].startswith("tier.")]
    return sorted(found, key=lambda one: one["id"])


# ---------------------------------------------------------------- a floor


@dataclass(frozen=True, slots=True)
class Floor:
    """Somebody with so many points, pinned to a tier: where they stand, and what is missing to the next."""

    points: int
    pinned: str
    current: str
    following: tuple[str, int] | None


FLOORS = {
    "from nothing": Floor(0, "Gold", "Gold", ("Platinum", 1000)),
    "above what was earned": Floor(150, "Gold", "Gold", ("Platinum", 850)),
    "as earned": Floor(500, "Gold", "Gold", ("Platinum", 500)),
    "below what was earned": Floor(500, "Silver", "Gold", ("Platinum", 500)),
    "the highest": Floor(20, "Platinum", "Platinum", None),
}


@pytest.mark.parametrize("case", FLOORS.values(), ids=FLOORS)
async def test_a_pin_is_a_floor(shop, tiers, sari, case):
    if case.points:
        await shop.award(sari, case.points)
    answer = await pin(shop, sari, tiers[case.pinned])
    assert answer.status_code == 200
    assert answer.json().keys() == VIEW
    assert (answer.json()["program_id"], answer.json()["tier_id"], answer.json()["name"], answer.json()["until"]) == (
        shop.program_id, tiers[case.pinned], case.pinned, None,
    )  # fmt: skip
    assert (await pinned(shop, sari)).json() == answer.json()
    tier = (await shop.balance(sari))["tier"]
    assert tier["current"] == {"id": tiers[case.current], "name": case.current}
    following = None if tier["next"] is None else (tier["next"]["name"], tier["next"]["missing"])
    assert following == case.following


async def test_a_pinned_tier_gives_what_the_tier_gives(shop, tiers, sari):
    await pin(shop, sari, tiers["Gold"])
    assert (await shop.buy(sari)).json()["points"] == 90


async def test_whoever_earns_a_higher_tier_has_it_and_keeps_it(shop, tiers, sari):
    await pin(shop, sari, tiers["Silver"])
    assert (await shop.award(sari, 500)).json()["tier"]["current"]["name"] == "Gold"
    assert (await unpin(shop, sari)).status_code == 204
    assert (await shop.balance(sari))["tier"]["current"]["name"] == "Gold"
    kinds = [one["kind"] for one in await told(shop, sari)]
    assert kinds == ["tier.pinned", "tier.changed", "tier.changed", "tier.unpinned"]


async def test_a_pin_and_its_end_stand_on_the_timeline_with_who_and_why(shop, tiers, sari):
    until = "2030-01-01T00:00:00Z"
    await pin(shop, sari, tiers["Gold"], until=until, reason="Our 100th guest")
    await unpin(shop, sari)
    entries = {(one["kind"], one["data"].get("to")): one for one in await told(shop, sari)}
    given, gone = entries["tier.pinned", None], entries["tier.unpinned", None]
    assert (given["body"], given["by"], given["channel"]) == ("Our 100th guest", "key:test", "loyalty")
    assert given["data"] == {"program_id": shop.program_id, "tier": "Gold", "until": until}
    assert (gone["by"], gone["data"]) == ("key:test", {"program_id": shop.program_id, "tier": "Gold"})
    up, down = entries["tier.changed", "Gold"], entries["tier.changed", None]
    assert (up["data"]["from"], down["data"]["from"]) == (None, "Gold")
    assert (up["occurred_at"], down["occurred_at"]) == (given["occurred_at"], gone["occurred_at"])


async def test_without_a_pin_there_is_none_to_read_or_end(shop, tiers, sari, session):
    before = await checksum(session)
    problem(await pinned(shop, sari), 404, "tier_pin_not_found")
    problem(await unpin(shop, sari), 404, "tier_pin_not_found")
    assert await checksum(session) == before
    await pin(shop, sari, tiers["Gold"])
    assert (await unpin(shop, sari)).status_code == 204
    problem(await unpin(shop, sari), 404, "tier_pin_not_found")
    assert (await shop.balance(sari))["tier"]["current"] is None


# ---------------------------------------------------------------- again, and in place of another


async def test_the_same_pin_again_changes_nothing(shop, tiers, sari, session):
    first = await pin(shop, sari, tiers["Gold"], until="2030-01-01T00:00:00Z")
    before = await checksum(session)
    again = await pin(shop, sari, tiers["Gold"], until="2030-01-01T07:00:00+07:00")
    assert (again.status_code, again.json()) == (200, first.json())
    assert await checksum(session) == before


async def test_a_pin_with_another_end_is_the_same_tier_for_longer(shop, tiers, sari):
    first = (await pin(shop, sari, tiers["Gold"], until=ahead(days=1))).json()
    second = (await pin(shop, sari, tiers["Gold"])).json()
    assert (second["since"], second["until"]) == (first["since"], None)
    kinds = [one["kind"] for one in await told(shop, sari)]
    assert sorted(kinds) == ["tier.changed", "tier.pinned", "tier.pinned"]


async def test_a_lower_pin_takes_the_place_of_a_higher_one(shop, tiers, sari):
    await pin(shop, sari, tiers["Platinum"])
    await pin(shop, sari, tiers["Silver"])
    assert (await shop.balance(sari))["tier"]["current"]["name"] == "Silver"
    changes = [
        (one["data"]["from"], one["data"]["to"]) for one in await told(shop, sari) if one["kind"] == "tier.changed"
    ]
    assert changes == [(None, "Platinum"), ("Platinum", "Silver")]


async def test_of_many_pins_at_once_one_remains(live_client):
    shop = await Shop.open(live_client)
    tiers = await add_tiers(shop)
    sari = await shop.member(points=5)
    answers = await at_once(
        *(pin(shop, sari, tiers[name]) for name in [*TIERS] * 5), *(shop.award(sari, 1) for _ in range(5))
    )
    assert statuses(answers) == {200: 15, 201: 5}
    standing = (await shop.balance(sari))["tier"]["current"]
    assert standing == {"id": (await pinned(shop, sari)).json()["tier_id"], "name": standing["name"]}
    assert await shop.available(sari) == 10


# ---------------------------------------------------------------- bad input


async def test_a_tier_of_nowhere_can_not_be_pinned(shop, tiers, sari, session):
    other = (await shop.client.post("/v1/programs", json={"name": "2", "currency": "IDR", "time_zone": "UTC"})).json()
    body = {"name": "Gold", "threshold": 5}
    theirs = (await shop.client.post(f"/v1/programs/{other['id']}/tiers", json=body)).json()["id"]
    before = await checksum(session)
    for tier_id in (str(NOBODY), theirs):
        problem(await pin(shop, sari, tier_id), 404, "tier_not_found")
    problem(await pin(shop, NOBODY, tiers["Gold"]), 404, "contact_not_found")
    problem(await pin(shop, sari, tiers["Gold"], program_id=str(NOBODY)), 404, "program_not_found")
    assert await checksum(session) == before
    assert (await pin(shop, sari, theirs, program_id=other["id"])).status_code == 200
    problem(await pinned(shop, sari), 404, "tier_pin_not_found")
    found = await shop.get(sari, f"tier-pin?program={other['id']}")
    assert found["tier_id"] == theirs


async def test_a_pin_that_would_have_ended_is_refused(shop, tiers, sari, session):
    before = await checksum(session)
    refusal = problem(await pin(shop, sari, tiers["Gold"], until=ahead(seconds=-1)), 422, "pin_ends_too_early")
    assert [error["pointer"] for error in refusal["errors"]] == ["/until"]
    assert await checksum(session) == before


BAD = {
    "no tier": ({"reason": "x"}, "/tier_id"),
    "a name": ({"tier_id": "Gold", "reason": "x"}, "/tier_id"),
    "no reason": ({"tier_id": str(NOBODY)}, "/reason"),
    "a blank reason": ({"tier_id": str(NOBODY), "reason": " "}, "/reason"),
    "a time without a zone": ({"tier_id": str(NOBODY), "reason": "x", "until": "2030-01-01T00:00:00"}, "/until"),
    "more than there is": ({"tier_id": str(NOBODY), "reason": "x", "since": "2030-01-01T00:00:00Z"}, "/since"),
}


@pytest.mark.parametrize(("body", "pointer"), BAD.values(), ids=BAD)
async def test_what_is_no_pin_is_refused_and_named(shop, sari, body, pointer):
    answer = await shop.client.put(f"/v1/contacts/{sari}/tier-pin", json=body)
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


async def test_pinning_is_correcting_by_hand(shop, tiers, sari):
    narrow = await shop.client.limited_to("loyalty:read", "loyalty:award", "loyalty:write")
    url = f"/v1/contacts/{sari}/tier-pin"
    problem(await narrow.put(url, json={"tier_id": tiers["Gold"], "reason": "x"}), 403, "scope_missing")
    problem(await narrow.delete(url), 403, "scope_missing")
    problem(await narrow.get(url), 404, "tier_pin_not_found")


# ---------------------------------------------------------------- its end is an instant


NOON = datetime(2026, 11, 1, 5, 0, tzinfo=UTC)
DAY = timedelta(days=1)
END = NOON + 10 * DAY


@dataclass(frozen=True, slots=True)
class Ending:
    """Points earned long before a pin to Gold that ends at END; what is written when somebody looks later."""

    points: int
    policy: TierPolicy
    after: str | None


LIFETIME = TierPolicy(basis="points")
YEARLY = TierPolicy(basis="points", window="calendar_year", downgrade="reassess")
ENDINGS = {
    "back to nothing": Ending(20, LIFETIME, None),
    "back to what was earned": Ending(150, LIFETIME, "Silver"),
    "back to nothing, by years": Ending(20, YEARLY, None),
    "back to what was earned, by years": Ending(150, YEARLY, "Silver"),
}


async def open_shop(session: Session, case: Ending) -> tuple[UUID, UUID, dict[str, UUID]]:
    program = await programs.create(
        session, name="Kopi", currency="IDR", time_zone="Asia/Jakarta", default=None, settings={}, now=NOON
    )
    await programs.set_tier_policy(session, program_id=program.id, policy=case.policy, now=NOON)
    tiers = {}
    for name, threshold in TIERS.items():
        tier = await programs.add_tier(
            session, program_id=program.id, name=name, threshold=threshold, benefits={}, now=NOON
        )
        tiers[name] = tier.id
    sari = uuid7()
    await session.execute(
        "INSERT INTO contacts (id, name, created_at, updated_at) VALUES ($1, 'S', $2, $2)", sari, NOON
    )
    await give(session, program.id, sari, case.points, now=NOON - 90 * DAY)
    await pins.put(
        session, program_id=program.id, contact_id=sari, tier_id=tiers["Gold"], until=END, reason="x", by="t", now=NOON
    )
    return program.id, sari, tiers


async def give(session: Session, program_id: UUID, sari: UUID, points: int, *, now: datetime) -> None:
    award = Award(sari, points, "goodwill")
    await ledger.award(session, program_id=program_id, award=award, by="t", once=None, now=now)


async def changes(session: Session) -> list[tuple[str | None, str | None, datetime]]:
    rows = await session.fetch("SELECT * FROM interactions WHERE kind = 'tier.changed' ORDER BY id")
    return [(row["data"]["from"], row["data"]["to"], row["occurred_at"]) for row in rows]


@pytest.mark.parametrize("case", ENDINGS.values(), ids=ENDINGS)
async def test_a_pin_ends_at_its_instant_whenever_somebody_looks(session, case):
    program_id, sari, _ = await open_shop(session, case)
    assert await session.fetchval("SELECT next_due_at FROM loyalty_accounts") == END
    for at, name in ((END - timedelta(microseconds=1), "Gold"), (END, case.after), (END + 5 * DAY, case.after)):
        seen = await balances.read(session, program_id=program_id, contact_id=sari, now=at)
        assert (seen.tier.current and seen.tier.current.name) == name
        if name == "Gold":
            assert (seen.tier.since, seen.tier.until) == (NOON, END)
    before = await changes(session)
    await give(session, program_id, sari, 1, now=END + 5 * DAY)
    assert (await changes(session))[len(before) :] == [("Gold", case.after, END)]
    with pytest.raises(pins.TierPinNotFound):
        await pins.get(session, program_id=program_id, contact_id=sari, now=END)


async def test_a_pin_that_ends_unnoticed_takes_nothing_from_who_has_earned_the_tier(session):
    program_id, sari, _ = await open_shop(session, Ending(20, LIFETIME, None))
    await give(session, program_id, sari, 480, now=END - DAY)
    before = await changes(session)
    await give(session, program_id, sari, 1, now=END + DAY)
    assert await changes(session) == before
    seen = await balances.read(session, program_id=program_id, contact_id=sari, now=END + DAY)
    assert seen.tier.current is not None
    assert (seen.tier.current.name, seen.tier.until) == ("Gold", None)


async def test_what_is_lost_after_a_pin_is_lost_when_it_is_lost(session):
    program_id, sari, _ = await open_shop(session, Ending(500, LIFETIME, "Gold"))
    await give(session, program_id, sari, 1, now=END + DAY)
    await ledger.adjust(
        session, program_id=program_id, contact_id=sari, points=-100, reason="fix", note=None, allow_negative=False,
        qualifying=True, by="t", once=None, now=END + 5 * DAY,
    )  # fmt: skip
    assert (await changes(session))[-1] == ("Gold", "Silver", END + 5 * DAY)


async def test_a_tier_that_falls_while_a_lower_one_is_pinned_falls_to_the_pin(session):
    program_id, sari, tiers = await open_shop(session, Ending(500, YEARLY, "Gold"))
    year_end = datetime(2027, 12, 31, 17, 0, tzinfo=UTC)
    await pins.put(
        session, program_id=program_id, contact_id=sari, tier_id=tiers["Silver"], until=None, reason="x", by="t",
        now=NOON,
    )  # fmt: skip
    seen = await balances.read(session, program_id=program_id, contact_id=sari, now=year_end + DAY)
    assert seen.tier.current is not None
    assert seen.tier.current.name == "Silver"
    await give(session, program_id, sari, 1, now=year_end + DAY)
    assert (await changes(session))[-1] == ("Gold", "Silver", year_end)
