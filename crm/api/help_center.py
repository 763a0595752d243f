"""`/help`: the articles as pages for customers, who need neither a key nor a script."""

import re
import secrets
from datetime import datetime
from typing import Any, Final
from urllib.parse import parse_qs, urlencode
from uuid import UUID

from litestar import Response
from litestar.datastructures import Cookie
from litestar.params import FromPath

from crm.api.article_categories import LANGUAGE
from crm.api.auth import PUBLIC
from crm.api.routes import AnyRequest, get, post
from crm.api.turnstile import Turnstile
from crm.care import article_search, article_usage, help_pages, published
from crm.care.articles import ArticleNotFound
from crm.db.session import Session

FORM_MAX: Final = 2_000
RESULTS: Final = 10
LOCALE: Final = "id"
"""The language of those who don't say which they read."""
VOTED: Final = "voted"
"""The cookie of a vote. It is sent for one article only, and ends with the browser's session."""

_LOCALE: Final = re.compile(LANGUAGE)
_SLUG: Final = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_SLUG_MAX: Final = 100
_TOKEN: Final = re.compile(r"[\w-]{22}", re.ASCII)
_ACCEPTED_MAX: Final = 500
_HEADERS: Final = {
    "Content-Security-Policy": help_pages.POLICY, "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin", "Cache-Control": "no-cache",
}  # fmt: skip


def turnstile() -> Turnstile:
    """How many pages a process shows."""
    return Turnstile(each_second=50, burst=200, of_one_second=5, of_one_burst=40)


@get("/help", scopes=PUBLIC, media_type="text/html", documented=False, any_parameters=True)
async def go_to_help(request: AnyRequest) -> Response[str]:
    """The help pages in the reader's language."""
    asked = _asked(request)
    where = f"/help/{_accepted(request)}" + (f"?{urlencode({'q': asked})}" if asked else "")
    return Response("", status_code=302, media_type="text/html", headers={"Location": where, "Vary": "Accept-Language"})


@get("/help/{locale:str}", scopes=PUBLIC, media_type="text/html", documented=False, any_parameters=True)
async def show_help(session: Session, request: AnyRequest, locale: FromPath[str], now: datetime) -> Response[str]:
    """All topics, those of a category, or what was found for a question."""
    if (refusal := _refusal(request, locale)) is not None:
        return refusal
    if asked := _asked(request):
        found = await article_search.find(session, text=asked, locale=locale, limit=RESULTS)
        await article_usage.searched(session, text=asked, locale=locale, source="page", found=bool(found), now=now)
        return _page(help_pages.results(found, asked=asked, locale=locale))
    category = request.query_params.get("category")
    if category is not None and not _is_slug(category):
        return _gone(locale)
    shelves = await published.shelves(session, locale=locale, category=category)
    if category is not None and not shelves:
        return _gone(locale)
    return _page(help_pages.index(shelves, locale=locale, category=category))


@get("/help/{locale:str}/{slug:str}", scopes=PUBLIC, media_type="text/html", documented=False, any_parameters=True)
async def show_article(
    session: Session, request: AnyRequest, locale: FromPath[str], slug: FromPath[str], now: datetime
) -> Response[str]:
    """An article, with the question whether it helped."""
    if (refusal := _refusal(request, locale)) is not None:
        return refusal
    shown = await published.find(session, slug=slug, locale=locale) if _is_slug(slug) else None
    if shown is None:
        return _gone(locale)
    thanked = "thanks" in request.query_params
    if not thanked and request.headers.get("sec-purpose") is None:  # else it was counted, or only fetched ahead
        await article_usage.viewed(session, article_id=shown.id, locale=shown.locale, now=now)
    return _page(help_pages.article(shown, locale=locale, thanked=thanked))


@post(
    "/help/votes/{article_id:uuid}", scopes=PUBLIC, media_type="text/html", documented=False, body_max=FORM_MAX,
    status_code=303, any_parameters=True,
)  # fmt: skip
async def vote_on_help(
    session: Session, request: AnyRequest, article_id: FromPath[UUID], now: datetime
) -> Response[str]:
    """What somebody says of an article: once for a browser's session, and the last word holds."""
    fields = parse_qs((await request.body()).decode("utf-8", "replace"), max_num_fields=5, keep_blank_values=True)
    locale, slug, said = (fields.get(name, [""])[0] for name in ("locale", "slug", "helpful"))
    if not _LOCALE.fullmatch(locale):
        locale = _accepted(request)
    if (refusal := _refusal(request, locale)) is not None:
        return refusal
    if said not in {"yes", "no"} or request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
        return _page(help_pages.gone("wrong", locale=locale), 422)
    token = request.cookies.get(VOTED, "")
    voter = token if _TOKEN.fullmatch(token) else secrets.token_urlsafe(16)
    try:
        await article_usage.vote(
            session, article_id=article_id, voter=voter, locale=locale, helpful=said == "yes", now=now
        )
    except ArticleNotFound:
        return _gone(locale)
    where = f"{article_search.path(locale, slug)}?thanks=1#helped" if _is_slug(slug) else f"/help/{locale}"
    return Response(
        "", status_code=303, media_type="text/html", headers={"Location": where, "Cache-Control": "no-store"},
        cookies=[Cookie(
            key=VOTED, value=voter, path=f"/help/votes/{article_id}", httponly=True, samesite="strict",
            secure=request.url.scheme == "https" or request.headers.get("x-forwarded-proto") == "https",
        )],
    )  # fmt: skip


def _refusal(request: AnyRequest, locale: str) -> Response[str] | None:
    if not _LOCALE.fullmatch(locale):
        return _gone(_accepted(request))
    gate: Turnstile = request.app.state.turnstile
    if not gate.admits(request.client.host if request.client else None):
        return _page(help_pages.gone("busy", locale=locale), 429, {"Retry-After": "5"})
    return None


def _asked(request: AnyRequest) -> str:
    """The question in the address, cut to what is looked at."""
    return str(request.query_params.get("q", "")).replace("\x00", "").strip()[: help_pages.ASKED_MAX]


def _is_slug(text: str) -> bool:
    return len(text) <= _SLUG_MAX and _SLUG.fullmatch(text) is not None


def _accepted(request: AnyRequest) -> str:
    """The language of ours that the reader's browser likes best."""
    liked: list[tuple[float, int, str]] = []
    for place, part in enumerate(request.headers.get("accept-language", "")[:_ACCEPTED_MAX].split(",")):
        name, _, weight = part.strip().partition(";q=")
        code = {"in": "id"}.get(name[:2].lower(), name[:2].lower())
        try:
            quality = float(weight) if weight else 1.0
        except ValueError:
            continue
        if code in help_pages.LANGUAGES and quality > 0:
            liked.append((-quality, place, code))
    return min(liked)[2] if liked else LOCALE


def _gone(locale: str) -> Response[str]:
    return _page(help_pages.gone("gone", locale=locale), 404)


def _page(html: str, status: int = 200, headers: dict[str, Any] | None = None) -> Response[str]:
    return Response(html, status_code=status, media_type="text/html", headers={**_HEADERS, **(headers or {})})


public = [go_to_help, show_help, show_article, vote_on_help]
