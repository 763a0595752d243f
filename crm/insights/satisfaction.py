"""What surveys come to: scores by period, channel, agent, tier or segment."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, TypeAlias
from uuid import UUID

from crm.care import scores, surveys
from crm.care.scores import Kind, Score
from crm.db.session import Session

GroupBy: TypeAlias = Literal["day", "week", "month", "channel", "agent", "tier"]

_GROUPS: Final[Mapping[GroupBy, str]] = {
    "day": "to_char(i.created_at AT TIME ZONE z.name, 'YYYY-MM-DD')",
    "week": "to_char(i.created_at AT TIME ZONE z.name, 'IYYY-\"W\"IW')",
    "month": "to_char(i.created_at AT TIME ZONE z.name, 'YYYY-MM')",
    "channel": "i.channel",
    "agent": "i.agent",
    # As it is now, in the default program.
    "tier": """(
        SELECT t.name FROM loyalty_accounts a JOIN programs p ON p.id = a.program_id AND p.is_default
        JOIN tiers t ON t.program_id = a.program_id AND t.id = a.tier_id
        WHERE a.contact_id = coalesce(
            (SELECT k.contact_id FROM contact_alias_directory k WHERE k.alias_id = i.contact_id), i.contact_id
        )
    )""",
}


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
    group = _GROUPS[group_by] if group_by is not None else "NULL::text"
    rows = await session.fetch(
        f"""
        SELECT {group} AS of, i.score, count(*) AS count
        FROM survey_invitations i
        CROSS JOIN (
            SELECT coalesce((SELECT p.time_zone FROM programs p WHERE p.is_default), 'UTC') AS name
        ) z
        WHERE i.survey_id = $1 AND ($2::timestamptz IS NULL OR i.created_at >= $2)
            AND ($3::timestamptz IS NULL OR i.created_at < $3)
        GROUP BY 1, 2 ORDER BY 1 NULLS LAST
        """,
        survey_id, since, until,
    )  # fmt: skip
    groups: dict[str | None, dict[int | None, int]] = {}
    whole: dict[int | None, int] = defaultdict(int)
    for of, value, count in rows:
        groups.setdefault(of, {})[value] = count
        whole[value] += count
    found = [_result(survey.kind, of, counts) for of, counts in groups.items()] if group_by is not None else []
    return SurveyResults(survey_id, survey.kind, _result(survey.kind, None, whole), found)


def _result(kind: Kind, group: str | None, counts: Mapping[int | None, int]) -> SurveyResult:
    invitations = sum(counts.values())
    said = {value: count for value, count in counts.items() if value is not None}
    rate = round(100 * sum(said.values()) / invitations, 1) if invitations else None
    return SurveyResult(group, invitations, rate, scores.score(kind, said))
