"""What is said on a channel stands on the timeline, as it is now, in threads."""

import random
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest

from crm.interactions import changes
from tests.inbox.desk import Desk
from tests.inbox.toychat import at, email, message, person, phone, state, toy


async def one(desk):
    """The only message of Sari's timeline."""
    [item] = await desk.timeline(kind="message")
    return item


def edited(of, text, *, at):
    return {"event": "Edited", "external_id": of, "text": text, "person": person(toy("sari")), "occurred_at": at}


def unsent(of, *, at):
    return {"event": "Unsent", "external_id": of, "occurred_at": at}


def reaction(external_id, to, emoji, *, at, who="sari"):
    return {
        "event": "Reaction", "external_id": external_id, "to": to, "emoji": emoji, "person": person(toy(who)),
        "occurred_at": at,
    }  # fmt: skip


def watermark(name, until, *, at):
    return {
        "event": "Watermark", "state": name, "until": until, "occurred_at": at, "person": person(toy("sari"))
    }  # fmt: skip


async def test_a_message_says_who_wrote_what_when_and_where(desk):
    attachments = [{"kind": "image", "reference": "media-1", "content_type": "image/jpeg"}]
    [came] = await desk.hear(
        message("m1", "Halo kak", subject="Tanya", reply_to="m0", attachments=attachments, data={"forwarded": True})
    )
    item = await one(desk)
    assert (came["outcome"], came["contact_id"], came["interaction_id"]) == (
        "recorded", item["contact_id"], item["id"]
    )  # fmt: skip
    assert (item["channel"], item["direction"], item["subject"], item["body"], item["occurred_at"]) == (
        "chat", "inbound", "Tanya", "Halo kak", "2026-11-01T09:30:00Z"
    )  # fmt: skip
    assert (item["source"], item["external_id"], item["by"]) == ("toychat:T1", "m1", "channel:Toko")
    assert item["data"] == {"attachments": attachments, "reply_to": "m0", "forwarded": True}
    contact = await desk.contact()
    assert contact["name"] == "Sari"
    assert contact["identities"] == [
        {"kind": "toychat", "account": "T1", "value": "sari", "raw": "sari", "verified": True, "disputed": False}
    ]


async def test_a_message_again_is_a_duplicate_wherever_it_stands(desk):
    first = message("m1", "Halo")
    outcomes = [event["outcome"] for event in await desk.hear(first, first, message("m2", "Halo"))]
    assert outcomes == ["recorded", "duplicate", "recorded"]
    [again] = await desk.hear(first)
    assert again["outcome"] == "duplicate"
    assert again["interaction_id"] == (await desk.timeline())[1]["id"]
    assert len(await desk.timeline()) == 2
    [thread] = (await desk.client.get(f"/v1/contacts/{again['contact_id']}/threads")).json()["items"]
    assert thread["messages_count"] == 2


async def test_an_echo_of_our_own_message_is_ours(desk):
    await desk.hear(message("m1", "Siap kak", direction="outbound"))
    assert (await one(desk))["direction"] == "outbound"


@pytest.mark.parametrize("text", ["a\x00b", "\ud800 half", "", None, "x" * 200_000])
async def test_no_text_breaks_anything(desk, text):
    [came] = await desk.hear(message("m\x001", text))
    assert came["outcome"] == "recorded", came
    body = (await one(desk))["body"]
    assert body == (text if text is None else text.replace("\x00", "").replace("\ud800", "?")[:100_000])


async def test_an_id_of_any_length_is_known_again(desk):
    long = message("m" * 5_000, "Halo")
    assert [event["outcome"] for event in await desk.hear(long)] == ["recorded"]
    assert [event["outcome"] for event in await desk.hear(long)] == ["duplicate"]
    assert [event["outcome"] for event in await desk.hear(state("m" * 5_000, "read", at=at(5)))] == ["recorded"]


