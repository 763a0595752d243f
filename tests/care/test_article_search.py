"""Articles are found by the words of a question, also misspelled ones, and say why."""

from typing import Any

import pytest

from crm.care import article_usage, wording
from tests.care.test_articles import written

ARTICLES = {
    "menukar-poin": {
        "id": ("Menukar poin", "Buka menu Hadiah, pilih hadiah, lalu tekan Tukar. Poin yang hangus tidak kembali."),
        "en": ("Redeeming points", "Open Rewards, choose one, and press Redeem."),
    },
    "pengiriman": {
        "id": ("Berapa lama pengiriman?", "Pesanan sampai dalam 2 sampai 4 hari kerja. Café kami tidak mengirim."),
        "en": ("Delivery times", "Orders arrive within 2 to 4 working days."),
    },
    "pengembalian": {"id": ("Pengembalian barang", "Barang dapat dikembalikan dalam 14 hari dengan struk pesanan.")},
}


@pytest.fixture
async def shelf(client: Any) -> dict[str, str]:
    """The slugs of published articles, by id; beside them a draft and an archived one."""
    found = {}
    for slug, texts in ARTICLES.items():
        bodies = {locale: {"title": title, "body": body} for locale, (title, body) in texts.items()}
        found[(await written(client, slug=slug, texts=bodies))["id"]] = slug
    hidden = {"id": {"title": "Rahasia helikopter", "body": "poin pengiriman"}}
    await written(client, slug="draft", status="draft", texts=hidden)
    await written(client, slug="archived", status="archived", texts=hidden)
    return found


async def searched(client: Any, text: str, **params: Any) -> list[dict[str, Any]]:
    answer = await client.get("/v1/articles/search", params={"q": text, **params})
    assert answer.status_code == 200, answer.text
    return list(answer.json()["items"])


@pytest.mark.parametrize(
    ("text", "slugs"),
    [
        ("menukar poin", ["menukar-poin"]),
        ("Bagaimana cara menukarkan poin saya?", ["menukar-poin"]),
        ("How do I redeem my points?", ["menukar-poin"]),
        ("redeeming", ["menukar-poin"]),
        ("penggiriman", ["pengiriman"]),  # misspelled, as are the next
        ("delivry", ["pengiriman"]),
        ("pengembalain barang", ["pengembalian"]),
        ("kapan pesanan saya sampai", ["pengiriman", "pengembalian"]),
        ("CAFÉ", ["pengiriman"]),
        ("cafe", ["pengiriman"]),
        ("helikopter", []),
        ("rahasia", []),
        ("apa itu", []),
        ("' | & ! :* ( %%% \\", []),
    ],
)
async def test_words_find_articles(client, shelf, text, slugs):
    assert [one["slug"] for one in await searched(client, text)] == slugs


async def test_a_result_says_why_it_is_there(client, shelf):
    (first,) = await searched(client, "menukar poing hadiah")
    assert first["matches"] == [
        {"word": "menukar", "found": "menukar", "where": "title"},
        {"word": "poing", "found": "poin", "where": "title"},
        {"word": "hadiah", "found": "hadiah", "where": "text"},
    ]
    # 100 for the title, 4/7 for a word that is like another, 60 for the text
    assert first["score"] == round((100 + 100 * 4 / 7 + 60) / 3)
    assert shelf[first["id"]] == "menukar-poin"


async def test_a_title_comes_before_a_text(client, shelf):
    await written(client, slug="zz", texts={"id": {"title": "Hadiah", "body": "Apa saja."}})
    found = await searched(client, "hadiah")
    assert [(one["slug"], one["score"]) for one in found] == [("zz", 100), ("menukar-poin", 60)]


async def test_it_is_shown_in_the_language_asked_for_or_else_in_one_that_there_is(client, shelf):
    (english,) = await searched(client, "menukar poin", locale="en")
    assert (english["title"], english["locale"], english["path"]) == (
        "Redeeming points", "en", "/help/en/menukar-poin"
    )  # fmt: skip
    (german,) = await searched(client, "redeem", locale="de")
    assert (german["title"], german["locale"]) == ("Redeeming points", "en")
    (fallback,) = await searched(client, "pengembalian", locale="en")
    assert fallback["locale"] == "id"


async def test_the_passage_shows_what_was_looked_for(client, shelf):
    (found,) = await searched(client, "tekan hadiah")
    assert "".join(piece["text"] for piece in found["snippet"]).startswith("Buka menu Hadiah, pilih hadiah")
    assert {piece["text"].lower() for piece in found["snippet"] if piece["found"]} == {"hadiah", "tekan"}


