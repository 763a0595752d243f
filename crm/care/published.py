"""Published articles as the public reads them, without signing in."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from crm.care import article_search, markdown
from crm.db.session import Session

LISTED_MAX: Final = 200
"""How many articles of a category a page lists."""
_FIRST: Final = 8
"""How many of each category stand on the first page."""


@dataclass(frozen=True, slots=True)
class Title:
    """An article in a list, in a language that it has."""

    slug: str
    title: str
    locale: str


@dataclass(frozen=True, slots=True)
class Shelf:
    """A category with its articles; of those without one `slug` and `name` are None. `more` are not among them."""

    slug: str | None
    name: str | None
    titles: list[Title]
    more: bool


@dataclass(frozen=True, slots=True)
class Published:
    """An article for a page: `html` is safe."""

    id: UUID
    slug: str
    locale: str
    title: str
    html: str
    updated_at: datetime
    locales: list[str]
    category_slug: str | None
    category: str | None


# In the language that comes first among those preferred, or else in whichever there is.
_BEST: Final = "coalesce(array_position($1::text[], {0}), 100), {0}"
_NAME: Final = f"""(
    SELECT e.value FROM jsonb_each_text(c.names) e ORDER BY {_BEST.format("e.key")} LIMIT 1
)"""


async def shelves(session: Session, *, locale: str, category: str | None = None) -> list[Shelf]:
    """The categories that have articles, in their order, those without one last; or one category, whole."""
    rows = await session.fetch(
        f"""
        SELECT * FROM (
            SELECT c.slug AS category, {_NAME} AS name, c.position, c.id AS category_id, a.slug, t.title, t.locale,
                row_number() OVER (PARTITION BY c.id ORDER BY t.title, a.id) AS place
            FROM articles a LEFT JOIN article_categories c ON c.id = a.category_id
            CROSS JOIN LATERAL (
                SELECT t.title, t.locale FROM article_texts t WHERE t.article_id = a.id
                ORDER BY {_BEST.format("t.locale")} LIMIT 1
            ) t
            WHERE a.status = 'published' AND ($2::text IS NULL OR c.slug = $2)
        ) n
        WHERE n.place <= $3 ORDER BY n.position NULLS LAST, n.category_id, n.place
        """,
        article_search.preferred(locale), category, (LISTED_MAX if category else _FIRST) + 1,
    )  # fmt: skip
    found: dict[str | None, list[Title]] = {}
    names = {row["category"]: row["name"] for row in rows}
    for row in rows:
        found.setdefault(row["category"], []).append(Title(row["slug"], row["title"], row["locale"]))
    most = LISTED_MAX if category else _FIRST
    return [Shelf(slug, names[slug], titles[:most], len(titles) > most) for slug, titles in found.items()]


async def find(session: Session, *, slug: str, locale: str) -> Published | None:
    """A published article, in a language or else in one that it has."""
    row = await session.fetchrow(
        f"""
        SELECT a.id, a.slug, a.updated_at, t.locale, t.title, t.body, c.slug AS category_slug,
            CASE WHEN c.id IS NOT NULL THEN {_NAME} END AS category,
            ARRAY(SELECT o.locale FROM article_texts o WHERE o.article_id = a.id ORDER BY 1) AS locales
        FROM articles a LEFT JOIN article_categories c ON c.id = a.category_id
        CROSS JOIN LATERAL (
            SELECT t.locale, t.title, t.body FROM article_texts t WHERE t.article_id = a.id
            ORDER BY {_BEST.format("t.locale")} LIMIT 1
        ) t
        WHERE a.slug = $2 AND a.status = 'published'
        """,
        article_search.preferred(locale), slug,
    )  # fmt: skip
    if row is None:
        return None
    return Published(
        row["id"], row["slug"], row["locale"], row["title"], markdown.html(row["body"]), row["updated_at"],
        row["locales"], row["category_slug"], row["category"],
    )  # fmt: skip


async def texts(session: Session, *, articles: list[tuple[UUID, str]]) -> dict[UUID, str]:
    """The words of published articles, each in a language, one paragraph a line."""
    if not articles:
        return {}
    rows = await session.fetch(
        """
        SELECT t.article_id, t.plain FROM unnest($1::uuid[], $2::text[]) AS w (id, locale)
        JOIN article_texts t ON t.article_id = w.id AND t.locale = w.locale
        JOIN articles a ON a.id = t.article_id AND a.status = 'published'
        """,
        *map(list, zip(*articles, strict=True)),
    )
    return {row["article_id"]: row["plain"] for row in rows}