async def test_what_lies_in_the_future_or_is_of_our_kinds_is_refused_alone(desk):
    ahead = (datetime.now(UTC) + timedelta(days=2)).isoformat()
    events = await desk.hear(
        message("m1", "later", at=ahead), message("m2", "mine", kind="points.award"), message("m3", "Halo")
    )
    assert [(event["outcome"], (event["error"] or {}).get("code")) for event in events] == [
        ("failed", "in_the_future"), ("failed", "reserved_kind"), ("recorded", None)
    ]  # fmt: skip
    assert (await one(desk))["body"] == "Halo"


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ([("sent", 1), ("delivered", 2), ("read", 3)], "read"),
        ([("read", 3), ("delivered", 2), ("sent", 1)], "read"),
        ([("sent", 1)], "sent"),
        ([("failed", 2), ("sent", 3)], "failed"),
        ([("sent", 3), ("failed", 2)], "failed"),
        ([("failed", 2), ("delivered", 3)], "delivered"),
        ([("delivered", 3), ("failed", 2)], "delivered"),
        ([("delivered", 1), ("failed", 2)], "failed"),
        ([("read", 1), ("failed", 2), ("delivered", 3)], "read"),
    ],
)
@pytest.mark.parametrize("first", [True, False], ids=["after the message", "before it"])
async def test_a_state_only_moves_up(desk, told, shown, first):
    states = [state("m1", name, at=at(seconds)) for name, seconds in told]
    said = message("m1", "Siap", direction="outbound")
    for item in [said, *states] if first else [*states, said]:
        await desk.hear(item)
    assert (await one(desk))["state"] == shown


async def test_a_state_that_waits_says_so_and_then_is_there(desk, session):
    assert (await desk.hear(state("m1", "sent", at=at(1))))[0]["outcome"] == "waiting"
    assert (await desk.hear(state("m1", "sent", at=at(1))))[0]["outcome"] == "waiting"
    assert await session.fetchval("SELECT count(*) FROM waiting_changes") == 1
    await desk.hear(message("m1", "Siap", direction="outbound"))
    assert await session.fetchval("SELECT count(*) FROM waiting_changes") == 0
    assert (await one(desk))["state"] == "sent"
    assert (await desk.hear(state("m1", "sent", at=at(1))))[0]["outcome"] == "duplicate"


async def test_a_failure_says_why(desk):
    error = {"code": 131026, "title": "Message undeliverable"}
    await desk.hear(message("m1", "Siap", direction="outbound"), state("m1", "failed", at=at(1), error=error))
    item = await one(desk)
    assert (item["state"], item["error"]) == ("failed", error)
    await desk.hear(state("m1", "sent", at=at(1), data={"state": "read"}))
    item = await one(desk)
    assert (item["state"], item["error"]) == ("failed", error)


async def test_a_state_that_nobody_knows_fails_alone(desk):
    events = await desk.hear(message("m1", "Siap"), state("m1", "evaporated", at=at(1)))
    assert [event["outcome"] for event in events] == ["recorded", "failed"]
    assert events[1]["error"]["code"] == "unknown_state"


@pytest.mark.parametrize("late", [False, True], ids=["after the messages", "before one of them"])
async def test_a_watermark_is_the_state_of_everything_before_it(desk, late):
    early = [message("m1", "one", at=at(0), direction="outbound"), message("i1", "theirs", at=at(1))]
    more = [message("m2", "two", at=at(10), direction="outbound"), message("m3", "three", at=at(30),
                                                                           direction="outbound")]  # fmt: skip
    await desk.hear(*early, *([] if late else more))
    [came] = await desk.hear(watermark("delivered", at(20), at=at(25)))
    assert came["outcome"] == "recorded"
    if late:
        await desk.hear(*more)
    shown = {item["external_id"]: item["state"] for item in await desk.timeline()}
    assert shown == {"m1": "delivered", "m2": "delivered", "m3": None, "i1": None}
    assert (await desk.hear(watermark("delivered", at(20), at=at(25))))[0]["outcome"] == "duplicate"
    await desk.hear(watermark("read", at(40), at=at(41)), watermark("delivered", at(15), at=at(16)))
    shown = {item["external_id"]: item["state"] for item in await desk.timeline()}
    assert shown == {"m1": "read", "m2": "read", "m3": "read", "i1": None}


async def test_a_watermark_of_nobody_makes_no_contact(desk, session):
    [came] = await desk.hear(watermark("read", at(40), at=at(41)))
    assert came["outcome"] == "kept"
    assert await session.fetchval("SELECT count(*) FROM contacts") == 0


