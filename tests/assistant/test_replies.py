"""The bot answers by rules: from the record of whoever asks, from articles, or not at all, and then people do."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from crm.db.ids import uuid7
from tests.care.test_articles import written
from tests.interactions.test_erasures import erase
from tests.interactions.test_merges import made, merge
from tests.loyalty.shop import ORDER, Shop, at_once, checksum, statuses

HOURS = {"id": {"title": "Jam buka toko", "body": "Kami buka **setiap hari** pukul 9 sampai 21."}}


@pytest.fixture
async def shop(client: Any) -> Shop:
    shop = await Shop.open(client)
    await client.post(f"/v1/programs/{shop.program_id}/tiers", json={"name": "Gold", "threshold": 1000})
    await written(client, slug="jam-buka", texts=HOURS)
    await written(client)
    return shop


@pytest.fixture
async def sari(shop: Shop) -> UUID:
    return await made(shop.client, {
        "name": "Sari", "locale": "id-ID", "identities": [{"kind": "phone", "value": "0812-3456-789"}]
    })  # fmt: skip


async def ask(shop: Shop, contact_id: UUID, text: str, **facts: Any) -> dict[str, Any]:
    answer = await shop.post(contact_id, "assistant-replies", {"text": text, **facts})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def test_a_balance_is_that_of_the_record_with_its_time(shop, sari):
    await shop.award(sari, 1250)
    before = datetime.now(UTC)
    reply = await ask(shop, sari, "Berapa poin saya?")
    assert reply["answer"] == "Anda punya 1.250 poin di Kopi."
    assert (reply["outcome"], reply["reason"], reply["written_by"], reply["case_id"]) == (
        "answered", "facts", "rules", None
    )  # fmt: skip
    (source,) = reply["sources"]
    assert (source["kind"], source["name"]) == ("fact", "balance")
    assert source["data"] == {"program": "Kopi", "available": 1250, "pending": 0, "held": 0}
    assert timedelta() <= datetime.fromisoformat(source["as_of"]) - before < timedelta(minutes=1)
    assert (await ask(shop, sari, "How many points do I have?"))["answer"] == "You have 1,250 points in Kopi."


async def test_tier_and_ends_of_points_are_told_too(shop, sari):
    await shop.award(sari, 990, expires_at="2031-01-01T00:00:00+07:00")
    tier = await ask(shop, sari, "Which tier am I in?")
    assert tier["answer"] == "You have not reached a tier in Kopi yet. 10 points more take you to Gold."
    both = await ask(shop, sari, "berapa poin saya dan kapan hangus?")
    assert both["answer"] == "Anda punya 990 poin di Kopi.\n990 poin bisa dipakai sampai 31 Desember 2030."
    assert [source["name"] for source in both["sources"]] == ["balance", "expiring_points"]
    await shop.award(sari, 10)
    assert (await ask(shop, sari, "tier saya apa"))["answer"].startswith("Tingkat Anda di Kopi adalah Gold.")


async def test_an_order_is_as_the_timeline_last_told(shop, sari):
    assert (await ask(shop, sari, "pesanan saya di mana?"))["answer"].startswith("Saya tidak menemukan")
    await shop.buy(sari)
    await shop.buy(sari, order_ref="INV-2", occurred_at="2026-11-02T09:30:00Z")
    told = {"channel": "shop", "kind": "order.shipped", "occurred_at": "2026-11-03T02:00:00Z"}
    await shop.post(sari, "interactions", told | {"data": {"order_ref": "INV-1"}})
    reply = await ask(shop, sari, "Where is my order?")
    assert reply["answer"] == (
        "Order INV-1: shipped, as of 3 November 2026. Order INV-2: recorded, as of 2 November 2026."
    )
    assert reply["sources"][0]["data"]["orders"][0]["total"] == ORDER["total"]
    assert (await ask(shop, sari, "status pesanan inv-2"))["answer"] == "Pesanan INV-2: tercatat, per 2 November 2026."
    assert (await ask(shop, sari, "where is order INV-9"))["answer"] == "I find no order INV-9 among yours."
    late = {"channel": "shop", "kind": "delivery", "occurred_at": "2026-11-04T02:00:00Z"}
    await shop.post(sari, "interactions", late | {"data": {"order_ref": "INV-1", "status": "on its way"}})
    assert "INV-1: on its way" in (await ask(shop, sari, "where is order INV-1"))["answer"]


async def test_nobody_hears_of_another_s_orders(shop, sari):
    budi = await made(shop.client, {"name": "Budi"})
    await shop.buy(budi, order_ref="INV-77")
    reply = await ask(shop, sari, "Where is order INV-77?")
    assert reply["answer"] == "I find no order INV-77 among yours."


async def test_an_article_answers_with_its_passage_and_its_page(shop, sari):
    reply = await ask(shop, sari, "jam berapa toko buka?")
    assert reply["answer"] == (
        "Kami buka setiap hari pukul 9 sampai 21.\n\nSelengkapnya: Jam buka toko (/help/id/jam-buka)"
    )
    (source,) = reply["sources"]
    assert (source["kind"], source["name"], source["path"], source["as_of"]) == (
        "article", "jam-buka", "/help/id/jam-buka", None
    )  # fmt: skip
    assert (await ask(shop, sari, "how do I redeem points"))["sources"][0]["name"] == "menukar-poin"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("I want to talk to a human", "asked_for_a_person"),
        ("Saya mau bicara dengan orang", "asked_for_a_person"),
        ("Kopinya basi, saya kecewa sekali!", "complaint"),
        ("Apakah ada susu gandum?", "unsure"),
        ("???", "unsure"),
    ],
)
async def test_people_answer_what_the_bot_can_not(shop, sari, text, reason):
    reply = await ask(shop, sari, text, channel="whatsapp")
    assert (reply["outcome"], reply["reason"], reply["sources"]) == ("handed_over", reason, [])
    path = f"/v1/cases/{reply['case_id']}"
    case = (await shop.client.get(path)).json()
    assert (case["channel"], case["status"], case["created_by"], case["with_bot"]) == ("whatsapp", "open", "bot", False)
    [opened] = [each for each in await told(shop, path) if each["kind"] == "case.opened"]
    assert opened["body"] == text
    again = await ask(shop, sari, text)
    assert again["case_id"] == reply["case_id"]
    await shop.client.patch(path, json={"status": "closed"})
    assert (await ask(shop, sari, text))["case_id"] != reply["case_id"]


async def told(shop: Shop, path: str) -> Any:
    """What happened in a case."""
    return (await shop.client.get(f"{path}/timeline")).json()["items"]


async def test_a_case_that_a_bot_has_is_handed_over_and_people_are_waited_for(shop, sari):
    policy = {"name": "Usual", "targets": {"normal": {"first_reply": "PT1H"}}}
    assert (await shop.client.post("/v1/sla-policies", json=policy)).status_code == 201
    facts = {"contact_id": str(sari), "subject": "Tanya", "with_bot": True, "channel": "chat"}
    case = (await shop.client.post("/v1/cases", json=facts)).json()
    thread = str(uuid7())
    said = {
        "channel": "chat", "kind": "message", "direction": "inbound", "occurred_at": datetime.now(UTC).isoformat(),
        "body": "Halo", "thread_id": thread, "case_id": case["id"],
    }  # fmt: skip
    assert (await shop.post(sari, "interactions", said)).status_code == 201
    reply = await ask(shop, sari, "bicara dengan orang", channel="chat", thread_id=thread)
    assert reply["case_id"] == case["id"]
    path = f"/v1/cases/{case['id']}"
    found = (await shop.client.get(path)).json()
    assert (found["with_bot"], found["first_replied_at"]) == (False, None)
    assert {each["metric"]: each["state"] for each in found["clocks"]}["first_reply"] == "active"
    kinds = [each["kind"] for each in reversed(await told(shop, path))]
    assert kinds[0] == "case.opened"
    assert {"case.handed_over", "assistant.handed_over"} <= set(kinds)
    assert kinds.count("message") == 3


async def test_question_answer_and_hand_over_stand_on_the_timeline(shop, sari):
    thread = str(uuid7())
    reply = await ask(shop, sari, "ngobrol dengan admin dong", channel="line", thread_id=thread)
    items = (await shop.get(sari, "timeline"))["items"]
    assert {(item["kind"], item["direction"], item["channel"], item["by"], item["body"]) for item in items} >= {
        ("message", "inbound", "line", "key:test", "ngobrol dengan admin dong"),
        ("message", "outbound", "line", "bot", reply["answer"]),
        ("assistant.handed_over", "internal", "line", "bot", None),
        ("case.opened", "internal", "care", "bot", "ngobrol dengan admin dong"),
    }
    assert {item["id"] for item in items if item["thread_id"] == thread} >= {reply["question_id"], reply["answer_id"]}


async def test_a_message_that_is_on_the_timeline_is_not_put_there_again(shop, sari):
    message = {
        "channel": "whatsapp", "kind": "message", "direction": "inbound", "occurred_at": "2026-11-01T09:30:00Z",
        "body": "Berapa poin saya?",
    }  # fmt: skip
    said = (await shop.post(sari, "interactions", message)).json()
    reply = (await shop.post(sari, "assistant-replies", {"interaction_id": said["id"]})).json()
    assert (reply["question_id"], reply["question"], reply["channel"]) == (said["id"], message["body"], "whatsapp")
    assert len((await shop.get(sari, "timeline?kind=message"))["items"]) == 2
    own = {"interaction_id": reply["answer_id"]}
    refused = await shop.post(sari, "assistant-replies", own)
    assert (refused.status_code, refused.json()["code"]) == (409, "no_question")
    budi = await made(shop.client, {"name": "Budi"})
    other = await shop.post(budi, "assistant-replies", {"interaction_id": said["id"]})
    assert (other.status_code, other.json()["code"]) == (404, "interaction_not_found")


@pytest.mark.parametrize(
    "text",
    [
        "Berapa poin teman saya?",
        "What is my wife's balance",
        "berapa poin 0813-9999-888",
        "how many points has budi@example.com",
        "poin 0198f3a2-7c1e-7d50-b3a4-c5d6e7f80912 berapa",
    ],
)
async def test_nobody_hears_of_somebody_else(shop, sari, text):
    await shop.award(sari, 77)
    reply = await ask(shop, sari, text)
    assert (reply["outcome"], reply["reason"], reply["sources"]) == ("refused", "somebody_else", [])
    assert "77" not in reply["answer"]


async def test_who_names_their_own_number_asks_about_themselves(shop, sari):
    assert (await ask(shop, sari, "berapa poin saya, nomor +62 812 3456 789"))["outcome"] == "answered"


@pytest.mark.parametrize(
    ("text", "locale", "begins"),
    [
        ("hi", None, "Hello!"),
        ("halo", None, "Halo!"),
        ("halo", "en", "Hello!"),
        ("tier?", None, "Anda belum"),  # Sari's own
        ("tier?", "fr-FR", "Anda belum"),
    ],
)
async def test_the_language_is_the_one_asked_for_or_of_the_words_or_of_the_person(shop, sari, text, locale, begins):
    assert (await ask(shop, sari, text, locale=locale))["answer"].startswith(begins)


async def test_before_there_is_a_program_there_are_no_points(client):
    contact_id = await made(client, {"name": "Sari"})
    answer = await client.post(f"/v1/contacts/{contact_id}/assistant-replies", json={"text": "berapa poin saya"})
    assert answer.json()["answer"] == "Saat ini belum ada program poin."


async def test_a_question_sent_again_is_answered_once(shop, sari):
    first, second = [
        await shop.post(sari, "assistant-replies", {"text": "bicara dengan orang"}, key="k") for _ in range(2)
    ]
    assert second.json() == first.json()
    assert second.headers["idempotency-replayed"] == "true"
    listed = (await shop.get(sari, "assistant-replies"))["items"]
    assert [one["id"] for one in listed] == [first.json()["id"]]
    assert (await shop.client.get(first.headers["location"])).json() == listed[0]


async def test_replies_are_read_page_by_page(shop, sari):
    ids = [(await ask(shop, sari, f"halo {n}"))["id"] for n in range(3)]
    first = await shop.get(sari, "assistant-replies?limit=2")
    rest = await shop.get(sari, f"assistant-replies?limit=2&cursor={first['next_cursor']}")
    assert [one["id"] for one in first["items"] + rest["items"]] == ids[::-1]


@pytest.mark.parametrize(
    "body",
    [
        {}, {"text": ""}, {"text": " "}, {"text": "x" * 2001}, {"text": "a\x00"}, {"text": "x", "channel": "Chat!"},
        {"text": "x", "locale": ""}, {"text": "x", "locale": "id ID"},
        {"text": "x", "interaction_id": str(uuid7())}, {"text": "x", "contact_id": str(uuid7())},
    ],
)  # fmt: skip
async def test_what_is_no_question_is_refused(shop, sari, session, body):
    before = await checksum(session)
    assert (await shop.post(sari, "assistant-replies", body)).status_code == 422
    assert await checksum(session) == before


async def test_whoever_was_merged_is_answered_as_who_goes_on(shop, sari):
    old = await made(shop.client, {"name": "Sary"})
    asked = await ask(shop, old, "halo")
    await merge(shop.client, sari, old)
    await shop.award(sari, 5)
    reply = await ask(shop, old, "berapa poin saya")
    assert (reply["contact_id"], reply["answer"]) == (str(sari), "Anda punya 5 poin di Kopi.")
    assert [one["id"] for one in (await shop.get(sari, "assistant-replies"))["items"]] == [reply["id"], asked["id"]]
    assert (await shop.post(uuid7(), "assistant-replies", {"text": "halo"})).status_code == 404


async def test_of_who_is_forgotten_only_that_they_asked_is_left(shop, sari, session):
    await shop.award(sari, 1250)
    await ask(shop, sari, "Berapa poin saya? Saya Sari dari Kenanga")
    told = (await shop.get(sari, "personal-data"))["sections"]
    assert told["assistant_replies"][0]["sources"][0]["data"]["available"] == 1250
    await erase(shop.client, sari)
    rows = await session.fetch("SELECT outcome, sources FROM assistant_replies")
    assert [tuple(row) for row in rows] == [("answered", [])]
    assert not await session.fetchval("SELECT count(*) FROM interactions WHERE body LIKE '%Kenanga%'")
    gone = await shop.post(sari, "assistant-replies", {"text": "halo"})
    assert (gone.status_code, gone.json()["code"]) == (404, "contact_erased")


async def test_of_questions_at_once_each_is_answered_and_one_case_is_opened(live_client):
    shop = await Shop.open(live_client)
    sari = await shop.member()
    answers = await at_once(*(shop.post(sari, "assistant-replies", {"text": "bicara dengan orang"}) for _ in range(6)))
    assert statuses(answers) == {201: 6}
    assert len({answer.json()["case_id"] for answer in answers}) == 1
    same = await at_once(*(shop.post(sari, "assistant-replies", {"text": "halo"}, key="k") for _ in range(4)))
    assert len({answer.json()["id"] for answer in same}) == 1


async def test_a_narrow_key_asks_nothing(client, sari):
    narrow = await client.limited_to("interactions:write")
    answer = await narrow.post(f"/v1/contacts/{sari}/assistant-replies", json={"text": "halo"})
    assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing")
