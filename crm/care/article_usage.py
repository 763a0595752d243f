"""How articles are used: views, votes and searches, counted so that nobody is followed.

A vote has the hash of a name that holds for one article only. Of a search, what might be somebody's is left out
before it is kept: numbers, addresses, and whatever is long.
"""

import hashlib
import random
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, TypeAlias
from uuid import UUID

from sqlalchemy import BigInteger, Boolean, Column, LargeBinary, SmallInteger, Table, Text, Uuid

from crm.care import wording
from crm.care.articles import ArticleNotFound
from crm.db.session import Session
from crm.db.tables import Instant, metadata

Source: TypeAlias = Literal["page", "api"]

article_views = Table(
    "article_views",
    metadata,
    Column("article_id", Uuid, primary_key=True),
    Column("hour", Instant, primary_key=True),
    Column("locale", Text, primary_key=True),
    Column("slot", SmallInteger, primary_key=True),
    Column("views_count", BigInteger, nullable=False),
)
article_votes = Table(
    "article_votes",
    metadata,
    Column("article_id", Uuid, primary_key=True),
    Column("voter", LargeBinary, primary_key=True),
    Column("locale", Text, nullable=False),
    Column("helpful", Boolean, nullable=False),
    Column("created_at", Instant, nullable=False),
)
article_searches = Table(
    "article_searches",
    metadata,
    Column("hour", Instant, primary_key=True),
    Column("source", Text, primary_key=True),
    Column("locale", Text, primary_key=True),
    Column("words", Text, primary_key=True),
    Column("searches_count", BigInteger, nullable=False),
    Column("found_count", BigInteger, nullable=False),
)

SLOTS: Final = 4
WORDS_MAX: Final = 6
WORD_LENGTH_MAX: Final = 20
SEARCHES_AN_HOUR_MAX: Final = 2_000
"""How many different searches an hour are kept by their words; the others are counted without."""
UNTOLD: Final = ""
"""In place of words: a search of which nothing may be kept, or one too many."""
_ADDRESS: Final = re.compile(r"\S*(?:@|://|www\.)\S*")
_DIGIT: Final = re.compile(r"\d")


@dataclass(slots=True)
class SearchedWords:
    """What was looked for in a period, and how often it found something. `words` is null where nothing was kept."""

    words: str | None
    searches_count: int
    found_count: int
    last_hour: datetime


def kept(text: str) -> str:
    """What is kept of a search: its words, folded and sorted, without any that might say who asks. Pure."""
    words = wording.asked(_ADDRESS.sub(" ", text))
    told = {word for word in words if not _DIGIT.search(word) and len(word) <= WORD_LENGTH_MAX}
    return " ".join(sorted(told)[:WORDS_MAX])


async def searched(session: Session, *, text: str, locale: str, source: Source, found: bool, now: datetime) -> None:
    """Count a search, with what is kept of its words. What is said to the assistant is no search."""
    await session.execute(
        """
        INSERT INTO article_searches AS s (hour, source, locale, words, searches_count, found_count)
        SELECT $1, $2, $3, CASE WHEN EXISTS (
            SELECT FROM article_searches o WHERE o.hour = $1 AND o.source = $2 AND o.locale = $3 OFFSET $6 LIMIT 1
        ) THEN '' ELSE $4 END, 1, $5
        ON CONFLICT (hour, source, locale, words) DO UPDATE SET searches_count = s.searches_count + 1,
            found_count = s.found_count + excluded.found_count
        """,
        _hour(now), source, locale, kept(text), int(found), SEARCHES_AN_HOUR_MAX - 1,
    )  # fmt: skip


async def viewed(session: Session, *, article_id: UUID, locale: str, now: datetime) -> None:
    """Count that somebody read an article."""
    await session.execute(
        """
        INSERT INTO article_views AS v (article_id, hour, locale, slot, views_count) VALUES ($1, $2, $3, $4, 1)
        ON CONFLICT (article_id, hour, locale, slot) DO UPDATE SET views_count = v.views_count + 1
        """,
        article_id, _hour(now), locale, random.randrange(SLOTS),  # noqa: S311 - it only spreads writers
    )  # fmt: skip


async def vote(session: Session, *, article_id: UUID, voter: str, locale: str, helpful: bool, now: datetime) -> None:
    """Say whether an article helped: once for each voter, whose last word holds. Raises ArticleNotFound."""
    digest = hashlib.sha256(b"%b:%b" % (article_id.bytes, voter.encode("utf-8", "surrogatepass"))).digest()
    written = await session.execute(
        """
        INSERT INTO article_votes AS v (article_id, voter, locale, helpful, created_at)
        SELECT a.id, $2, $3, $4, $5 FROM articles a WHERE a.id = $1 AND a.status = 'published' FOR KEY SHARE
        ON CONFLICT (article_id, voter) DO UPDATE SET helpful = excluded.helpful
        """,
        article_id, digest, locale, helpful, now,
    )  # fmt: skip
    if not written:
        raise ArticleNotFound("No published article has this id.")


async def searches(
    session: Session,
    *,
    since: datetime | None,
    until: datetime | None,
    locale: str | None,
    source: Source | None,
    found: bool | None,
    after: tuple[int, str] | None,
    limit: int,
) -> list[SearchedWords]:
    """What was looked for in hours from `since` on and before `until`, what was asked most first.

    `found` leaves what always found nothing (False) or ever found something (True); `after` is the
    (searches_count, words) of one of them.
    """
    count, words = after or (None, None)
    rows = await session.fetch(
        """
        SELECT nullif(t.words, '') AS words, t.searches_count, t.found_count, t.last_hour FROM (
            SELECT s.words, sum(s.searches_count)::bigint AS searches_count, sum(s.found_count)::bigint AS found_count,
                max(s.hour) AS last_hour
            FROM article_searches s
            WHERE ($1::timestamptz IS NULL OR s.hour >= $1) AND ($2::timestamptz IS NULL OR s.hour < $2)
                AND ($3::text IS NULL OR s.locale = $3) AND ($4::text IS NULL OR s.source = $4)
            GROUP BY s.words
        ) t
        WHERE ($5::boolean IS NULL OR (t.found_count > 0) = $5)
            AND ($6::bigint IS NULL OR (-t.searches_count, t.words) > (-$6, $7::text))
        ORDER BY t.searches_count DESC, t.words LIMIT $8
        """,
        since, until, locale, source, found, count, words, limit,
    )  # fmt: skip
    return [SearchedWords(**dict(row)) for row in rows]


async def purge_searches(session: Session, *, older_than: datetime) -> int:
    """Forget the words of old searches; how often there was one stays. The number of rows that went."""
    return await session.execute(
        """
        WITH gone AS (
            DELETE FROM article_searches WHERE hour < $1 AND words <> ''
            RETURNING hour, source, locale, searches_count, found_count
        ), counted AS (
            INSERT INTO article_searches AS s (hour, source, locale, words, searches_count, found_count)
            SELECT hour, source, locale, '', sum(searches_count), sum(found_count) FROM gone GROUP BY 1, 2, 3
            ON CONFLICT (hour, source, locale, words) DO UPDATE SET
                searches_count = s.searches_count + excluded.searches_count,
                found_count = s.found_count + excluded.found_count
        )
        SELECT FROM gone
        """,
        older_than,
    )


def _hour(now: datetime) -> datetime:
    return now.replace(minute=0, second=0, microsecond=0)
