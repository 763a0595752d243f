"""The help pages: found, read and judged on a phone, by people who have no key and may have no script."""

import asyncio
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from crm.api.turnstile import Turnstile
from crm.care import help_pages
from crm.db.ids import uuid7
from tests.care.test_articles import changed, written
from tests.serving import served

CHROMIUM = Path("/usr/bin/chromium")
BROWSE_SECONDS_MAX = 120
HOSTILE = """# <script>alert(1)</script>

<img src=x onerror=alert(2)> [here](javascript:alert(3)) [there](https://example.com "x\\" onclick=alert(4)")

![a cup](https://evil.example/cup.png) <https://evil.example/a>

| a | b |
|---|---|
| <b>1</b> | 2 |
"""


@pytest.fixture
async def reader(client: Any) -> Any:
    """Somebody without a key."""
    return await client.limited_to()


async def counts(client: Any, article: dict[str, Any]) -> tuple[int, int, int]:
    found = (await client.get(f"/v1/articles/{article['id']}")).json()
    return found["views_count"], found["helpful_count"], found["unhelpful_count"]


@pytest.mark.parametrize(
    ("accepted", "locale"),
    [
        ("id-ID,id;q=0.9,en;q=0.8", "id"),
        ("en-GB,en;q=0.9", "en"),
        ("de, en;q=0.3, id;q=0.7", "id"),
        ("en;q=0, in", "id"),
        ("de", "id"),
        ("", "id"),
        (";q=;,fr;q=x," * 100, "id"),
    ],
)
async def test_the_reader_s_language_is_that_of_their_browser(reader, accepted, locale):
    answer = await reader.get("/help?q=poin", headers={"Accept-Language": accepted})
    assert (answer.status_code, answer.headers["location"]) == (302, f"/help/{locale}?q=poin")
    assert answer.headers["vary"] == "Accept-Language"


async def test_topics_are_listed_by_category_and_lead_to_articles(client, reader):
    category = {"slug": "points", "names": {"id": "Poin & hadiah", "en": "Points"}}
    made = (await client.post("/v1/article-categories", json=category)).json()
    await written(client, category_id=made["id"])
    await written(client, slug="hours", texts={"id": {"title": "Jam buka", "body": "Setiap hari."}})
    await written(client, slug="secret", status="draft")
    page = (await reader.get("/help/id")).text
    assert re.findall(r"<h2>.*?</h2>|<li>.*?</li>", page) == [
        '<h2><a href="/help/id?category=points">Poin &amp; hadiah</a></h2>',
        '<li><a href="/help/id/menukar-poin">Menukar poin</a></li>',
        "<h2>Lainnya</h2>",
        '<li><a href="/help/id/hours">Jam buka</a></li>',
    ]
    english = (await reader.get("/help/en?category=points&utm_source=mail")).text
    assert "<h1>Points</h1>" in english
    assert "Redeeming points" in english
    assert "Jam buka" not in english
    assert '<li><a href="/help/en/hours" lang="id">Jam buka</a></li>' in (await reader.get("/help/en")).text


async def test_an_article_is_shown_in_the_language_or_else_in_one_that_it_has(client, reader):
    article = await written(client, texts={"id": {"title": "Jam buka", "body": "Setiap hari."}})
    page = await reader.get("/help/en/menukar-poin")
    assert page.status_code == 200
    assert '<html lang="en">' in page.text
    assert '<article lang="id">' in page.text
    assert "Did this help you?" in page.text
    assert await counts(client, article) == (1, 0, 0)
    await reader.get("/help/id/menukar-poin")
    await reader.get("/help/id/menukar-poin", headers={"Sec-Purpose": "prefetch"})
    assert await counts(client, article) == (2, 0, 0)


