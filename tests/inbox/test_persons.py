"""Who is behind addresses: found by what is vouched for, and never made one with somebody by what was typed."""

import pytest

from tests.inbox.desk import Desk
from tests.inbox.toychat import at, email, message, person, phone, toy


async def contact(client, *identities, name="Sari"):
    answer = await client.post("/v1/contacts", json={"name": name, "identities": list(identities)})
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def says(external_id, *addresses, name="Sari", **more):
    return {**message(external_id, "Halo"), "person": person(*addresses, name=name, **more)}


def identified(external_id, *addresses, replaces=(), **attributes):
    return {
        "event": "Identified", "external_id": external_id, "person": person(*addresses), "occurred_at": at(),
        "replaces": list(replaces), "attributes": attributes,
    }  # fmt: skip


async def suspected(desk, contact_id):
    page = await desk.client.get(f"/v1/contacts/{contact_id}/timeline?kind=contact.same_suspected")
    return [item["data"]["contact_id"] for item in page.json()["items"]]


async def suggested(desk, contact_id):
    """Who may be the same person: with which score, and why."""
    page = await desk.client.get(f"/v1/contacts/{contact_id}/duplicates")
    return [
        (
            next(each for each in (pair["contact_id"], pair["other_contact_id"]) if each != contact_id),
            pair["score"], [reason["code"] for reason in pair["reasons"]],
        )
        for pair in page.json()["items"]
    ]  # fmt: skip


async def identities(desk, contact_id):
    answer = await desk.client.get(f"/v1/contacts/{contact_id}")
    return {(each["kind"], each["value"], each["verified"]) for each in answer.json()["identities"]}


async def test_a_sender_is_the_contact_who_has_the_address(desk):
    sari = await contact(desk.client, {"kind": "phone", "value": "0812-3456-789"})
    [came] = await desk.hear(says("m1", phone("+628123456789", verified=True)))
    assert came["contact_id"] == sari
    assert await identities(desk, sari) == {("phone", "+628123456789", True)}


async def test_a_stranger_becomes_one_contact_with_all_their_addresses(desk, session):
    both = toy("sari"), phone("0812-3456-789", verified=True)
    events = await desk.hear(says("m1", *both), says("m2", both[1]), says("m3", both[0], email("sari@example.com")))
    assert len({event["contact_id"] for event in events}) == 1
    assert await session.fetchval("SELECT count(*) FROM contacts") == 1
    assert await identities(desk, events[0]["contact_id"]) == {
        ("toychat", "sari", True), ("phone", "+628123456789", True), ("email", "sari@example.com", False)
    }  # fmt: skip


async def test_who_is_known_by_one_address_is_known_by_the_next_from_then_on(desk):
    [first] = await desk.hear(says("m1", toy("sari")))
    [second] = await desk.hear(says("m2", toy("sari"), phone("0812-3456-789", verified=True)))
    [third] = await desk.hear(says("m3", phone("0812-3456-789", verified=True)))
    assert first["contact_id"] == second["contact_id"] == third["contact_id"]


async def test_an_address_that_was_only_typed_makes_nobody_one_with_a_stranger(desk):
    sari = await contact(desk.client, {"kind": "email", "value": "sari@example.com"})
    [came] = await desk.hear(says("m1", toy("thief"), email("sari@example.com")))
    assert came["contact_id"] != sari
    assert await identities(desk, came["contact_id"]) == {("toychat", "thief", True)}
    assert await suspected(desk, came["contact_id"]) == [sari]
    await desk.hear(says("m2", toy("thief"), email("sari@example.com")))
    assert await suspected(desk, came["contact_id"]) == [sari]


async def test_nothing_typed_is_added_to_somebody_found_by_what_was_typed(desk):
    sari = await contact(desk.client, {"kind": "email", "value": "sari@example.com"})
    [came] = await desk.hear(says("m1", email("sari@example.com"), phone("+628999999999")))
    assert came["contact_id"] == sari
    assert await identities(desk, sari) == {("email", "sari@example.com", False)}