async def test_the_report_says_what_was_looked_for_and_not_found(client, shelf):
    for text in ("menukar poin", "helikopter merah", "Merah helikopter!", "helikopter biru"):
        await searched(client, text)
    await searched(client, "helikopter merah", locale="en")
    answer = await client.get("/v1/articles/searches", params={"found": False})
    assert [(one["words"], one["searches_count"], one["found_count"]) for one in answer.json()["items"]] == [
        ("helikopter merah", 3, 0), ("biru helikopter", 1, 0)
    ]  # fmt: skip
    whole = (await client.get("/v1/articles/searches", params={"locale": "id", "source": "api"})).json()["items"]
    assert [(one["words"], one["searches_count"], one["found_count"]) for one in whole] == [
        ("helikopter merah", 2, 0), ("biru helikopter", 1, 0), ("menukar poin", 1, 1)
    ]  # fmt: skip
    later = await client.get("/v1/articles/searches", params={"from": "2150-01-01T00:00:00Z"})
    assert later.json()["items"] == []
    first = (await client.get("/v1/articles/searches", params={"limit": 1})).json()
    rest = (await client.get("/v1/articles/searches", params={"cursor": first["next_cursor"]})).json()
    assert len(first["items"] + rest["items"]) == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Di mana pesanan INV-1001 saya?", "inv pesanan"),
        ("sari@example.com lupa sandi", "lupa sandi"),
        ("telepon +62 812-3456-789", "telepon"),
        ("https://evil.example/x?y=1 promo", "promo"),
        ("kartu 6012345600001111", "kartu"),
        ("x" * 90, ""),
        ("apa itu", ""),
        ("b a c d e f g h pp qq rr ss tt uu vv ww", "pp qq rr ss tt uu"),
    ],
)
def test_of_a_search_nothing_is_kept_that_might_be_somebody_s(text, words):
    assert article_usage.kept(text) == words


async def test_one_search_too_many_is_counted_without_its_words(client, session, monkeypatch):
    monkeypatch.setattr(article_usage, "SEARCHES_AN_HOUR_MAX", 2)
    for text in ("satu", "dua", "tiga", "empat", "dua"):
        await searched(client, text)
    rows = await session.fetch("SELECT words, searches_count FROM article_searches ORDER BY words")
    assert [tuple(row) for row in rows] == [("", 3), ("dua", 1), ("satu", 1)]


def test_a_question_is_looked_for_by_the_words_that_say_something():
    assert wording.asked("Bagaimana cara menukar poin saya, dan menukar voucher?") == ["menukar", "poin", "voucher"]
    assert len(wording.asked(" ".join(f"word{n}" for n in range(50)))) == wording.ASKED_MAX
    assert [wording.language(text) for text in ("poin saya berapa", "how many points do I have", "poin")] == [
        "id", "en", None
    ]  # fmt: skip


@pytest.mark.parametrize("params", [{}, {"q": ""}, {"q": "x" * 201}, {"q": "a\x00"}, {"q": "a", "locale": "I D"}])
async def test_what_can_t_be_searched_for_is_said(client, params):
    assert (await client.get("/v1/articles/search", params=params)).status_code == 422


async def test_a_search_among_many_articles_is_two_statements(database, live_client, statements):
    async with database.begin() as session:
        await session.execute(
            """
            INSERT INTO articles (id, slug, status, version, created_at, created_by, updated_at, updated_by)
            SELECT gen_random_uuid(), 'a-' || n, 'published', 1, now(), 'x', now(), 'x' FROM generate_series(1, 2000) n
            """
        )
        await session.execute(
            """
            INSERT INTO article_texts (article_id, locale, title, body, plain)
            SELECT a.id, 'id', 'Judul ' || a.slug, '', repeat('kata lain tentang toko kopi ', 40)
                || CASE WHEN a.slug = 'a-77' THEN 'helikopter' ELSE '' END FROM articles a
            """
        )
        await session.execute(
            "INSERT INTO article_terms SELECT article_id, 'id', 'kata' || row_number() OVER () FROM article_texts"
        )
        await session.execute(
            """
            INSERT INTO article_terms
            SELECT article_id, 'id', 'helikopter' FROM article_texts WHERE plain LIKE '%helikopter%'
            """
        )
    async with database.reading() as session:
        await session.execute("VACUUM ANALYZE article_texts, article_terms, articles")
    await live_client.get("/v1/articles")
    statements.clear()
    (found,) = await searched(live_client, "helikoptr")
    assert found["slug"] == "a-77"
    assert [each.partition(" ")[0] for each in statements] == ["WITH", "INSERT"]
