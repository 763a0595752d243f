"""Whom a playbook leaves alone, and when: caps, quiet hours, consent, conditions, what stops it."""

import random
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from tests.playbooks.hall import DAY, GIFT, HELLO, QUIET, VISITED, statuses

T0 = datetime(2027, 3, 1, 5, tzinfo=UTC)
"""Noon in Jakarta."""
TAG = {"kind": "tag", "tag": "met"}
WAIT = {"kind": "wait", "seconds": 86_400}


async def run_at(hall, contact_id: UUID, at: datetime) -> None:
    """Have somebody visit at a time of ours, and the timelines read then."""
    async with hall.client.database.begin() as session:
        await session.execute(
            """
            INSERT INTO interactions (contact_id, id, kind, occurred_at, recorded_at, channel, data, by)
            VALUES ($1, new_uuid7(), 'visit', $2, $2, 'in_person', '{}', 't')
            """,
            contact_id, at,
        )  # fmt: skip
    await hall.follow(at)


@pytest.mark.parametrize(
    ("zone", "local", "goes_at"),
    [
        (None, "2027-03-01T12:00+07:00", None),
        (None, "2027-03-01T21:00+07:00", "2027-03-02T08:00+07:00"),
        (None, "2027-03-01T20:59+07:00", None),
        ("Asia/Jayapura", "2027-03-01T20:30+07:00", "2027-03-02T08:00+09:00"),  # there it is 22:30
        ("Asia/Jayapura", "2027-03-01T06:30+07:00", None),  # 8:30 there
        ("America/New_York", "2027-03-13T23:00-05:00", "2027-03-14T08:00-04:00"),  # clocks go forward that night
        ("America/New_York", "2027-11-06T23:00-04:00", "2027-11-07T08:00-05:00"),  # and back
        ("Europe/Lisbon", "2027-03-28T00:30+00:00", "2027-03-28T08:00+01:00"),
    ],
)
async def test_what_comes_in_quiet_hours_waits_for_the_contacts_morning(hall, zone, local, goes_at):
    at = datetime.fromisoformat(local).astimezone(UTC)
    await hall.active(since=at - DAY)
    sari = await hall.person("Sari", **({"time_zone": zone} if zone else {}))
    await run_at(hall, sari, at)
    await hall.work(at, house=QUIET)
    [run] = await hall.runs(sari)
    if goes_at is None:
        assert (run["status"], len(await hall.sent(sari))) == ("completed", 1)
        return
    due_at = datetime.fromisoformat(goes_at).astimezone(UTC)
    assert (run["status"], run["reason"], datetime.fromisoformat(run["due_at"])) == ("running", "quiet_hours", due_at)
    await hall.work(due_at - timedelta(seconds=1), house=QUIET)
    assert await hall.sent(sari) == []
    await hall.work(due_at, house=QUIET)
    assert await hall.sent(sari) == ["Halo Sari"]


async def test_a_playbook_may_have_quiet_hours_of_its_own(hall):
    await hall.active(since=T0 - DAY, quiet_hours={"begin": "11:00", "end": "14:30"})
    sari = await hall.person("Sari")
    await run_at(hall, sari, T0)
    await hall.work(T0, house=QUIET)
    [run] = await hall.runs(sari)
    assert run["due_at"] == "2027-03-01T07:30:00Z"


async def test_points_are_given_at_night_and_only_words_wait(hall):
    night = T0 + timedelta(hours=10)
    await hall.active(since=T0 - DAY, steps=[GIFT, HELLO])
    sari = await hall.person("Sari")
    await run_at(hall, sari, night)
    await hall.work(night, house=QUIET)
    assert (await hall.shop.available(sari), await hall.sent(sari)) == (10, [])


async def test_consent_that_is_withdrawn_while_it_waits_counts(hall):
    night = T0 + timedelta(hours=10)
    await hall.active(since=T0 - DAY)
    sari = await hall.person("Sari")
    await run_at(hall, sari, night)
    await hall.work(night, house=QUIET)
    await hall.consent(sari, "denied")
    await hall.work(night + DAY / 2, house=QUIET)
    assert await hall.sent(sari) == []
    assert await hall.told(sari) == ["started", "step_skipped message consent_denied", "completed"]


@pytest.mark.parametrize(
    ("facts", "reason"),
    [({"allows": False}, "no_consent"), ({"identities": []}, "no_address")],
)
async def test_a_message_that_may_not_go_is_skipped_with_the_reason_and_the_rest_goes_on(hall, facts, reason):
    await hall.active(since=T0 - DAY, steps=[HELLO, GIFT])
    sari = await hall.person("Sari", **facts)
    await run_at(hall, sari, T0)
    await hall.work(T0)
    assert await hall.told(sari) == ["started", f"step_skipped message {reason}", "step_taken points", "completed"]
    assert await hall.shop.available(sari) == 10


