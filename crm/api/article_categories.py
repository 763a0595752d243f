"""`/v1/article-categories`: the headings under which customers find articles."""

from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

from litestar import Response
from litestar.params import FromPath
from pydantic import Field, StringConstraints, WithJsonSchema

from crm.api import paging
from crm.api.paging import Cursor, Limit, Page
from crm.api.routes import delete, get, patch, post
from crm.api.schemas import Body, Line, Patch
from crm.care import article_categories
from crm.care.article_categories import (
    ArticleCategory,
    CategoryInUse,
    CategoryNotFound,
    CategorySlugTaken,
    TooManyCategories,
)
from crm.care.articles import LOCALES_MAX
from crm.db import idempotency
from crm.db.session import Session

LANGUAGE: Final = r"^[a-z]{2,3}$"
Language = Annotated[str, StringConstraints(pattern=LANGUAGE)]
Slug = Annotated[str, StringConstraints(max_length=100, pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
Position = Annotated[int, Field(ge=0, le=1_000_000)]
_LINE: Final = {"type": "string", "minLength": 1, "maxLength": 200, "pattern": r"[^\s\x1c-\x1f\x85\x00]"}


def by_language(value: dict[str, Any], *, empty: bool = False) -> WithJsonSchema:
    """How a schema says that something is there for each language."""
    return WithJsonSchema({
        "type": "object", "description": "By language.", "minProperties": 0 if empty else 1,
        "maxProperties": LOCALES_MAX, "propertyNames": {"pattern": LANGUAGE}, "additionalProperties": value,
    })  # fmt: skip


Names = Annotated[dict[Language, Line], Field(min_length=1, max_length=LOCALES_MAX), by_language(_LINE)]
NamesPatch = Annotated[
    dict[Language, Line | None], Field(max_length=LOCALES_MAX),
    by_language({"anyOf": [_LINE, {"type": "null"}]}, empty=True),
]  # fmt: skip


class NewArticleCategory(Body):
    """A heading, with its name by language; the slug is its name in addresses."""

    slug: Slug
    names: Names
    position: Position = 0


class ArticleCategoryPatch(Patch):
    """What can change. A name that is null goes; the last one stays."""

    slug: Slug | None = None
    names: NamesPatch | None = None
    position: Position | None = None

    not_nullable = frozenset({"slug", "names", "position"})


@post(
    "/article-categories",
    scopes={"care:write"},
    problems=(CategorySlugTaken, TooManyCategories),
    headers=("Location",),
)
async def create_article_category(
    session: Session, data: NewArticleCategory, now: datetime, once: idempotency.Request | None
) -> Response[ArticleCategory]:
    """Create a category of articles."""
    await idempotency.begin(session, request=once)
    category = await article_categories.create(
        session, slug=data.slug, names=data.names, position=data.position, once=once, now=now
    )
    return Response(category, headers={"Location": f"/v1/article-categories/{category.id}"})


@get("/article-categories", scopes={"care:read"})
async def list_article_categories(session: Session, cursor: Cursor = None, limit: Limit = 50) -> Page[ArticleCategory]:
    """List the categories of articles in the order in which customers see them."""
    after = paging.decode(cursor, int, UUID)
    found = await article_categories.page(session, after=(after[0], after[1]) if after else None, limit=limit + 1)
    return paging.page_of(found, limit=limit, key=lambda category: (category.position, category.id))


@get("/article-categories/{category_id:uuid}", scopes={"care:read"}, problems=(CategoryNotFound,))
async def get_article_category(session: Session, category_id: FromPath[UUID]) -> ArticleCategory:
    """Read a category of articles."""
    return await article_categories.get(session, category_id=category_id)


@patch("/article-categories/{category_id:uuid}", scopes={"care:write"}, problems=(CategoryNotFound, CategorySlugTaken))
async def update_article_category(
    session: Session, category_id: FromPath[UUID], data: ArticleCategoryPatch, now: datetime
) -> ArticleCategory:
    """Change a category of articles."""
    changes: dict[str, Any] = {name: getattr(data, name) for name in data.model_fields_set}
    return await article_categories.update(session, category_id=category_id, changes=changes, now=now)


@delete("/article-categories/{category_id:uuid}", scopes={"care:write"}, problems=(CategoryNotFound, CategoryInUse))
async def delete_article_category(session: Session, category_id: FromPath[UUID]) -> None:
    """Delete a category without articles."""
    await article_categories.delete(session, category_id=category_id)


handlers = [
    create_article_category, list_article_categories, get_article_category, update_article_category,
    delete_article_category,
]  # fmt: skip
