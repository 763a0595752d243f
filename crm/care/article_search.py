"""How articles are found: by the words of a question, misspelled ones among them, in an order that explains itself.

Each word of the question counts the same. It is worth 100 % where a title has it, a part of that where only the text
does, and as much less as the word that an article has instead is unlike it. The score is the mean over all words.
"""

from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias
from uuid import UUID

from asyncpg import Record

from crm.care import wording
from crm.db.session import Session

Where: TypeAlias = Literal["title", "text"]

RESULTS_MAX: Final = 20
SCORE_MIN: Final = 25
"""Below it, an article only happens to share a word with the question."""
TEXT_WORTH: Final = 0.6
LIKENESS_MIN: Final = 0.4
_MEANT_MAX: Final = 3
_SHOWN_FIRST: Final = ("en", "id")
_FOUND, _END = "\ue000", "\ue001"
_SNIPPET: Final = (
    f"StartSel={_FOUND}, StopSel={_END}, MaxWords=28, MinWords=14, ShortWord=2, MaxFragments=1, HighlightAll=false"
)

# A word that no article has stands for those that are spelled most like it. What is shown of an article is only made of
# those that are on the page.
_SEARCH: Final = f"""
    WITH asked AS MATERIALIZED (
        SELECT a.word, a.place, EXISTS (
            SELECT FROM article_texts t JOIN articles p ON p.id = t.article_id AND p.status = 'published'
            WHERE t.words @@ message_query(a.word)
        ) AS known
        FROM unnest($1::text[]) WITH ORDINALITY AS a (word, place)
    ), meant AS MATERIALIZED (
        SELECT m.*, message_query(m.term) AS query FROM (
            SELECT a.word, a.place, a.word AS term, 1.0::float8 AS likeness FROM asked a WHERE a.known
            UNION ALL
            SELECT a.word, a.place, s.term, s.likeness FROM asked a CROSS JOIN LATERAL (
                SELECT t.term, similarity(t.term, a.word)::float8 AS likeness FROM article_terms t
                JOIN articles p ON p.id = t.article_id AND p.status = 'published'
                WHERE t.term % a.word AND similarity(t.term, a.word) >= {LIKENESS_MIN}
                GROUP BY t.term ORDER BY 2 DESC, 1 LIMIT {_MEANT_MAX}
            ) s
            WHERE NOT a.known
        ) m
    ), hits AS (
        SELECT DISTINCT ON (t.article_id, m.place) t.article_id, m.place, m.word, m.term, t.in_title,
            m.likeness * CASE WHEN t.in_title THEN 1 ELSE {TEXT_WORTH} END AS worth
        FROM meant m CROSS JOIN LATERAL (
            SELECT t.article_id, t.title_words @@ m.query AS in_title FROM article_texts t
            JOIN articles p ON p.id = t.article_id AND p.status = 'published'
            WHERE t.words @@ m.query
        ) t
        ORDER BY t.article_id, m.place, worth DESC, m.term
    ), best AS MATERIALIZED (
        SELECT h.article_id, round(100 * sum(h.worth) / cardinality($1::text[]))::integer AS score FROM hits h
        GROUP BY h.article_id HAVING round(100 * sum(h.worth) / cardinality($1::text[])) >= {SCORE_MIN}
        ORDER BY 2 DESC, 1 LIMIT $3
    )
    SELECT a.id, a.slug, a.category_id, b.score, m.matches, t.locale, t.title,
        ts_headline(CASE t.locale WHEN 'id' THEN 'pg_catalog.indonesian'::regconfig ELSE 'pg_catalog.english' END,
            left(t.plain, 20000), message_query(m.terms), $4) AS snippet
    FROM best b JOIN articles a ON a.id = b.article_id
    CROSS JOIN LATERAL (
        SELECT jsonb_agg(jsonb_build_array(h.word, h.term, h.in_title) ORDER BY h.place) AS matches,
            string_agg(DISTINCT h.term, ' or ') AS terms
        FROM hits h WHERE h.article_id = b.article_id
    ) m
    CROSS JOIN LATERAL (
        SELECT t.locale, t.title, t.plain FROM article_texts t WHERE t.article_id = a.id
        ORDER BY coalesce(array_position($2::text[], t.locale), 100), t.locale LIMIT 1
    ) t
    ORDER BY b.score DESC, a.id
"""


@dataclass(slots=True)
class Match:
    """A word of the question, and the word that the article has for it, in its title or only in its text."""

    word: str
    found: str
    where: Where


@dataclass(slots=True)
class Piece:
    """A part of a passage; `found` are the words that were looked for."""

    text: str
    found: bool


@dataclass(slots=True)
class FoundArticle:
    """An article that fits, in the language asked for or else in one that it has; 100 is the best score."""

    id: UUID
    slug: str
    path: str
    locale: str
    title: str
    category_id: UUID | None
    score: int
    matches: list[Match]
    snippet: list[Piece]


def preferred(locale: str) -> list[str]:
    """The languages in which an article is shown to somebody, the best first; then whichever it has."""
    return list(dict.fromkeys((locale, *_SHOWN_FIRST)))


def path(locale: str, slug: str) -> str:
    """Where the public can read an article."""
    return f"/help/{locale}/{slug}"


async def find(session: Session, *, text: str, locale: str, limit: int) -> list[FoundArticle]:
    """The published articles that fit a question best; none where it has no words that say anything."""
    words = wording.asked(text)
    if not words:
        return []
    rows = await session.fetch(_SEARCH, words, preferred(locale), min(limit, RESULTS_MAX), _SNIPPET)
    return [_found(row, locale) for row in rows]


def _found(row: Record, locale: str) -> FoundArticle:
    return FoundArticle(
        row["id"], row["slug"], path(locale, row["slug"]), row["locale"], row["title"], row["category_id"],
        row["score"], [_match(*each) for each in row["matches"]], _pieces(row["snippet"]),
    )  # fmt: skip


def _match(word: str, found: str, in_title: Any) -> Match:
    return Match(word, found, "title" if in_title else "text")


def _pieces(snippet: str) -> list[Piece]:
    first, *rest = snippet.replace("\n", " ").split(_FOUND)
    parts = [Piece(first, False)]
    for part in rest:
        found, _, after = part.partition(_END)
        parts += [Piece(found, True), Piece(after, False)]
    return [part for part in parts if part.text]
