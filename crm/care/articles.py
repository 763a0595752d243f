"""Articles: what customers can read to help themselves, in several languages, with every version that there was."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias
from uuid import UUID

from asyncpg import Record
from sqlalchemy import BigInteger, Column, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from crm.care import markdown, wording
from crm.db import idempotency, writes
from crm.db.ids import uuid7
from crm.db.session import Session
from crm.db.tables import Instant, metadata
from crm.db.writes import Insert, Update
from crm.errors import Conflict, FieldError, Invalid, NotFound, Stale

Status: TypeAlias = Literal["draft", "published", "archived"]

articles = Table(
    "articles",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("slug", Text, nullable=False),
    Column("category_id", Uuid),
    Column("status", Text, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Column("updated_by", Text, nullable=False),
    Column("published_at", Instant),
)
article_texts = Table(
    "article_texts",
    metadata,
    Column("article_id", Uuid, primary_key=True),
    Column("locale", Text, primary_key=True),
    Column("title", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("plain", Text, nullable=False),
)
article_terms = Table(
    "article_terms",
    metadata,
    Column("article_id", Uuid, primary_key=True),
    Column("locale", Text, primary_key=True),
    Column("term", Text, primary_key=True),
)
article_versions = Table(
    "article_versions",
    metadata,
    Column("article_id", Uuid, primary_key=True),
    Column("version", BigInteger, primary_key=True),
    Column("data", JSONB, nullable=False),
    Column("by", Text, nullable=False),
    Column("made_at", Instant, nullable=False),
)

LOCALES_MAX: Final = 20
VERSION_MAX: Final = 2**63 - 1
_OWN: Final = tuple(column.name for column in articles.columns)
_SELECTED: Final = ", ".join(f"a.{name}" for name in _OWN)


class ArticleNotFound(NotFound):
    code = "article_not_found"
    title = "There is no such article"


class SlugTaken(Conflict):
    code = "article_slug_taken"
    title = "Another article has this slug"


class StaleArticle(Stale):
    title = "The article has changed since you read it"


class ArticlePublished(Conflict):
    code = "article_published"
    title = "Customers are reading this article"


@dataclass(slots=True)
class ArticleText:
    """An article in one language. `html` is its Markdown `body`, safe to be put on a page."""

    title: str
    body: str
    html: str


@dataclass(slots=True)
class ArticleSummary:
    """An article in a list; `titles` are by language."""

    id: UUID
    slug: str
    category_id: UUID | None
    status: Status
    titles: dict[str, str]
    version: int
    created_at: datetime
    created_by: str
    updated_at: datetime
    updated_by: str
    published_at: datetime | None


@dataclass(slots=True)
class Article:
    """Something for customers to read, in its languages. The counts are of all time and of all languages."""

    id: UUID
    slug: str
    category_id: UUID | None
    status: Status
    texts: dict[str, ArticleText]
    version: int
    created_at: datetime
    created_by: str
    updated_at: datetime
    updated_by: str
    published_at: datetime | None
    views_count: int
    helpful_count: int
    unhelpful_count: int


@dataclass(slots=True)
class ArticleVersion:
    """An article as it was from `made_at` on, until the next version."""

    article_id: UUID
    version: int
    slug: str
    category_id: UUID | None
    status: Status
    texts: dict[str, ArticleText]
    by: str
    made_at: datetime


async def create(
    session: Session,
    *,
    slug: str,
    category_id: UUID | None,
    status: Status,
    texts: Mapping[str, Mapping[str, str]],
    by: str,
    once: idempotency.Request | None,
    now: datetime,
) -> Article:
    """Write an article; `texts` have a `title` and a `body` by language. Raises SlugTaken, Invalid."""
    await _check_slug(session, slug)
    await _check_category(session, category_id)
    article = Article(
        uuid7(), slug, category_id, status, {locale: _text(text) for locale, text in texts.items()}, 1, now, by, now,
        by, now if status == "published" else None, 0, 0, 0,
    )  # fmt: skip
    row = tuple(getattr(article, name) for name in _OWN)
    # The texts refer to it: a statement of its own.
    await writes.write(session, [Insert(articles, _OWN, [row])])
    answer = idempotency.answer(once, contact_id=None, result=article, now=now)
    await writes.write(session, [*_parts(article, list(article.texts), by, now), *answer])
    return article


async def update(
    session: Session,
    *,
    article_id: UUID,
    changes: Mapping[str, Any],
    version: int | None = None,
    by: str,
    now: datetime,
) -> Article:
    """Change an article. Of `texts`, a language that is null goes, and the others take over what is given of them.

    Raises ArticleNotFound, StaleArticle, SlugTaken, Invalid.
    """
    await session.execute("SELECT FROM articles WHERE id = $1 FOR NO KEY UPDATE", article_id)
    article = await get(session, article_id=article_id)
    if version is not None and version != article.version:
        raise StaleArticle("Read it again, and send the new ETag in If-Match.", version=article.version)
    if changes.get("slug", article.slug) != article.slug:
        await _check_slug(session, changes["slug"])
    if changes.get("category_id", article.category_id) != article.category_id:
        await _check_category(session, changes["category_id"])
    texts = _merged(article.texts, changes.get("texts") or {})
    rewritten = [locale for locale, text in texts.items() if article.texts.get(locale) != text]
    gone = [locale for locale in article.texts if locale not in texts]
    plain = {name: value for name, value in changes.items() if name != "texts" and getattr(article, name) != value}
    if not (plain or rewritten or gone):
        return article
    for name, value in plain.items():
        setattr(article, name, value)
    if article.status == "published" and article.published_at is None:
        article.published_at = now
    article.texts, article.version, article.updated_at, article.updated_by = texts, article.version + 1, now, by
    for table in ("article_terms", "article_texts"):
        await session.execute(
            f"DELETE FROM {table} WHERE article_id = $1 AND locale = ANY ($2)", article_id, rewritten + gone
        )
    row = tuple(getattr(article, name) for name in _OWN)
    await writes.write(session, [Update(articles, _OWN, [row], 1), *_parts(article, rewritten, by, now)])
    return article


async def delete(session: Session, *, article_id: UUID) -> None:
    """Delete an article with its versions and counts. Raises ArticleNotFound, ArticlePublished."""
    status = await session.fetchval("SELECT status FROM articles WHERE id = $1 FOR UPDATE", article_id)
    if status is None:
        raise ArticleNotFound("No article has this id.")
    if status == "published":
        raise ArticlePublished("Archive it first, or make it a draft again.")
    await session.execute("DELETE FROM article_views WHERE article_id = $1", article_id)
    await session.execute("DELETE FROM articles WHERE id = $1", article_id)


async def get(session: Session, *, article_id: UUID) -> Article:
    """One article. Raises ArticleNotFound."""
    row = await session.fetchrow(
        f"""
        SELECT {_SELECTED},
            (SELECT jsonb_object_agg(t.locale, jsonb_build_object('title', t.title, 'body', t.body))
             FROM article_texts t WHERE t.article_id = a.id) AS texts,
            (SELECT coalesce(sum(v.views_count), 0)::bigint FROM article_views v WHERE v.article_id = a.id) AS views,
            u.helpful, u.unhelpful
        FROM articles a CROSS JOIN LATERAL (
            SELECT count(*) FILTER (WHERE v.helpful) AS helpful, count(*) FILTER (WHERE NOT v.helpful) AS unhelpful
            FROM article_votes v WHERE v.article_id = a.id
        ) u
        WHERE a.id = $1
        """,
        article_id,
    )
    if row is None:
        raise ArticleNotFound("No article has this id.")
    return Article(
        **{name: row[name] for name in _OWN}, texts=_texts(row["texts"]), views_count=row["views"],
        helpful_count=row["helpful"], unhelpful_count=row["unhelpful"],
    )  # fmt: skip


async def page(
    session: Session,
    *,
    status: Status | None = None,
    category_id: UUID | None = None,
    locale: str | None = None,
    before: UUID | None,
    limit: int,
) -> list[ArticleSummary]:
    """Articles, the newest first, older than `before`: of a status, of a category, or with a text in a language."""
    rows = await session.fetch(
        f"""
        SELECT {_SELECTED}, t.titles FROM articles a
        CROSS JOIN LATERAL (
            SELECT jsonb_object_agg(t.locale, t.title) AS titles FROM article_texts t WHERE t.article_id = a.id
        ) t
        WHERE ($2::uuid IS NULL OR a.id < $2) AND ($3::text IS NULL OR a.status = $3)
            AND ($4::uuid IS NULL OR a.category_id = $4) AND ($5::text IS NULL OR t.titles ? $5)
        ORDER BY a.id DESC LIMIT $1
        """,
        limit, before, status, category_id, locale,
    )  # fmt: skip
    return [ArticleSummary(**dict(row)) for row in rows]


async def versions(session: Session, *, article_id: UUID, before: int | None, limit: int) -> list[ArticleVersion]:
    """The versions of an article, the newest first, older than `before`. Raises ArticleNotFound."""
    rows = await session.fetch(
        """
        SELECT article_id, version, data, by, made_at FROM article_versions
        WHERE article_id = $1 AND ($2::bigint IS NULL OR version < $2) ORDER BY version DESC LIMIT $3
        """,
        article_id, before, limit,
    )  # fmt: skip
    if not rows and before is None:
        raise ArticleNotFound("No article has this id.")
    return [_version(row) for row in rows]


async def version(session: Session, *, article_id: UUID, number: int) -> ArticleVersion:
    """An article as it was in one version. Raises ArticleNotFound."""
    row = await session.fetchrow(
        "SELECT article_id, version, data, by, made_at FROM article_versions WHERE article_id = $1 AND version = $2",
        article_id, min(number, VERSION_MAX),
    )  # fmt: skip
    if row is None:
        raise ArticleNotFound("This article has no such version.")
    return _version(row)


def _parts(article: Article, locales: list[str], by: str, now: datetime) -> list[Insert]:
    """What is written of the texts in these languages, and of the version that the article has now."""
    rows, terms = [], []
    for locale in locales:
        text = article.texts[locale]
        plain = markdown.plain(text.body)
        rows.append((article.id, locale, text.title, text.body, plain))
        terms += [(article.id, locale, term) for term in wording.terms(f"{text.title} {plain}")]
    data = {
        "slug": article.slug, "category_id": article.category_id, "status": article.status,
        "texts": {locale: {"title": text.title, "body": text.body} for locale, text in article.texts.items()},
    }  # fmt: skip
    return [
        Insert(article_texts, ("article_id", "locale", "title", "body", "plain"), rows),
        Insert(article_terms, ("article_id", "locale", "term"), terms),
        Insert(
            article_versions, ("article_id", "version", "data", "by", "made_at"),
            [(article.id, article.version, data, by, now)],
        ),
    ]  # fmt: skip


def _merged(
    texts: Mapping[str, ArticleText], changes: Mapping[str, Mapping[str, str] | None]
) -> dict[str, ArticleText]:
    merged: dict[str, ArticleText] = dict(texts)
    for locale, change in changes.items():
        if change is None:
            merged.pop(locale, None)
            continue
        known = merged.get(locale)
        given = {**({"title": known.title, "body": known.body} if known else {}), **change}
        if missing := sorted({"title", "body"} - given.keys()):
            raise Invalid(
                "A new language needs a title and a body.",
                errors=[FieldError(f"/texts/{locale}/{name}", "text_incomplete", "is needed here") for name in missing],
            )
        merged[locale] = _text(given)
    if not 0 < len(merged) <= LOCALES_MAX:
        raise Invalid(
            f"An article has a text in 1 to {LOCALES_MAX} languages.",
            errors=[FieldError("/texts", "texts_count", f"must leave 1 to {LOCALES_MAX} languages")],
        )
    return merged


async def _check_slug(session: Session, slug: str) -> None:
    if await session.fetchval("SELECT EXISTS (SELECT FROM articles WHERE slug = $1)", slug):
        raise SlugTaken(f"Choose another slug than '{slug}'.")


async def _check_category(session: Session, category_id: UUID | None) -> None:
    if category_id is not None and not await session.fetchval(
        "SELECT true FROM article_categories WHERE id = $1 FOR KEY SHARE", category_id
    ):
        raise Invalid(
            "There is no such category.",
            errors=[FieldError("/category_id", "unknown_category", "is no category of articles")],
        )


def _text(text: Mapping[str, str]) -> ArticleText:
    return ArticleText(text["title"], text["body"], markdown.html(text["body"]))


def _texts(stored: Mapping[str, Mapping[str, str]]) -> dict[str, ArticleText]:
    return {locale: _text(stored[locale]) for locale in sorted(stored)}


def _version(row: Record) -> ArticleVersion:
    data = row["data"]
    category_id = data["category_id"]
    return ArticleVersion(
        row["article_id"], row["version"], data["slug"], UUID(category_id) if category_id else None, data["status"],
        _texts(data["texts"]), row["by"], row["made_at"],
    )  # fmt: skip
