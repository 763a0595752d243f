"""What a survey comes to: scores by period, channel, agent, tier or segment."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, TypeAlias
from uuid import UUID

from crm.care import scores, surveys
from crm.care.scores import Kind, Score
from crm.db.session import Session

Aspect: TypeAlias = Literal["channel", "agent", "tier", "segment"]
GroupBy: TypeAlias = Literal["day", "week", "month", "channel", "agent", "tier", "segment"]


Counts: TypeAlias = dict[int | None, int]
"""How many gave each answer; None stands for those who gave none."""


@dataclass(frozen=True, slots=True)
class Grouping:
    """In SQL: what an invitation `i` is grouped by, and what has to be joined for it."""

    by: str
    joins: str = ""


_PERSON: Final = "LEFT JOIN contact_alias_directory k ON k.alias_id = i.contact_id"

ASPECTS: Final[Mapping[GroupBy, Grouping]] = {
    "channel": Grouping("i.channel"),
    "agent": Grouping("i.agent"),
    # As it is now, in the default program.
    "tier": Grouping(
        "g.name",
        f"""
        {_PERSON} LEFT JOIN (
            SELECT a.contact_id, t.name FROM loyalty_accounts a JOIN programs p ON p.id = a.program_id AND p.is_default
            JOIN tiers t ON t.program_id = a.program_id AND t.id = a.tier_id
        ) g ON g.contact_id = coalesce(k.contact_id, i.contact_id)
        """,
    ),
    # As they are now; whoever is in several is counted in each.
    "segment": Grouping(
        "g.name",
        f"""
        {_PERSON} LEFT JOIN (
            SELECT m.contact_id, s.name FROM segment_members m
            JOIN segments s ON s.id = m.segment_id AND s.archived_at IS NULL
        ) g ON g.contact_id = coalesce(k.contact_id, i.contact_id)
        """,
    ),
}
_ZONE: Final = """
    CROSS JOIN (SELECT coalesce((SELECT p.time_zone FROM programs p WHERE p.is_default), 'UTC') AS name) z
"""
_GROUPS: Final[Mapping[GroupBy, Grouping]] = {
    "day": Grouping("to_char(i.created_at AT TIME ZONE z.name, 'YYYY-MM-DD')", _ZONE),
    "week": Grouping("to_char(i.created_at AT TIME ZONE z.name, 'IYYY-\"W\"IW')", _ZONE),
    "month": Grouping("to_char(i.created_at AT TIME ZONE z.name, 'YYYY-MM')", _ZONE),
    **ASPECTS,
}
_UNGROUPED: Final = Grouping("NULL::text")


@dataclass(slots=True)
class SurveyResult:
    """What those who were asked in a period said. `group` is null for those of whom nothing is known in that respect.

    `response_rate` is the answered part of the invitations, in percent.
    """

    group: str | None
    invitations: int
    response_rate: float | None
    score: Score


@dataclass(slots=True)
class SurveyResults:
    """A survey's results; `total` is all groups together."""

    survey_id: UUID
    kind: Kind
    total: SurveyResult
    groups: list[SurveyResult]


async def results(
    session: Session,
    *,
    survey_id: UUID,
    since: datetime | None,
    until: datetime | None,
    group_by: GroupBy | None,
) -> SurveyResults:
    """What those said who were invited from `since` on and before `until`. Raises SurveyNotFound.

    Days, weeks (ISO 8601) and months are those of the default program's time zone, or else of UTC.
    """
    survey = await surveys.get(session, survey_id=survey_id)
    grouping = _GROUPS[group_by] if group_by is not None else _UNGROUPED
    rows = await session.fetch(
        f"""
        WITH asked AS MATERIALIZED (
            SELECT i.contact_id, i.created_at, i.channel, i.agent, i.score FROM survey_invitations i
            WHERE i.survey_id = $1 AND ($2::timestamptz IS NULL OR i.created_at >= $2)
                AND ($3::timestamptz IS NULL OR i.created_at < $3)
        )
        SELECT true AS is_total, NULL AS of, i.score, count(*) AS count FROM asked i GROUP BY i.score
        UNION ALL
        (SELECT false, {grouping.by} AS of, i.score, count(*) FROM asked i {grouping.joins}
        GROUP BY 2, 3 ORDER BY 2 NULLS LAST)
        """,
        survey_id, since, until,
    )  # fmt: skip
    groups: dict[str | None, Counts] = {}
    whole: Counts = {}
    for is_total, of, value, count in rows:
        (whole if is_total else groups.setdefault(of, {}))[value] = count
    found = [_result(survey.kind, of, counts) for of, counts in groups.items()] if group_by is not None else []
    return SurveyResults(survey_id, survey.kind, _result(survey.kind, None, whole), found)


def summed(kind: Kind, counts: Counts) -> tuple[int, float | None, Score]:
    """What so many invitations with each answer, or none, come to: how many, the response rate, and the score."""
    invitations = sum(counts.values())
    said = {value: count for value, count in counts.items() if value is not None}
    rate = round(100 * sum(said.values()) / invitations, 1) if invitations else None
    return invitations, rate, scores.score(kind, said)


def _result(kind: Kind, group: str | None, counts: Counts) -> SurveyResult:
    return SurveyResult(group, *summed(kind, counts))
