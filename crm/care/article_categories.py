"""Categories of articles: the headings under which customers find them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from asyncpg import Record
from sqlalchemy import Column, Integer, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from crm.db import idempotency, writes
from crm.db.ids import uuid7
from crm.db.session import Session
from crm.db.tables import Instant, metadata
from crm.db.writes import Insert
from crm.errors import Conflict, NotFound

article_categories = Table(
    "article_categories",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("slug", Text, nullable=False),
    Column("names", JSONB, nullable=False),
    Column("position", Integer, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
)

CATEGORIES_MAX: Final = 100
_COLUMNS: Final = tuple(column.name for column in article_categories.columns)
_SELECTED: Final = ", ".join(_COLUMNS)


class CategoryNotFound(NotFound):
    code = "article_category_not_found"
    title = "There is no such category of articles"


class CategorySlugTaken(Conflict):
    code = "article_category_slug_taken"
    title = "Another category has this slug"


class CategoryInUse(Conflict):
    code = "article_category_in_use"
    title = "There are articles in this category"


class TooManyCategories(Conflict):
    code = "too_many_article_categories"
    title = "There are as many categories as there can be"


@dataclass(slots=True)
class ArticleCategory:
    """A heading of the help pages, with its name by language; they come in the order of `position`."""

    id: UUID
    slug: str
    names: dict[str, str]
    position: int
    created_at: datetime
    updated_at: datetime


async def create(
    session: Session,
    *,
    slug: str,
    names: Mapping[str, str],
    position: int,
    once: idempotency.Request | None,
    now: datetime,
) -> ArticleCategory:
    """Make a category. Raises CategorySlugTaken, TooManyCategories."""
    await _check_slug(session, slug)
    if await session.fetchval("SELECT count(*) FROM article_categories") >= CATEGORIES_MAX:
        raise TooManyCategories(f"There can be {CATEGORIES_MAX}; nobody looks through more.")
    category = ArticleCategory(uuid7(), slug, dict(names), position, now, now)
    await writes.write(
        session,
        [
            Insert(article_categories, _COLUMNS, [tuple(getattr(category, name) for name in _COLUMNS)]),
            *idempotency.answer(once, contact_id=None, result=category, now=now),
        ],
    )
    return category


async def update(session: Session, *, category_id: UUID, changes: Mapping[str, Any], now: datetime) -> ArticleCategory:
    """Change a category; of `names`, those that are null go. Raises CategoryNotFound, CategorySlugTaken."""
    row = await session.fetchrow(
        f"SELECT {_SELECTED} FROM article_categories WHERE id = $1 FOR NO KEY UPDATE", category_id
    )
    category = _view(row)
    if changes.get("slug", category.slug) != category.slug:
        await _check_slug(session, changes["slug"])
    merged = {**category.names, **changes.get("names", {})}
    names = {locale: name for locale, name in merged.items() if name is not None} or category.names
    for name, value in {**changes, "names": names, "updated_at": now}.items():
        setattr(category, name, value)
    await session.execute(
        "UPDATE article_categories SET slug = $2, names = $3, position = $4, updated_at = $5 WHERE id = $1",
        category_id, category.slug, category.names, category.position, now,
    )  # fmt: skip
    return category


async def get(session: Session, *, category_id: UUID) -> ArticleCategory:
    """One category. Raises CategoryNotFound."""
    return _view(await session.fetchrow(f"SELECT {_SELECTED} FROM article_categories WHERE id = $1", category_id))


async def page(session: Session, *, after: tuple[int, UUID] | None, limit: int) -> list[ArticleCategory]:
    """Categories in their order, from behind the (position, id) of `after`."""
    position, category_id = after or (None, None)
    rows = await session.fetch(
        f"""
        SELECT {_SELECTED} FROM article_categories WHERE $1::integer IS NULL OR (position, id) > ($1, $2::uuid)
        ORDER BY position, id LIMIT $3
        """,
        position, category_id, limit,
    )  # fmt: skip
    return [_view(row) for row in rows]


async def delete(session: Session, *, category_id: UUID) -> None:
    """Delete a category without articles. Raises CategoryNotFound, CategoryInUse."""
    _view(await session.fetchrow(f"SELECT {_SELECTED} FROM article_categories WHERE id = $1 FOR UPDATE", category_id))
    if await session.fetchval("SELECT EXISTS (SELECT FROM articles WHERE category_id = $1)", category_id):
        raise CategoryInUse("Move them to another category first.")
    await session.execute("DELETE FROM article_categories WHERE id = $1", category_id)


async def _check_slug(session: Session, slug: str) -> None:
    if await session.fetchval("SELECT EXISTS (SELECT FROM article_categories WHERE slug = $1)", slug):
        raise CategorySlugTaken(f"Choose another slug than '{slug}'.")


def _view(row: Record | None) -> ArticleCategory:
    if row is None:
        raise CategoryNotFound("No category has this id.")
    return ArticleCategory(**dict(row))