async def test_an_edited_message_shows_its_latest_text_whatever_came_last(desk, session):
    await desk.hear(message("m1", "Rp 10.000"))
    await desk.hear(edited("m1", "Rp 12.000", at=at(20)))
    await desk.hear(edited("m1", "Rp 11.000", at=at(10)), edited("m1", "Rp 12.000", at=at(20)))
    item = await one(desk)
    assert (item["body"], item["edited_at"]) == ("Rp 12.000", "2026-11-01T09:30:20Z")
    assert await session.fetchval("SELECT body FROM interactions WHERE kind = 'message'") == "Rp 10.000"
    assert await session.fetchval("SELECT count(*) FROM interaction_changes") == 2


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 1, 3), (1, 2, 3, 0)])
async def test_of_a_message_that_was_taken_back_nothing_is_left_that_was_said(desk, session, order):
    said = [
        message("m1", "nomor kartu 4111", subject="rahasia", attachments=[{"kind": "image", "reference": "card.jpg"}]),
        edited("m1", "kartu 5500", at=at(10)),
        unsent("m1", at=at(20)),
        reaction("r1", "m1", "😱", at=at(15)),
    ]
    for number in order:
        await desk.hear(said[number])
    item = await one(desk)
    assert (item["subject"], item["body"], item["data"], item["reactions"]) == (None, None, {}, [])
    assert item["unsent_at"] == "2026-11-01T09:30:20Z"
    everything = [
        str(dict(row))
        for table in ("interactions", "interaction_changes", "waiting_changes")
        for row in await session.fetch(f"SELECT * FROM {table}")
    ]
    for words in ("4111", "rahasia", "card.jpg", "5500"):
        assert not any(words in row for row in everything), words
    assert await desk.timeline(q="kartu") == []
    assert (await desk.hear(said[0]))[0]["outcome"] == "duplicate"
    assert (await one(desk))["body"] is None


async def test_a_member_sees_a_message_as_it_is_now(desk):
    await desk.hear(message("m1", "Rp 10.000"), edited("m1", "Rp 12.000", at=at(5)), message("m2", "oops", at=at(9)))
    await desk.hear(unsent("m2", at=at(10)))
    contact_id = (await desk.contact())["id"]
    token = (await desk.client.post(f"/v1/contacts/{contact_id}/member-tokens", json={})).json()["token"]
    seen = (await desk.client.holding(token).get("/v1/me/timeline")).json()["items"]
    assert [(item["kind"], item["body"]) for item in seen] == [("message", None), ("message", "Rp 12.000")]


async def test_what_was_said_goes_by_one_door_only(desk, session):
    [came] = await desk.hear(message("m1", "Halo"))
    which = (UUID(came["contact_id"]), UUID(came["interaction_id"]))
    for statement in (
        "UPDATE interactions SET body = NULL",
        "UPDATE interactions SET kind = 'x'",
        "DELETE FROM interactions",
    ):
        with pytest.raises(asyncpg.RestrictViolationError):
            async with session.savepoint():
                await session.execute(f"{statement} WHERE contact_id = $1 AND id = $2", *which)
    # Even with the door open, only content goes through it.
    with pytest.raises(asyncpg.RestrictViolationError):
        async with session.savepoint():
            await session.execute("SET LOCAL setia.emptying TO 'on'")
            await session.execute("UPDATE interactions SET occurred_at = now()")
    await session.fetch("SELECT empty_interactions($1, $2)", [which[0]], [which[1]])
    assert (await one(desk))["body"] is None
    with pytest.raises(asyncpg.RestrictViolationError):
        async with session.savepoint():
            await session.execute("UPDATE interactions SET data = '{}'")


async def test_signs_are_shown_as_they_are_now(desk):
    await desk.hear(message("m1", "Terima kasih", direction="outbound"))
    await desk.hear(reaction("r2", "m1", "❤️", at=at(20)), reaction("r1", "m1", "👍", at=at(10)))
    assert (await one(desk))["reactions"] == [{"emoji": "❤️", "occurred_at": "2026-11-01T09:30:20Z"}]
    await desk.hear(reaction("r3", "m1", "🎉", at=at(5), who="budi"))
    assert [each["emoji"] for each in (await one(desk))["reactions"]] == ["🎉", "❤️"]
    await desk.hear(reaction("r4", "m1", None, at=at(30)))
    assert [each["emoji"] for each in (await one(desk))["reactions"]] == ["🎉"]


def test_what_a_message_looks_like_does_not_depend_on_the_order_of_its_changes():
    chance = random.Random(7)
    base = datetime(2026, 11, 1, tzinfo=UTC)
    for _ in range(300):
        moments = iter(chance.sample(range(1_000), 12))
        told = [
            chance.choice([
                ("state", {"state": chance.choice(["queued", "sent", "delivered", "read", "failed"])}),
                ("edited", {"text": str(chance.random())}),
                ("unsent", {}),
                ("reaction", {"by": chance.choice("ab"), "emoji": chance.choice(["x", "y", None])}),
            ])
            for _ in range(chance.randrange(12))
        ]  # fmt: skip
        dated = [(kind, data, base + timedelta(seconds=next(moments))) for kind, data in told]
        first = changes.look(dated)
        chance.shuffle(dated)
        assert changes.look(dated) == first