async def test_of_several_channels_the_first_is_taken_on_which_it_may_go(hall):
    await hall.active(since=T0 - DAY, steps=[{**HELLO, "channels": ["whatsapp", "email"]}])
    sari = await hall.person("Sari")
    await run_at(hall, sari, T0)
    await hall.work(T0)
    [run] = await hall.runs(sari)
    assert (run["steps"][0]["outcome"], run["steps"][0]["data"]["channel"]) == ("taken", "email")


async def test_the_condition_is_asked_when_it_begins_and_again_for_each_step(hall):
    vip = {"field": "tags", "op": "contains", "value": "vip"}
    await hall.active(since=T0 - DAY, condition=vip, steps=[TAG, WAIT, GIFT])
    sari, dewi = await hall.person("Sari", tags=["vip"]), await hall.person("Dewi")
    for who in (sari, dewi):
        await run_at(hall, who, T0)
    await hall.work(T0)
    assert await hall.runs(dewi) == []
    await hall.client.delete(f"/v1/contacts/{sari}/tags/vip")
    await hall.work(T0 + DAY)
    assert await hall.told(sari) == [
        "started", "step_taken tag", "step_taken wait", "step_skipped points condition", "completed",
    ]  # fmt: skip
    assert await hall.shop.available(sari) == 0


async def test_a_run_stops_where_its_stop_condition_holds(hall):
    done = {"field": "tags", "op": "contains", "value": "done"}
    await hall.active(since=T0 - DAY, stop={"condition": done}, steps=[TAG, WAIT, GIFT])
    sari = await hall.person("Sari")
    await run_at(hall, sari, T0)
    await hall.work(T0)
    await hall.client.put(f"/v1/contacts/{sari}/tags/done")
    await hall.work(T0 + DAY)
    assert statuses(await hall.runs(sari)) == [("stopped", "stop_condition")]
    assert await hall.shop.available(sari) == 0


async def test_a_run_that_is_cancelled_takes_no_further_step(hall):
    await hall.active(since=T0 - DAY, steps=[TAG, WAIT, GIFT])
    sari = await hall.person("Sari")
    await run_at(hall, sari, T0)
    await hall.work(T0)
    [run] = await hall.runs(sari)
    path = f"/v1/contacts/{sari}/playbook-runs/{run['id']}"
    for _ in range(2):
        assert (await hall.client.delete(path)).status_code == 204
    assert await hall.work(T0 + DAY) == 0
    assert statuses(await hall.runs(sari)) == [("cancelled", "cancelled")]
    await hall.active(since=T0, steps=[TAG])
    await run_at(hall, sari, T0 + DAY)
    await hall.work(T0 + DAY)
    [done] = [one for one in await hall.runs(sari) if one["status"] == "completed"]
    refused = await hall.client.delete(f"/v1/contacts/{sari}/playbook-runs/{done['id']}")
    assert (refused.status_code, refused.json()["code"]) == (409, "playbook_run_ended")


async def test_runs_of_a_playbook_that_is_put_away_end_and_those_of_a_paused_one_wait(hall):
    paused, gone = [
        await hall.active(since=T0 - DAY, steps=[TAG, WAIT, {"kind": "tag", "tag": name}]) for name in ("p", "g")
    ]
    sari = await hall.person("Sari")
    await run_at(hall, sari, T0)
    await hall.work(T0)
    await hall.client.patch(f"/v1/playbooks/{paused}", json={"status": "paused"})
    assert (await hall.client.delete(f"/v1/playbooks/{gone}")).status_code == 204
    assert await hall.work(T0 + 2 * DAY) == 0
    found = {run["playbook_id"]: (run["status"], run["reason"]) for run in await hall.runs(sari)}
    assert found == {paused: ("running", None), gone: ("cancelled", "playbook_archived")}
    await hall.client.patch(f"/v1/playbooks/{paused}", json={"status": "active"})
    await hall.work(T0 + 2 * DAY)
    assert (await hall.get(f"/v1/contacts/{sari}"))["tags"] == ["met", "p"]


