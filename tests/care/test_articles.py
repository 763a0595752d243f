"""What customers can read: written, published, changed, and every version of it kept."""

from typing import Any

import pytest

from crm.db.ids import uuid7
from tests.loyalty.shop import at_once, checksum, statuses

REDEEM = {
    "slug": "menukar-poin",
    "status": "published",
    "texts": {
        "id": {"title": "Menukar poin", "body": "Buka menu **Hadiah**, pilih hadiah, lalu tekan *Tukar*."},
        "en": {"title": "Redeeming points", "body": "Open **Rewards**, choose one, and press *Redeem*."},
    },
}


async def written(client: Any, **facts: Any) -> dict[str, Any]:
    answer = await client.post("/v1/articles", json={**REDEEM, **facts})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def changed(client: Any, article: dict[str, Any], **changes: Any) -> dict[str, Any]:
    answer = await client.patch(f"/v1/articles/{article['id']}", json=changes)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def refused(answer: Any, status: int, code: str) -> dict[str, Any]:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    return dict(answer.json())


async def test_an_article_is_read_as_it_was_written(client):
    article = await written(client)
    answer = await client.get(f"/v1/articles/{article['id']}")
    assert answer.json() == article
    assert answer.headers["etag"] == '"1"'
    assert article["texts"]["en"] == {
        "title": "Redeeming points", "body": REDEEM["texts"]["en"]["body"],
        "html": "<p>Open <strong>Rewards</strong>, choose one, and press <em>Redeem</em>.</p>\n",
    }  # fmt: skip
    assert (article["views_count"], article["helpful_count"], article["unhelpful_count"]) == (0, 0, 0)
    listed = (await client.get("/v1/articles")).json()["items"]
    assert [(one["slug"], one["titles"]) for one in listed] == [
        ("menukar-poin", {"id": "Menukar poin", "en": "Redeeming points"})
    ]


async def test_a_change_leaves_what_it_does_not_name(client):
    article = await written(client, status="draft")
    assert article["published_at"] is None
    article = await changed(client, article, status="published", texts={"en": {"title": "How to redeem points"}})
    assert article["published_at"] is not None
    assert article["version"] == 2
    assert article["texts"]["en"]["title"] == "How to redeem points"
    assert article["texts"]["en"]["body"] == REDEEM["texts"]["en"]["body"]
    article = await changed(client, article, texts={"en": None, "jv": {"title": "Ijol poin", "body": "Bukak menu"}})
    assert sorted(article["texts"]) == ["id", "jv"]
    assert await changed(client, article, texts={"id": {"title": "Menukar poin"}}) == article


async def test_every_version_can_be_read(client):
    article = await written(client)
    await changed(client, article, texts={"en": None})
    await changed(client, article, status="archived")
    path = f"/v1/articles/{article['id']}/versions"
    first = (await client.get(path, params={"limit": 2})).json()
    rest = (await client.get(path, params={"limit": 2, "cursor": first["next_cursor"]})).json()
    versions = first["items"] + rest["items"]
    assert [(one["version"], one["status"], sorted(one["texts"])) for one in versions] == [
        (3, "archived", ["id"]), (2, "published", ["id"]), (1, "published", ["en", "id"])
    ]  # fmt: skip
    assert (await client.get(f"{path}/1")).json() == versions[2]
    for nowhere in (f"{path}/4", f"/v1/articles/{uuid7()}/versions", f"{path}/{2**63}"):
        assert (await client.get(nowhere)).status_code == 404


async def test_only_the_version_that_was_read_is_changed(client):
    article = await written(client)
    path = f"/v1/articles/{article['id']}"
    headers = {"If-Match": '"1"'}
    assert (await client.patch(path, json={"status": "draft"}, headers=headers)).headers["etag"] == '"2"'
    refused(await client.patch(path, json={"status": "archived"}, headers=headers), 412, "stale_version")


async def test_a_published_article_is_not_deleted_and_another_goes_with_all_of_it(client, session):
    await client.get("/v1/articles")  # the key has been used now
    empty = await checksum(session)
    article = await written(client)
    path = f"/v1/articles/{article['id']}"
    refused(await client.delete(path), 409, "article_published")
    await client.put(f"{path}/votes/x", json={"helpful": True})
    await client.get("/help/id/menukar-poin")
    assert (await client.get(path)).json()["views_count"] == 1
    await changed(client, article, status="archived")
    assert (await client.delete(path)).status_code == 204
    assert (await client.get(path)).status_code == 404
    assert await checksum(session) == empty


async def test_a_slug_is_one_article_s(client, session):
    await written(client)
    other = await written(client, slug="other")
    before = await checksum(session)
    refused(await client.post("/v1/articles", json=REDEEM), 409, "article_slug_taken")
    answer = await client.patch(f"/v1/articles/{other['id']}", json={"slug": "menukar-poin", "status": "draft"})
    refused(answer, 409, "article_slug_taken")
    assert await checksum(session) == before