@pytest.mark.parametrize(
    ("seconds", "facts", "threads"),
    [
        ([0, 3600, 7200], [{}, {}, {}], 1),
        ([0, 86399, 172797], [{}, {}, {}], 1),
        ([0, 86400], [{}, {}], 2),
        ([172800, 86400, 0], [{}, {}, {}], 3),
        ([0, 864000], [{"thread_hint": "case-7"}, {"thread_hint": "case-7"}], 1),
        ([0, 10, 20], [{}, {"thread_hint": "case-7"}, {}], 2),
        ([0, 10], [{"thread_hint": "case-7"}, {"thread_hint": "case-8"}], 2),
        ([0, 10], [{}, {"direction": "outbound"}], 1),
    ],
)
@pytest.mark.parametrize("together", [True, False])
async def test_messages_make_threads(desk, seconds, facts, threads, together):
    said = [
        message(f"m{number}", "Halo", at=at(second), **more)
        for number, (second, more) in enumerate(zip(seconds, facts, strict=True))
    ]
    if together:
        await desk.hear(*said)
    else:
        for each in said:
            await desk.hear(each)
    timeline = await desk.timeline()
    assert len({item["thread_id"] for item in timeline}) == threads
    assert None not in {item["thread_id"] for item in timeline}


async def test_threads_are_listed_with_their_messages(client):
    desk = await Desk.open(client, settings={"thread_gap_hours": "1"})
    await desk.hear(
        message("m1", "pagi", at=at(0)), message("m2", "siang", at=at(1_800), direction="outbound"),
        message("m3", "malam", at=at(40_000)),
    )  # fmt: skip
    contact_id = (await desk.contact())["id"]
    page = (await client.get(f"/v1/contacts/{contact_id}/threads?limit=1")).json()
    [latest] = page["items"]
    [first] = (
        await client.get(f"/v1/contacts/{contact_id}/threads", params={"cursor": page["next_cursor"], "limit": 1})
    ).json()["items"]
    assert (first["opened_at"], first["last_at"], first["last_inbound_at"], first["messages_count"]) == (
        "2026-11-01T09:30:00Z", "2026-11-01T10:00:00Z", "2026-11-01T09:30:00Z", 2
    )  # fmt: skip
    assert (first["account_id"], first["channel"]) == (desk.account["id"], "chat")
    assert [item["body"] for item in await desk.timeline(thread_id=first["id"])] == ["siang", "pagi"]
    assert [item["body"] for item in await desk.timeline(thread_id=latest["id"])] == ["malam"]
    assert (await client.get(f"/v1/contacts/{contact_id}/threads/{first['id']}")).json() == first
    missing = await client.get(f"/v1/contacts/{contact_id}/threads/{contact_id}")
    assert (missing.status_code, missing.json()["code"]) == (404, "thread_not_found")
    assert (await client.get(f"/v1/contacts/{first['id']}/threads")).status_code == 404


async def test_what_nobody_understands_is_shown_to_be_there(desk):
    raw = {"event": "Teleported", "external_id": "t1", "person": person(toy("sari")), "where": "Bandung"}
    [came] = await desk.hear(raw)
    assert came["outcome"] == "kept"
    await desk.hear(message("m1", "Halo"))
    [came] = await desk.hear(raw)
    assert came["outcome"] == "recorded"
    [item] = await desk.timeline(kind="unknown")
    assert item["data"] == {"kind": "Teleported", "raw": raw}
    [came] = await desk.hear({"event": "Teleported", "external_id": "t2"})
    assert came["outcome"] == "kept"


async def test_what_else_happens_stands_on_the_timeline(desk):
    events = await desk.hear(
        {"event": "Happened", "external_id": "h1", "kind": "page.viewed", "subject": "Kopi Gayo", "data": {"n": 1},
         "person": person(toy("sari")), "occurred_at": at()},
        {"event": "Happened", "external_id": "h2", "kind": "page.viewed", "person": None, "occurred_at": at()},
    )  # fmt: skip
    assert [event["outcome"] for event in events] == ["recorded", "kept"]
    [item] = await desk.timeline()
    assert (item["kind"], item["subject"], item["data"], item["thread_id"]) == ("page.viewed", "Kopi Gayo", {"n": 1},
                                                                                None)  # fmt: skip