async def test_a_question_finds_articles_and_what_it_does_not_find_is_in_the_report(client, reader):
    await written(client)
    page = (await reader.get("/help/id", params={"q": "tukar <b>poing</b>"})).text
    assert '<h2><a href="/help/id/menukar-poin">Menukar poin</a></h2>' in page
    assert "<mark>Tukar</mark>" in page
    assert "tukar &lt;b&gt;poing&lt;/b&gt;" in page
    assert "<b>" not in page
    nothing = await reader.get("/help/en", params={"q": "helicopter"})
    assert "We found nothing" in nothing.text
    report = (await client.get("/v1/articles/searches", params={"found": False, "source": "page"})).json()["items"]
    assert [(one["words"], one["searches_count"]) for one in report] == [("helicopter", 1)]


async def test_a_reader_votes_once_and_may_change_their_mind(client, reader):
    article = await written(client)
    path = f"/help/votes/{article['id']}"
    form = {"locale": "id", "slug": "menukar-poin", "helpful": "yes"}
    answer = await reader.post(path, data=form)
    assert (answer.status_code, answer.headers["location"]) == (303, "/help/id/menukar-poin?thanks=1#helped")
    cookie = answer.headers["set-cookie"]
    assert f"Path={path}" in cookie
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Max-Age" not in cookie
    await reader.post(path, data=form)
    assert await counts(client, article) == (0, 1, 0)
    await reader.post(path, data=form | {"helpful": "no"})
    assert await counts(client, article) == (0, 0, 1)
    other = await client.limited_to()
    await other.post(path, data=form)
    assert await counts(client, article) == (0, 1, 1)
    thanks = await reader.get("/help/id/menukar-poin?thanks=1")
    assert "Terima kasih" in thanks.text
    assert await counts(client, article) == (0, 1, 1)


async def test_what_is_kept_of_a_vote_leads_to_nobody(client, reader, session):
    first, second = await written(client), await written(client, slug="b")
    for article in (first, second):
        path = f"/v1/articles/{article['id']}/votes/sari"
        assert (await client.put(path, json={"helpful": True})).status_code == 204
        assert (await client.put(path, json={"helpful": False})).status_code == 204
    rows = await session.fetch("SELECT voter, helpful FROM article_votes")
    assert len({bytes(row["voter"]) for row in rows}) == 2
    assert [row["helpful"] for row in rows] == [False, False]


@pytest.mark.parametrize(
    ("form", "headers", "status"),
    [
        ({"helpful": "maybe"}, {}, 422),
        ({}, {}, 422),
        ({"helpful": "yes"}, {"Sec-Fetch-Site": "cross-site"}, 422),
        ({"helpful": "yes", "slug": "//evil.example"}, {}, 303),
        ({"helpful": "yes", "locale": "../x"}, {"Cookie": b"voted=\xff"}, 303),
    ],
)
async def test_a_form_that_was_tampered_with_leads_nowhere_else(client, reader, form, headers, status):
    article = await written(client)
    answer = await reader.post(f"/help/votes/{article['id']}", data=form, headers=headers)
    assert answer.status_code == status
    assert answer.headers.get("location", "/help/id") == "/help/id"
    assert sum(await counts(client, article)) == (status == 303)


async def test_nobody_votes_on_what_nobody_can_read(client, reader):
    draft = await written(client, status="draft")
    for article_id in (draft["id"], uuid7()):
        assert (await reader.post(f"/help/votes/{article_id}", data={"helpful": "yes"})).status_code == 404


async def test_what_is_written_in_an_article_does_nothing_on_the_page(client, reader):
    await written(client, texts={"id": {"title": "<i>Judul</i>", "body": HOSTILE}})
    page = (await reader.get("/help/id/menukar-poin")).text
    body = page[page.index("<article") : page.index("</article>")]
    assert not re.search(r"<(script|img|i|b|iframe|style)\b", body)
    assert not re.search(r"<[^>]*\s(on\w+|src|style)=", body)
    assert re.findall(r'href="([^"]*)"', body) == [
        "https://example.com", "https://evil.example/cup.png", "https://evil.example/a"
    ]  # fmt: skip
    assert "<h2>&lt;script&gt;" in body
    assert "<td>&lt;b&gt;1&lt;/b&gt;</td>" in body


