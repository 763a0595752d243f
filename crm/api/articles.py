"""`/v1/articles`: what customers can read to help themselves, how it is found, and whether it helped."""

from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

from litestar import Response
from litestar.params import FromPath, PathParameter, QueryParameter
from pydantic import Field

from crm.api import moments, paging
from crm.api.article_categories import LANGUAGE, Language, Slug, by_language
from crm.api.etags import IfMatch, etag, version_of
from crm.api.paging import Cursor, Limit, Page
from crm.api.routes import delete, get, patch, post, put
from crm.api.schemas import Body, Line, Patch, Text
from crm.care import article_search, article_usage, articles
from crm.care.article_search import FoundArticle
from crm.care.article_usage import SearchedWords, Source
from crm.care.articles import (
    LOCALES_MAX,
    Article,
    ArticleNotFound,
    ArticlePublished,
    ArticleSummary,
    ArticleVersion,
    SlugTaken,
    Status,
)
from crm.db import idempotency
from crm.db.session import Session

BODY_LENGTH_MAX: Final = 20_000
_TITLE: Final = {"type": "string", "minLength": 1, "maxLength": 200, "pattern": r"[^\s\x1c-\x1f\x85\x00]"}
_BODY: Final = {"type": "string", "maxLength": BODY_LENGTH_MAX, "description": "Markdown; HTML in it is text."}


class ArticleTextBody(Body):
    """An article in one language; the body is Markdown."""

    title: Line
    body: Text


class ArticleTextPatch(Patch):
    """What changes of an article in one language."""

    title: Line | None = None
    body: Text | None = None

    not_nullable = frozenset({"title", "body"})


Texts = Annotated[
    dict[Language, ArticleTextBody], Field(min_length=1, max_length=LOCALES_MAX),
    by_language({
        "type": "object", "required": ["title", "body"], "additionalProperties": False,
        "properties": {"title": _TITLE, "body": _BODY},
    }),
]  # fmt: skip
TextsPatch = Annotated[
    dict[Language, ArticleTextPatch | None], Field(max_length=LOCALES_MAX),
    by_language({
        "type": ["object", "null"], "additionalProperties": False, "properties": {"title": _TITLE, "body": _BODY},
    }, empty=True),
]  # fmt: skip
Locale = Annotated[str, QueryParameter(pattern=LANGUAGE, description="The language of whoever reads it.")]


class NewArticle(Body):
    """Something for customers to read, in one language or several; the slug is its name in addresses."""

    slug: Slug
    category_id: UUID | None = None
    status: Status = "draft"
    texts: Texts


class ArticlePatch(Patch):
    """What can change. A language that is null goes; of the others, what is left out stays."""

    slug: Slug | None = None
    category_id: UUID | None = None
    status: Status | None = None
    texts: TextsPatch | None = None

    not_nullable = frozenset({"slug", "status", "texts"})

    def changes(self) -> dict[str, Any]:
        """What was given, with texts as plain dictionaries."""
        given: dict[str, Any] = {name: getattr(self, name) for name in self.model_fields_set}
        if self.texts is not None:
            given["texts"] = {
                locale: None if text is None else {name: getattr(text, name) for name in text.model_fields_set}
                for locale, text in self.texts.items()
            }
        return given


class NewVote(Body):
    """Whether an article helped, and in which language it was read."""

    helpful: bool
    locale: Language = "id"


@post("/articles", scopes={"care:write"}, problems=(SlugTaken,), headers=("ETag", "Location"))
async def create_article(
    session: Session, data: NewArticle, by: str, now: datetime, once: idempotency.Request | None
) -> Response[Article]:
    """Write an article; customers see it when it is published."""
    await idempotency.begin(session, request=once)
    article = await articles.create(
        session, slug=data.slug, category_id=data.category_id, status=data.status,
        texts={locale: {"title": text.title, "body": text.body} for locale, text in data.texts.items()}, by=by,
        once=once, now=now,
    )  # fmt: skip
    return Response(article, headers=etag(article.version) | {"Location": f"/v1/articles/{article.id}"})


@get("/articles", scopes={"care:read"})
async def list_articles(
    session: Session,
    status: Annotated[Status | None, QueryParameter(description="Only of this status.")] = None,
    category_id: Annotated[
        UUID | None, QueryParameter(name="category", schema_extra={"format": "uuid"}, description="Only of this one.")
    ] = None,
    locale: Annotated[
        str | None, QueryParameter(pattern=LANGUAGE, description="Only those with a text in this language.")
    ] = None,
    cursor: Cursor = None, limit: Limit = 50,
) -> Page[ArticleSummary]:  # fmt: skip
    """List articles, newest first, without their texts."""
    before = paging.decode(cursor, UUID)
    found = await articles.page(
        session, status=status, category_id=category_id, locale=locale, before=before[0] if before else None,
        limit=limit + 1,
    )  # fmt: skip
    return paging.page_of(found, limit=limit, key=lambda article: (article.id,))