async def test_a_consent_stands_on_the_timeline_once(desk):
    stop = {
        "event": "ConsentChanged", "external_id": "c1", "granted": False, "channel": "chat", "purpose": "marketing",
        "evidence": {"text": "STOP"}, "person": person(toy("sari")), "occurred_at": at(),
    }  # fmt: skip
    assert [event["outcome"] for event in await desk.hear(stop, {**stop, "external_id": "c2", "granted": True})] == [
        "recorded", "recorded"
    ]  # fmt: skip
    assert (await desk.hear(stop))[0]["outcome"] == "duplicate"
    assert {item["kind"] for item in await desk.timeline()} == {"consent.denied", "consent.granted"}
    [item] = await desk.timeline(kind="consent.denied")
    current = (await desk.client.get(f"/v1/contacts/{item['contact_id']}/consents")).json()["items"]
    said = {(one["status"], one["channel"], one["purpose"]): one["evidence"] for one in current}
    assert said["denied", "chat", "marketing"] == {"text": "STOP"}


async def test_a_wish_about_ones_data_is_kept_once(desk):
    wish = {
        "event": "PrivacyRequested", "external_id": "p1", "topic": "erasure", "occurred_at": at(),
        "person": person(email("sari@example.com"), phone("+628123456789")), "data": {"orders": ["1"]},
    }  # fmt: skip
    assert [event["outcome"] for event in await desk.hear(wish, wish)] == ["recorded", "duplicate"]
    page = (await desk.client.get("/v1/privacy-requests")).json()
    [kept] = page["items"]
    assert (kept["topic"], kept["data"], kept["account_id"]) == ("erasure", {"orders": ["1"]}, desk.account["id"])
    assert [each["value"] for each in kept["identities"]] == ["sari@example.com", "+628123456789"]
    assert (await desk.client.get(f"/v1/privacy-requests/{kept['id']}")).json() == kept
    assert (await desk.client.get(f"/v1/privacy-requests/{desk.account['id']}")).status_code == 404


async def test_of_somebody_who_is_forgotten_no_delivery_and_no_change_tells_anything(desk, session):
    await desk.hear(
        message("m1", "nomor saya 4111"), edited("m1", "nomor saya 5500", at=at(5)),
        reaction("r1", "m1", "❤️", at=at(6)),
        state("m1", "read", at=at(7)), watermark("read", at(9), at=at(9)), message("b1", "tetap", who=toy("budi")),
    )  # fmt: skip
    await desk.hear(
        {"event": "PrivacyRequested", "external_id": "p1", "topic": "erasure", "person": person(toy("sari")),
         "occurred_at": at()},
        message("b2", "juga", who=toy("budi")),
    )  # fmt: skip
    contact_id = (await desk.contact())["id"]
    told = (await desk.client.get(f"/v1/contacts/{contact_id}/personal-data")).text
    assert "4111" in told
    assert "5500" in told
    erased = await desk.client.post(f"/v1/contacts/{contact_id}/erasure", json={})
    assert erased.status_code == 201, erased.text
    for table in (
        "interactions", "interaction_changes", "inbox_deliveries", "threads", "message_watermarks", "privacy_requests",
    ):  # fmt: skip
        stored = str([dict(row) for row in await session.fetch(f"SELECT * FROM {table}")])
        for words in ("4111", "5500", "❤️", "'sari'"):
            assert words not in stored, (table, words)
    assert [item["body"] for item in await desk.timeline((await desk.contact(value="budi"))["id"])] == ["juga", "tetap"]
    first = (await desk.client.get("/v1/deliveries")).json()["items"][-1]
    assert (first["events_count"], first["purged_at"] is None) == (None, False)


async def test_who_was_merged_keeps_threads_and_states_under_the_new_name(desk):
    number = phone("+628123456789", verified=True)
    await desk.hear(message("m1", "Siap", direction="outbound"), message("m2", "Halo", who=number))
    other, kept = (await desk.contact())["id"], (await desk.contact("phone", "+628123456789"))["id"]
    merged = await desk.client.post("/v1/merges", json={"contact_id": kept, "other_contact_id": other})
    assert merged.status_code == 201, merged.text
    await desk.hear(watermark("read", at(20), at=at(21)), state("m1", "delivered", at=at(9)))
    timeline = await desk.timeline(kept)
    assert {item["external_id"]: item["state"] for item in timeline} == {"m1": "read", "m2": None}
    page = (await desk.client.get(f"/v1/contacts/{kept}/threads")).json()["items"]
    assert [thread["contact_id"] for thread in page] == [kept, kept]
    one_of = page[0]["id"]
    assert (await desk.client.get(f"/v1/contacts/{kept}/threads/{one_of}")).json() in page
    assert len(await desk.timeline(kept, thread_id=one_of)) == 1
    assert {item["external_id"] for item in await desk.timeline(kept, q="siap")} == {"m1"}