@pytest.mark.parametrize(
    ("facts", "pointer"),
    [
        ({"slug": "Two Words"}, "/slug"),
        ({"texts": {}}, "/texts"),
        ({"texts": {"en": {"title": " ", "body": ""}}}, "/texts/en/title"),
        ({"texts": {"en": {"title": "x", "body": "a\x00"}}}, "/texts/en/body"),
        ({"texts": {"english": {"title": "x", "body": "y"}}}, "/texts/english/[key]"),
        ({"category_id": str(uuid7())}, "/category_id"),
        ({"status": "secret"}, "/status"),
    ],
)
async def test_what_is_no_article_is_refused(client, session, facts, pointer):
    await client.get("/v1/articles")  # the key has been used now
    before = await checksum(session)
    answer = await client.post("/v1/articles", json={**REDEEM, **facts})
    assert refused(answer, 422, "invalid")["errors"][0]["pointer"] == pointer
    assert await checksum(session) == before


@pytest.mark.parametrize("texts", [{"en": None, "id": None}, {"fr": {"title": "Points"}}, {"en": {"title": None}}])
async def test_a_change_that_leaves_no_article_is_refused(client, texts):
    article = await written(client)
    refused(await client.patch(f"/v1/articles/{article['id']}", json={"texts": texts}), 422, "invalid")
    assert (await client.get(f"/v1/articles/{article['id']}")).json() == article


async def test_articles_stand_under_categories(client):
    made = await client.post("/v1/article-categories", json={"slug": "points", "names": {"id": "Poin"}, "position": 2})
    category = made.json()
    assert (await client.get(made.headers["location"])).json() == category
    first = (await client.post("/v1/article-categories", json={"slug": "orders", "names": {"id": "Pesanan"}})).json()
    article = await written(client, category_id=category["id"])
    await written(client, slug="other")
    listed = (await client.get("/v1/articles", params={"category": category["id"]})).json()["items"]
    assert [one["id"] for one in listed] == [article["id"]]
    assert [one["slug"] for one in (await client.get("/v1/article-categories")).json()["items"]] == ["orders", "points"]
    path = f"/v1/article-categories/{category['id']}"
    refused(await client.delete(path), 409, "article_category_in_use")
    refused(await client.patch(path, json={"slug": "orders"}), 409, "article_category_slug_taken")
    named = (await client.patch(path, json={"names": {"en": "Points", "id": None}})).json()
    assert named["names"] == {"en": "Points"}
    assert (await client.delete(f"/v1/article-categories/{first['id']}")).status_code == 204


async def test_the_list_is_read_by_status_language_and_page(client):
    for number in range(5):
        await written(client, slug=f"a-{number}", status="published" if number % 2 else "draft")
    await written(client, slug="german", texts={"de": {"title": "Punkte", "body": ""}})
    found, cursor = [], None
    while True:
        params = {"limit": 2, "locale": "en"} | ({"cursor": cursor} if cursor else {})
        page = (await client.get("/v1/articles", params=params)).json()
        found += [one["slug"] for one in page["items"]]
        if (cursor := page["next_cursor"]) is None:
            break
    assert found == ["a-4", "a-3", "a-2", "a-1", "a-0"]
    drafts = (await client.get("/v1/articles", params={"status": "draft"})).json()["items"]
    assert [one["slug"] for one in drafts] == ["a-4", "a-2", "a-0"]


async def test_a_repeated_key_writes_one_article(client):
    headers = {"Idempotency-Key": "k"}
    first, second = [await client.post("/v1/articles", json=REDEEM, headers=headers) for _ in range(2)]
    assert second.json() == first.json()
    assert second.headers["idempotency-replayed"] == "true"


async def test_of_many_at_once_one_has_the_slug(live_client):
    answers = await at_once(*(live_client.post("/v1/articles", json=REDEEM) for _ in range(6)))
    assert statuses(answers) == {201: 1, 409: 5}


async def test_changes_at_once_are_versions_one_after_the_other(live_client):
    article = await written(live_client)
    path = f"/v1/articles/{article['id']}"
    answers = await at_once(
        *(live_client.patch(path, json={"texts": {"en": {"title": f"Title {n}"}}}) for n in range(6))
    )
    assert sorted(answer.json()["version"] for answer in answers) == [2, 3, 4, 5, 6, 7]


async def test_a_category_goes_only_where_no_article_comes_into_it_at_the_same_time(live_client):
    for number in range(6):
        category = {"slug": f"c-{number}", "names": {"id": "Poin"}}
        made = (await live_client.post("/v1/article-categories", json=category)).json()
        article = {**REDEEM, "slug": f"a-{number}", "category_id": made["id"]}
        answers = await at_once(
            live_client.post("/v1/articles", json=article), live_client.delete(f"/v1/article-categories/{made['id']}")
        )
        assert [answer.status_code for answer in answers] in ([201, 409], [422, 204])