@pytest.mark.parametrize("path", ["", "?q=poin", "?category=none", "/menukar-poin", "/nothing", "/Menukar%00"])
async def test_a_page_loads_nothing_and_can_be_framed_by_nobody(client, reader, path):
    await written(client)
    answer = await reader.get(f"/help/id{path}")
    assert answer.headers["content-type"].startswith("text/html") or answer.status_code == 404
    if "text/html" in answer.headers["content-type"]:
        policy = answer.headers["content-security-policy"]
        assert policy == help_pages.POLICY
        assert policy.startswith("default-src 'none'; style-src 'sha256-")
        assert answer.text.count("<style>") == 1
        assert not re.search(r"<script|\ssrc=|\sstyle=|href=.?(https?:)?//", answer.text)


@pytest.mark.parametrize("path", ["/help/id/x", "/help/id/A", "/help/xxxx", "/help/i/menukar-poin", "/help/id/-"])
async def test_a_page_that_is_not_there_says_so_in_the_reader_s_language(client, reader, path):
    answer = await reader.get(path, headers={"Accept-Language": "id"})
    assert answer.status_code == 404
    assert "Halaman ini tidak ada" in answer.text


async def test_an_archived_article_is_gone(client, reader):
    article = await written(client)
    await changed(client, article, status="archived")
    assert (await reader.get("/help/id/menukar-poin")).status_code == 404
    assert "Belum ada" in (await reader.get("/help/id")).text


async def test_a_crowd_is_asked_to_come_back_and_counts_nothing(client, reader, staged, monkeypatch):
    article = await written(client)
    state = staged[1]._app.state
    monkeypatch.setattr(state, "turnstile", Turnstile(each_second=0, burst=2, of_one_second=0, of_one_burst=9))
    answers = [await reader.get("/help/id/menukar-poin") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 429, 429]
    assert answers[3].headers["retry-after"] == "5"
    assert (await counts(client, article))[0] == 2


def test_one_address_does_not_keep_the_others_out():
    gate = Turnstile(each_second=0, burst=10, of_one_second=0, of_one_burst=2)
    assert [gate.admits("8.8.8.8") for _ in range(4)] == [True, True, False, False]
    assert gate.admits("2001:4860:4860::8888")
    assert [gate.admits("10.0.0.1") for _ in range(8)] == [True] * 7 + [False]  # a proxy: one of everybody


# In a browser


@pytest.mark.skipif(not CHROMIUM.exists(), reason=f"NO BROWSER at {CHROMIUM}: nobody has seen the help pages")
async def test_a_phone_shows_an_article_by_its_own_style_and_asks_nobody_else(live_client, database, tmp_path):
    table = "| Kota | Hari |\n|---|---|\n| Bandung | 2 |\n"
    body = f"Pesanan sampai dalam **dua hari**.\n\n{table}\n![Peta](https://evil.example/map.png)\n\n{'x' * 200}"
    await written(live_client, slug="pengiriman", texts={"id": {"title": "Berapa lama pengiriman?", "body": body}})
    log = tmp_path / "net.json"
    async with served(database) as (origin, _):
        browsing = await asyncio.create_subprocess_exec(
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic",
            "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
            f"--user-data-dir={tmp_path / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            f"--log-net-log={log}", "--enable-logging=stderr", "--window-size=360,740",
            f"--screenshot={tmp_path / 'phone.png'}", "--virtual-time-budget=5000", "--dump-dom",
            f"{origin}/help/id/pengiriman", stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        shown, said = await asyncio.wait_for(browsing.communicate(), BROWSE_SECONDS_MAX)
    assert "<strong>dua hari</strong>" in shown.decode()
    assert b"Content Security Policy" not in said, said.decode()
    assert (tmp_path / "phone.png").stat().st_size > 5_000
    asked = {
        parameters["url"]
        for event in json.loads(log.read_text())["events"]
        if (parameters := event.get("params")) and parameters.get("method") == "GET" and "url" in parameters
    }
    # What the browser asks for on its own account has another origin, and no way there.
    assert {url for url in asked if url.startswith(origin)} == {f"{origin}/help/id/pengiriman"}
    assert not [url for url in asked if "evil.example" in url]
