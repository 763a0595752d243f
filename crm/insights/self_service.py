"""How far customers help themselves: from a search to an article that helped, and from a question to an answer."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from crm.db.session import Session

ARTICLES_MAX: Final = 50


@dataclass(slots=True)
class SearchNumbers:
    """Searches on the help pages and over the API; `found_rate` is in percent of them."""

    searches_count: int
    found_count: int
    found_rate: float | None


@dataclass(slots=True)
class ArticleNumbers:
    """How often articles were read, and whether they helped; `helpful_rate` is in percent of the votes."""

    views_count: int
    helpful_count: int
    unhelpful_count: int
    helpful_rate: float | None


@dataclass(slots=True)
class UsedArticle:
    """An article that was read, or judged, in the period."""

    article_id: UUID
    slug: str
    views_count: int
    helpful_count: int
    unhelpful_count: int


@dataclass(slots=True)
class AssistantNumbers:
    """Questions to the bot; `deflection_rate` is what was answered without people, in percent of all but courtesies."""

    questions_count: int
    answered_count: int
    courtesies_count: int
    refused_count: int
    handed_over_count: int
    by_model_count: int
    deflection_rate: float | None


@dataclass(slots=True)
class SelfServiceResults:
    """What customers found by themselves in a period. `most_read` are the articles that were read most."""

    searches: SearchNumbers
    articles: ArticleNumbers
    most_read: list[UsedArticle]
    assistant: AssistantNumbers


async def results(session: Session, *, since: datetime | None, until: datetime | None) -> SelfServiceResults:
    """What happened from `since` on and before `until`; views and searches are counted by the hour."""
    counted = await session.fetchrow(
        """
        SELECT s.*, a.* FROM (
            SELECT coalesce(sum(searches_count), 0)::bigint AS searches, coalesce(sum(found_count), 0)::bigint AS found
            FROM article_searches
            WHERE ($1::timestamptz IS NULL OR hour >= $1) AND ($2::timestamptz IS NULL OR hour < $2)
        ) s, (
            SELECT count(*) AS questions, count(*) FILTER (WHERE outcome = 'answered') AS answered,
                count(*) FILTER (WHERE intent IN ('greeting', 'thanks')) AS courtesies,
                count(*) FILTER (WHERE outcome = 'refused') AS refused,
                count(*) FILTER (WHERE outcome = 'handed_over') AS handed_over,
                count(*) FILTER (WHERE written_by = 'model') AS by_model
            FROM assistant_replies
            WHERE ($1::timestamptz IS NULL OR created_at >= $1) AND ($2::timestamptz IS NULL OR created_at < $2)
        ) a
        """,
        since, until,
    )  # fmt: skip
    rows = await session.fetch(
        """
        WITH used AS (
            SELECT coalesce(v.article_id, o.article_id) AS article_id, coalesce(v.views, 0) AS views,
                coalesce(o.helpful, 0) AS helpful, coalesce(o.unhelpful, 0) AS unhelpful
            FROM (
                SELECT article_id, sum(views_count)::bigint AS views FROM article_views
                WHERE ($1::timestamptz IS NULL OR hour >= $1) AND ($2::timestamptz IS NULL OR hour < $2)
                GROUP BY article_id
            ) v FULL JOIN (
                SELECT article_id, count(*) FILTER (WHERE helpful) AS helpful,
                    count(*) FILTER (WHERE NOT helpful) AS unhelpful
                FROM article_votes
                WHERE ($1::timestamptz IS NULL OR created_at >= $1) AND ($2::timestamptz IS NULL OR created_at < $2)
                GROUP BY article_id
            ) o ON o.article_id = v.article_id
        )
        SELECT u.article_id, a.slug, u.views, u.helpful, u.unhelpful, sum(u.views) OVER ()::bigint AS all_views,
            sum(u.helpful) OVER ()::bigint AS all_helpful, sum(u.unhelpful) OVER ()::bigint AS all_unhelpful
        FROM used u JOIN articles a ON a.id = u.article_id ORDER BY u.views DESC, u.article_id LIMIT $3
        """,
        since, until, ARTICLES_MAX,
    )  # fmt: skip
    assert counted is not None, "sums are there where there is nothing to sum"
    views, helpful, unhelpful = (rows[0][-3], rows[0][-2], rows[0][-1]) if rows else (0, 0, 0)
    asked = counted["questions"] - counted["courtesies"]
    return SelfServiceResults(
        SearchNumbers(counted["searches"], counted["found"], _rate(counted["found"], counted["searches"])),
        ArticleNumbers(views, helpful, unhelpful, _rate(helpful, helpful + unhelpful)),
        [UsedArticle(*tuple(row)[:5]) for row in rows],
        AssistantNumbers(
            counted["questions"], counted["answered"], counted["courtesies"], counted["refused"],
            counted["handed_over"], counted["by_model"], _rate(asked - counted["handed_over"], asked),
        ),
    )  # fmt: skip


def _rate(part: int, whole: int) -> float | None:
    return round(100 * part / whole, 1) if whole else None
