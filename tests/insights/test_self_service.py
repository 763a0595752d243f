"""How far customers help themselves, from a search to an article that helped, and from a question to an answer."""

from datetime import UTC, datetime, timedelta

from crm.jobs import housekeeping
from tests.care.test_articles import changed, written
from tests.loyalty.shop import Shop

URL = "/v1/self-service/results"


async def test_before_anything_happened_there_are_no_rates(client):
    assert (await client.get(URL)).json() == {
        "searches": {"searches_count": 0, "found_count": 0, "found_rate": None},
        "articles": {"views_count": 0, "helpful_count": 0, "unhelpful_count": 0, "helpful_rate": None},
        "most_read": [],
        "assistant": {
            "questions_count": 0, "answered_count": 0, "courtesies_count": 0, "refused_count": 0,
            "handed_over_count": 0, "by_model_count": 0, "deflection_rate": None,
        },
    }  # fmt: skip


async def test_what_happened_in_a_period_is_summed(client):
    shop = await Shop.open(client)
    reader = await client.limited_to()
    first = await written(client)
    second = await written(client, slug="hours", texts={"id": {"title": "Jam buka", "body": "Setiap hari."}})
    for words in ("menukar poin", "jam buka", "helikopter"):
        await reader.get("/help/id", params={"q": words})
    for slug in ("menukar-poin", "menukar-poin", "menukar-poin", "hours"):
        await reader.get(f"/help/id/{slug}")
    for voter, helpful in (("a", True), ("b", True), ("c", False)):
        await client.put(f"/v1/articles/{first['id']}/votes/{voter}", json={"helpful": helpful})
    sari = await shop.member(points=5)
    for text in ("berapa poin saya", "jam buka toko", "halo", "bicara dengan orang", "poin istri saya berapa"):
        assert (await shop.post(sari, "assistant-replies", {"text": text})).status_code == 201
    await changed(client, second, status="archived")
    found = (await client.get(URL)).json()
    assert found == {
        "searches": {"searches_count": 3, "found_count": 2, "found_rate": 66.7},
        "articles": {"views_count": 4, "helpful_count": 2, "unhelpful_count": 1, "helpful_rate": 66.7},
        "most_read": [
            {
                "article_id": first["id"], "slug": "menukar-poin", "views_count": 3, "helpful_count": 2,
                "unhelpful_count": 1,
            },
            {"article_id": second["id"], "slug": "hours", "views_count": 1, "helpful_count": 0, "unhelpful_count": 0},
        ],
        "assistant": {
            "questions_count": 5, "answered_count": 3, "courtesies_count": 1, "refused_count": 1,
            "handed_over_count": 1, "by_model_count": 0, "deflection_rate": 75.0,
        },
    }  # fmt: skip
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    yesterday = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    assert (await client.get(URL, params={"from": yesterday, "to": tomorrow})).json() == found
    for outside in ({"from": tomorrow}, {"to": yesterday}):
        assert (await client.get(URL, params=outside)).json()["assistant"]["questions_count"] == 0


async def test_old_words_are_forgotten_and_their_number_is_not(live_client, database):
    for words in ("helikopter merah", "helikopter biru"):
        await live_client.get("/v1/articles/search", params={"q": words})
    await housekeeping.forget_searches(database, now=datetime.now(UTC) + timedelta(days=179))
    report = (await live_client.get("/v1/articles/searches")).json()["items"]
    assert sorted(one["words"] for one in report) == ["biru helikopter", "helikopter merah"]
    for _ in range(2):
        await housekeeping.forget_searches(database, now=datetime.now(UTC) + timedelta(days=181))
    (report,) = (await live_client.get("/v1/articles/searches")).json()["items"]
    assert (report["words"], report["searches_count"]) == (None, 2)
    assert (await live_client.get(URL)).json()["searches"]["searches_count"] == 2