async def test_two_vouched_for_addresses_of_two_contacts_are_suggested_not_merged(desk):
    one = await contact(desk.client, {"kind": "toychat", "account": "T1", "value": "sari"})
    other = await contact(desk.client, {"kind": "phone", "value": "+628123456789", "verified": True}, name="S. Dewi")
    [came] = await desk.hear(says("m1", toy("sari"), phone("+628123456789", verified=True)))
    assert came["contact_id"] == one
    assert await suspected(desk, one) == [other]
    assert await suggested(desk, one) == [(other, 90, ["shared_identity"])]
    assert await identities(desk, one) == {("toychat", "sari", True)}
    assert await identities(desk, other) == {("phone", "+628123456789", True)}


async def test_an_address_that_is_vouched_for_is_taken_from_who_only_showed_it(desk):
    one = await contact(desk.client, {"kind": "toychat", "account": "T1", "value": "sari"})
    other = await contact(desk.client, {"kind": "phone", "value": "+628123456789"}, name="S. Dewi")
    await desk.hear(says("m1", toy("sari"), phone("+628123456789", verified=True)))
    assert await identities(desk, one) == {("toychat", "sari", True), ("phone", "+628123456789", True)}
    [shown] = (await desk.client.get(f"/v1/contacts/{other}")).json()["identities"]
    assert (shown["value"], shown["disputed"], shown["verified"]) == ("+628123456789", True, False)
    assert await suggested(desk, other) == [(one, 80, ["disputed_identity"])]
    [later] = await desk.hear(says("m2", phone("+628123456789", verified=True)))
    assert later["contact_id"] == one


async def test_a_suggestion_stands_until_somebody_decides_and_is_made_once(desk):
    sari = await contact(desk.client, {"kind": "email", "value": "sari@example.com"})
    [came] = await desk.hear(says("m1", toy("thief"), email("sari@example.com")))
    assert await suggested(desk, sari) == [(came["contact_id"], 70, ["shared_identity"])]
    [pair] = (await desk.client.get("/v1/duplicates")).json()["items"]
    assert (await desk.client.post(f"/v1/duplicates/{pair['id']}/dismissal")).status_code in {200, 201}
    await desk.hear(says("m2", toy("thief"), email("sari@example.com")))
    assert await suggested(desk, sari) == []


@pytest.mark.parametrize(
    "text",
    [
        "Kak, nomor WA saya 0812-3456-789 ya",
        "I am also +62 812 3456 789",
        "email saya Sari@Example.com!",
        "sari@example.com / 0812 3456 789",
    ],
)
async def test_who_names_somebody_s_address_in_a_message_may_be_the_same(desk, text):
    sari = await contact(
        desk.client, {"kind": "phone", "value": "0812-3456-789"}, {"kind": "email", "value": "sari@example.com"}
    )
    [came] = await desk.hear({**says("m1", toy("sari.kopi")), "text": text})
    assert came["contact_id"] != sari
    assert await identities(desk, came["contact_id"]) == {("toychat", "sari.kopi", True)}
    assert await suggested(desk, sari) == [(came["contact_id"], 60, ["shared_identity"])]


@pytest.mark.parametrize(
    ("text", "direction"),
    [
        ("order 0812", "inbound"), ("a" * 3_000 + " 08123456789", "inbound"), ("call us: 0812-3456-789", "outbound"),
        ("1" * 2_000, "inbound"), ("@" * 2_000, "inbound"), (None, "inbound"),
    ],
)  # fmt: skip
async def test_what_is_no_address_of_theirs_makes_nobody_suspicious(desk, text, direction):
    await contact(desk.client, {"kind": "phone", "value": "0812-3456-789"})
    [came] = await desk.hear({**says("m1", toy("sari.kopi")), "text": text, "direction": direction})
    assert came["outcome"] == "recorded"
    assert await suggested(desk, came["contact_id"]) == []


async def test_somebody_new_who_is_reached_in_the_same_way_is_suggested(desk):
    sari = await contact(desk.client, {"kind": "whatsapp", "value": "628123456789"}, name="Sari Dewi")
    [came] = await desk.hear(says("m1", phone("+628123456789"), name="Sari Dewi"))
    assert came["contact_id"] != sari
    [(other, score, codes)] = await suggested(desk, sari)
    assert (other, "same_number" in codes) == (came["contact_id"], True)
    assert score > 90


