"""How often something happened with a contact: what the `did` of a condition asks, counted where the timeline is."""

from collections.abc import Collection
from datetime import UTC, datetime, tzinfo
from typing import Any, Final, NoReturn, TypeAlias
from uuid import UUID

import msgspec

from crm.contacts import aliases, conditions, predicates
from crm.contacts.conditions import Did, Facts
from crm.contacts.durations import Duration
from crm.contacts.predicates import Bind
from crm.db.session import Session
from crm.interactions.timeline import Interaction

Moment: TypeAlias = tuple[UUID, datetime]
"""A contact, and the time that is asked about, in UTC."""

_NEVER: Final = datetime.min.replace(tzinfo=UTC)
_BOUNDS: Final = {"eq": "=", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


async def count(
    session: Session, *, histories: Collection[Did], moments: Collection[Moment], zone: tzinfo
) -> dict[Moment, dict[Did, int]]:
    """How often each history had happened at each of the moments, in one query; no further than makes a difference.

    Days and months of `within` are those of the zone's calendar.
    """
    asked, at = list(histories), list(moments)
    if not asked or not at:
        return {moment: {} for moment in at}
    args: list[Any] = [[contact_id for contact_id, _ in at], [moment for _, moment in at]]
    bind = predicates.bound_to(args)
    columns = []
    since: dict[str, str] = {}
    for number, history in enumerate(asked):
        start = None
        if history.within is not None:
            start = f"m.since{number}"
            since[start] = bind([_since(history.within, moment, zone) for _, moment in at], "timestamptz[]")
        found = _found(history, bind, contact="m.contact_id", until="m.at", since=start)
        columns.append(_counted(history, bind, found))
    rows = await session.fetch(
        f"""
        SELECT {", ".join(columns)}
        FROM unnest({", ".join(["$1::uuid[]", "$2::timestamptz[]", *since.values()])}) WITH ORDINALITY
            AS m ({", ".join(["contact_id", "at", *(name.removeprefix("m.") for name in since), "number"])})
        ORDER BY m.number
        """,
        *args,
    )
    return {moment: dict(zip(asked, row, strict=True)) for moment, row in zip(at, rows, strict=True)}


def predicate(history: Did, *, bind: Bind, now: datetime) -> str:
    """Whether it happened so often with a contact `c`, up to `now` and by its calendar; as a part of a WHERE."""
    start = None
    if history.within is not None:
        start = bind(history.within.before(now).astimezone(UTC), "timestamptz")
    found = _found(history, bind, contact="c.id", until=bind(now.astimezone(UTC), "timestamptz"), since=start)
    if history.count == (("gte", 1),):
        return f"EXISTS ({found})"
    counted = _counted(history, bind, found)
    return f"({' AND '.join(f'{counted} {_BOUNDS[op]} {number}' for op, number in history.count)})"


def would_count(history: Did, interaction: Interaction, *, at: datetime, zone: tzinfo) -> bool:
    """Whether an interaction of the same contact would be counted at that time, were it on the timeline."""
    if interaction.kind != history.kind or interaction.occurred_at > at:
        return False
    if history.within is not None and interaction.occurred_at < _since(history.within, at, zone):
        return False
    return history.where is None or conditions.holds(history.where, facts_of(interaction), now=at)


def facts_of(interaction: Interaction) -> Facts:
    """An interaction as a condition in `where` sees it, its data as JSON has them."""
    data = {f"data.{key}": value for key, value in msgspec.to_builtins(interaction.data).items()}
    about = {"channel": interaction.channel, "direction": interaction.direction, "kind": interaction.kind}
    return Facts(about | data)


def _since(within: Duration, at: datetime, zone: tzinfo) -> datetime:
    return within.before(at.astimezone(zone)).astimezone(UTC)


def _found(history: Did, bind: Bind, *, contact: str, until: str, since: str | None) -> str:
    """A SELECT of the interactions that a history is about, under whichever of its ids they happened with a contact."""
    clauses = ["i.contact_id = k.id", f"i.kind = {bind(history.kind, 'text')}", f"i.occurred_at <= {until}"]
    if since is not None:
        clauses.append(f"i.occurred_at >= {since}")
    if history.where is not None:
        # No field of an interaction is relative to today.
        clauses.append(predicates.predicate(history.where, bind=bind, now=_NEVER, history=_none_within))
    # With an OFFSET one id is asked after the other: else all timelines might be read for a few of them.
    return f"""
        SELECT FROM {aliases.known_as(contact)} k CROSS JOIN LATERAL (
            SELECT FROM interactions i WHERE {" AND ".join(clauses)} OFFSET 0
        ) i
    """


def _counted(history: Did, bind: Bind, found: str) -> str:
    return f"(SELECT count(*) FROM ({found} LIMIT {bind(history.enough, 'int')}) found)"


def _none_within(_: Did) -> NoReturn:
    raise AssertionError("there is no history within a history")