async def test_caps_are_those_that_a_naive_count_comes_to(hall):
    """Random visits over 30 days: the oracle counts runs and messages in plain lists."""
    rng = random.Random(7)
    runs_max, run_days, messages_max, message_days = 2, 5, 3, 7
    cap, messages_cap = {"runs_max": runs_max, "days": run_days}, {"messages_max": messages_max, "days": message_days}
    for _ in range(2):
        await hall.active(since=T0 - DAY, cap=cap, messages_cap=messages_cap)
    sari = await hall.person("Sari")
    visits = sorted(T0 + timedelta(minutes=rng.randrange(30 * 24 * 60)) for _ in range(40))
    runs: list[list[datetime]] = [[], []]
    messages: list[datetime] = []
    expected = []
    for at in visits:
        await run_at(hall, sari, at)
        await hall.work(at)
        for own in runs:
            if sum(before > at - timedelta(days=run_days) for before in own) >= runs_max:
                expected.append("frequency_cap")
                continue
            own.append(at)
            if sum(before > at - timedelta(days=message_days) for before in messages) >= messages_max:
                expected.append("message_cap")
            else:
                messages.append(at)
                expected.append("sent")
    found = (await hall.get(f"/v1/contacts/{sari}/playbook-runs?limit=200"))["items"]
    became = [
        run["reason"] if run["status"] == "skipped" else run["steps"][0]["reason"] or "sent" for run in reversed(found)
    ]
    assert sorted(became) == sorted(expected)
    assert len(await hall.sent(sari)) == expected.count("sent") == len(messages)
    assert {"frequency_cap", "message_cap", "sent"} == set(expected)


async def test_a_cap_holds_among_what_is_read_at_once(hall):
    await hall.active(cap={"runs_max": 2, "days": 7}, steps=[TAG])
    sari = await hall.person("Sari")
    for _ in range(5):
        await hall.happens(sari)
    await hall.follow()
    assert sorted(statuses(await hall.runs(sari)), key=str) == [
        ("running", None), ("running", None), *[("skipped", "frequency_cap")] * 3,
    ]  # fmt: skip


async def test_a_playbook_does_not_bring_itself_about(hall):
    """Tags move somebody in and out of a segment, and two playbooks hang on that."""
    vip = {"field": "tags", "op": "contains", "value": "vip"}
    segment = (await hall.post("/v1/segments", {"name": "VIPs", "condition": vip}))["id"]
    for change, remove in (("entered", True), ("left", False)):
        await hall.active(
            trigger={"kind": "segment", "change": change, "segment_id": segment},
            steps=[{"kind": "tag", "tag": "vip", "remove": remove}],
        )
    sari = await hall.person("Sari")
    await hall.segments()
    await hall.client.put(f"/v1/contacts/{sari}/tags/vip")
    for _ in range(8):
        await hall.segments()
        await hall.follow()
        await hall.work()
    found = [(run["status"], run["reason"], len(run["caused_by"])) for run in reversed(await hall.runs(sari))]
    assert found == [("completed", None, 0), ("completed", None, 1), ("skipped", "loop", 2)]


async def test_what_playbooks_say_is_no_trigger_unless_that_is_meant(hall):
    said = {"kind": "interaction", "interaction": "message"}
    told = {"kind": "interaction", "interaction": "playbook.completed", "from_playbooks": True}
    first = await hall.active(trigger=VISITED, steps=[HELLO])
    deaf = await hall.active(trigger=said, steps=[HELLO])
    hears = await hall.active(trigger=said | {"from_playbooks": True}, steps=[TAG])
    follows = await hall.active(trigger=told, steps=[TAG])
    sari = await hall.person("Sari")
    await hall.happens(sari)
    for _ in range(6):
        await hall.follow()
        await hall.work()
    by_playbook = {run["playbook_id"]: run for run in await hall.runs(sari) if run["status"] == "completed"}
    assert deaf not in by_playbook
    assert by_playbook[hears]["caused_by"] == [first]
    assert follows in by_playbook
    assert 3 <= len(await hall.runs(sari)) < 12


async def test_what_the_provider_has_approved_goes_where_nothing_else_may(hall):
    await hall.post("/v1/channel-accounts", {
        "provider": "whatsapp", "name": "Toko", "ref": "PN1",
        "secrets": {"app_secret": "s", "verify_token": "v", "access_token": "t"},
    })  # fmt: skip
    approved = {"name": "halo", "language": "id", "parameters": ["{{ contact.given_name }}"]}
    plain = {**HELLO, "channels": ["whatsapp"]}
    await hall.active(since=T0 - DAY, steps=[plain, {**plain, "provider_template": approved}])
    sari = await hall.person("Sari", identities=[{"kind": "whatsapp", "value": "628123456789"}])
    consent = {"channel": "whatsapp", "purpose": "marketing", "status": "granted"}
    await hall.post(f"/v1/contacts/{sari}/consents", consent)
    await run_at(hall, sari, T0)
    await hall.work(T0)
    [run] = await hall.runs(sari)
    assert [step["reason"] for step in run["steps"]] == ["window_closed", None]
    [message] = (await hall.get(f"/v1/contacts/{sari}/messages"))["items"]
    assert message["provider_template"] == {"name": "halo", "language": "id", "parameters": ["Sari"]}