@pytest.mark.parametrize("more", [[], [phone("+628999999999")]])
async def test_a_blocked_address_is_nobody_s_and_keeps_no_other_out(desk, session, more):
    blocked = await desk.client.post("/v1/blocked-identities", json={"kind": "email", "value": "kasir@example.com"})
    assert blocked.status_code == 201, blocked.text
    events = await desk.hear(says("m1", email("kasir@example.com"), *more), says("m2", toy("sari")))
    assert [event["outcome"] for event in events] == ["recorded" if more else "failed", "recorded"]
    assert await session.fetchval("SELECT count(*) FROM contact_identities WHERE kind = 'email'") == 0
    if not more:
        assert events[0]["error"]["code"] == "nobody_known"


@pytest.mark.parametrize("addresses", [[], [{"kind": "phone", "value": "unknown"}], [{"kind": "email", "value": "x"}]])
async def test_who_has_no_address_that_identifies_anybody_is_nobody(desk, session, addresses):
    [came] = await desk.hear(says("m1", *addresses))
    assert (came["outcome"], came["error"]["code"]) == ("failed", "nobody_known")
    assert await session.fetchval("SELECT count(*) FROM contacts") == 0


async def test_an_address_that_can_t_be_used_does_not_keep_the_others_from_it(desk):
    [came] = await desk.hear(says("m1", phone("unknown", verified=True), toy("sari")))
    assert came["outcome"] == "recorded"


@pytest.mark.parametrize(
    ("name", "shown"), [(None, "sari"), ("", "sari"), ("  ", "sari"), ("Sa\x00ri", "Sari"), ("S" * 900, "S" * 200)]
)
async def test_no_name_keeps_a_sender_out(desk, name, shown):
    await desk.hear(says("m1", toy("sari"), name=name))
    assert (await desk.contact())["name"] == shown


@pytest.mark.parametrize(("locale", "kept"), [("id", "id"), ("id_ID", "id-ID"), ("!!", None), (None, None)])
async def test_no_language_keeps_a_sender_out(desk, locale, kept):
    await desk.hear(says("m1", toy("sari"), locale=locale))
    assert (await desk.contact())["locale"] == kept


async def test_a_number_that_was_given_up_goes_and_the_new_one_comes(desk):
    [first] = await desk.hear(says("m1", phone("+628111111111", verified=True)))
    sari = first["contact_id"]
    moved = identified("i1", phone("+628222222222", verified=True), replaces=[phone("+628111111111", verified=True)])
    [came] = await desk.hear(moved)
    assert (came["outcome"], came["contact_id"]) == ("recorded", sari)
    assert await identities(desk, sari) == {("phone", "+628222222222", True)}
    [again] = await desk.hear(moved)
    assert (again["outcome"], again["contact_id"]) == ("duplicate", sari)
    [somebody] = await desk.hear(says("m2", phone("+628111111111", verified=True), name="Budi"))
    assert somebody["contact_id"] != sari
    await desk.hear(moved)
    assert await identities(desk, somebody["contact_id"]) == {("phone", "+628111111111", True)}


async def test_facts_that_are_told_are_kept(desk):
    await desk.hear(identified("i1", toy("sari"), email("sari@example.com"), favourite="gayo", visits=3))
    found = await desk.contact()
    assert found["attributes"] == {"favourite": "gayo", "visits": 3}
    assert await identities(desk, found["id"]) == {("toychat", "sari", True), ("email", "sari@example.com", False)}
    [again] = await desk.hear(identified("i1", toy("sari"), email("sari@example.com"), favourite="gayo"))
    assert again["outcome"] == "duplicate"
    assert (await desk.contact())["version"] == found["version"]
    events = await desk.hear(identified("i2", toy("sari"), **{"1 bad name": "x"}), message("m1", "Halo"))
    assert [event["outcome"] for event in events] == ["failed", "recorded"]
    assert events[0]["error"]["code"] == "invalid"


async def test_addresses_of_two_accounts_are_two_people(client):
    desk, other = await Desk.open(client), await Desk.open(client, ref="T2")
    [first] = await desk.hear(says("m1", toy("sari")))
    [second] = await other.hear(says("m1", {**toy("sari"), "account": "T2"}))
    assert second["outcome"] == "recorded"
    assert first["contact_id"] != second["contact_id"]