@get("/articles/search", scopes={"care:read"})
async def search_articles(
    session: Session,
    now: datetime,
    text: Annotated[str, QueryParameter(name="q", min_length=1, max_length=200, description="A question, or words.")],
    locale: Locale = "id",
    limit: Annotated[int, QueryParameter(ge=1, le=20, description="How many at most.")] = 10,
) -> Page[FoundArticle]:
    """Search published articles, in Indonesian and English, misspelled words included.

    Each result says which word it was found by. A search counts in `/v1/articles/searches`, without any number or
    address that is in it. There is one page.
    """
    found = await article_search.find(session, text=text, locale=locale, limit=limit)
    await article_usage.searched(session, text=text, locale=locale, source="api", found=bool(found), now=now)
    return Page(found, None)


@get("/articles/searches", scopes={"care:read"})
async def list_article_searches(
    session: Session,
    since: moments.Since = None, until: moments.Until = None,
    found: Annotated[
        bool | None, QueryParameter(description="Only what ever found something, or (false) what never did.")
    ] = None,
    locale: Annotated[str | None, QueryParameter(pattern=LANGUAGE, description="Only of this language.")] = None,
    source: Annotated[Source | None, QueryParameter(description="Only from there.")] = None,
    cursor: Cursor = None, limit: Limit = 50,
) -> Page[SearchedWords]:  # fmt: skip
    """List what customers looked for, what was asked most first.

    Words are kept without case, in order of the alphabet, and without any number or address. Null stands for searches
    of which no words were kept.
    """
    after = paging.decode(cursor, int, str)
    rows = await article_usage.searches(
        session, since=moments.instant("from", since), until=moments.instant("to", until), locale=locale,
        source=source, found=found, after=(after[0], after[1]) if after else None, limit=limit + 1,
    )  # fmt: skip
    return paging.page_of(rows, limit=limit, key=lambda row: (row.searches_count, row.words or article_usage.UNTOLD))


@get("/articles/{article_id:uuid}", scopes={"care:read"}, problems=(ArticleNotFound,), headers=("ETag",))
async def get_article(session: Session, article_id: FromPath[UUID]) -> Response[Article]:
    """Read an article in all its languages.

    The counts say how often it was read, and whether it helped.
    """
    article = await articles.get(session, article_id=article_id)
    return Response(article, headers=etag(article.version))


@patch("/articles/{article_id:uuid}", scopes={"care:write"}, problems=(ArticleNotFound, SlugTaken), headers=("ETag",))
async def update_article(
    session: Session, article_id: FromPath[UUID], data: ArticlePatch, by: str, now: datetime, if_match: IfMatch = None
) -> Response[Article]:
    """Change an article, publish it or archive it.

    Each change is a version that can be read later.
    """
    article = await articles.update(
        session, article_id=article_id, changes=data.changes(), version=version_of(if_match), by=by, now=now
    )
    return Response(article, headers=etag(article.version))


@delete("/articles/{article_id:uuid}", scopes={"care:write"}, problems=(ArticleNotFound, ArticlePublished))
async def delete_article(session: Session, article_id: FromPath[UUID]) -> None:
    """Delete an article that is not published, with its versions and counts."""
    await articles.delete(session, article_id=article_id)


@get("/articles/{article_id:uuid}/versions", scopes={"care:read"}, problems=(ArticleNotFound,))
async def list_article_versions(
    session: Session, article_id: FromPath[UUID], cursor: Cursor = None, limit: Limit = 50
) -> Page[ArticleVersion]:
    """List what an article was like, newest first."""
    before = paging.decode(cursor, int)
    found = await articles.versions(
        session, article_id=article_id, before=before[0] if before else None, limit=limit + 1
    )
    return paging.page_of(found, limit=limit, key=lambda version: (version.version,))


@get("/articles/{article_id:uuid}/versions/{number:int}", scopes={"care:read"}, problems=(ArticleNotFound,))
async def get_article_version(
    session: Session, article_id: FromPath[UUID],
    number: Annotated[int, PathParameter(schema_extra={"type": "integer", "minimum": 1})],
) -> ArticleVersion:  # fmt: skip
    """Read an article as it was in one version."""
    return await articles.version(session, article_id=article_id, number=number)


@put(
    "/articles/{article_id:uuid}/votes/{voter:str}",
    scopes={"care:write"},
    status_code=204,
    problems=(ArticleNotFound,),
)
async def vote_on_article(
    session: Session, article_id: FromPath[UUID],
    voter: Annotated[str, PathParameter(max_length=200, schema_extra={"maxLength": 200})], data: NewVote, now: datetime,
) -> None:  # fmt: skip
    """Note whether a published article helped somebody.

    `voter` is any name that your page gives this one reader of this one article, such as a random one: their last word
    holds. Only its hash is kept.
    """
    await article_usage.vote(
        session, article_id=article_id, voter=voter, locale=data.locale, helpful=data.helpful, now=now
    )


handlers = [
    create_article, list_articles, search_articles, list_article_searches, get_article, update_article, delete_article,
    list_article_versions, get_article_version, vote_on_article,
]  # fmt: skip
