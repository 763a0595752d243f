"""Lists of cases: the queue of what is due first, what is newest, and how many there are of which."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias
from uuid import UUID

from crm.care import case_files
from crm.care.case_files import SELECTED
from crm.care.casework import Case, Priority, Status
from crm.contacts import aliases
from crm.db.session import Session

Sort: TypeAlias = Literal["due_at", "-created_at"]
Shown: TypeAlias = Literal["open", "waiting", "resolved", "closed", "all"]

NOBODY: Final = ""
"""Stands for no assignee in a filter."""
ASSIGNEES_MAX: Final = 200
_DUE: Final = "coalesce(c.due_at, 'infinity')"
_ALIASES: Final = f"LATERAL {aliases.known_as('w.id')}"
_LIVE: Final = "c.status IN ('open', 'waiting')"


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which cases are asked for. Without a status, those that are open or waiting; `assignee` may be `NOBODY`."""

    status: Shown | None = None
    assignee: str | None = None
    priority: Priority | None = None
    category: str | None = None
    channel: str | None = None
    contact_id: UUID | None = None
    breached: bool | None = None

    def clauses(self, args: list[Any]) -> list[str]:
        """What stands behind WHERE, with its arguments added to `args`."""
        clauses = ["c.subject IS NOT NULL"]
        if self.status is None:
            clauses.append(_LIVE)
        elif self.status != "all":
            clauses.append(f"c.status = '{self.status}'")
        if self.assignee == NOBODY:
            clauses.append("c.assignee IS NULL")
        if self.breached is not None:
            clauses.append("c.breach_count > 0" if self.breached else "c.breach_count = 0")
        named: Mapping[str, str | None] = {
            "assignee": self.assignee or None, "priority": self.priority, "category": self.category,
            "channel": self.channel,
        }  # fmt: skip
        for name, value in named.items():
            if value is not None:
                args.append(value)
                clauses.append(f"c.{name} = ${len(args)}")
        if self.contact_id is not None:
            args.append(self.contact_id)
            given = f"${len(args)}::uuid"
            who = f"coalesce((SELECT contact_id FROM contact_alias_directory WHERE alias_id = {given}), {given})"
            clauses.append(f"c.contact_id IN (SELECT k.id FROM (SELECT {who} AS id) w, {_ALIASES} k)")
        return clauses


@dataclass(slots=True)
class AssigneeCount:
    """How many cases somebody has; nobody has those without an assignee."""

    assignee: str | None
    count: int


@dataclass(slots=True)
class CaseCounts:
    """How many cases there are: all that were asked for, those `overdue` now, and of each kind."""

    total: int
    overdue: int
    breached: int
    unassigned: int
    by_status: dict[Status, int]
    by_priority: dict[Priority, int]
    by_assignee: list[AssigneeCount]


async def page(
    session: Session, *, asked: Filter, sort: Sort = "due_at", after: tuple[datetime | None, UUID] | None, limit: int
) -> list[Case]:
    """Cases, what is due first before the others and what is not due last; or the newest first.

    Those behind the (due_at, id) of `after`.
    """
    args: list[Any] = [limit]
    clauses = asked.clauses(args)
    if after is not None and sort == "due_at":
        args += after
        clauses.append(f"({_DUE}, c.id) > (coalesce(${len(args) - 1}::timestamptz, 'infinity'), ${len(args)})")
    elif after is not None:
        args.append(after[1])
        clauses.append(f"c.id < ${len(args)}")
    order = f"{_DUE}, c.id" if sort == "due_at" else "c.id DESC"
    rows = await session.fetch(
        f"SELECT {SELECTED} FROM cases c WHERE {' AND '.join(clauses)} ORDER BY {order} LIMIT $1", *args
    )
    return await case_files.shown(session, rows=rows)


async def count(session: Session, *, asked: Filter, now: datetime) -> CaseCounts:
    """How many they are."""
    args: list[Any] = [now]
    rows = await session.fetch(
        f"""
        SELECT c.status, c.priority, c.assignee, count(*) AS cases,
            count(*) FILTER (WHERE c.due_at < $1 AND {_LIVE}) AS overdue,
            count(*) FILTER (WHERE c.breach_count > 0) AS breached
        FROM cases c WHERE {" AND ".join(asked.clauses(args))} GROUP BY c.status, c.priority, c.assignee
        """,
        *args,
    )
    by_status: dict[Status, int] = {}
    by_priority: dict[Priority, int] = {}
    by_assignee: dict[str | None, int] = {}
    for row in rows:
        by_status[row["status"]] = by_status.get(row["status"], 0) + row["cases"]
        by_priority[row["priority"]] = by_priority.get(row["priority"], 0) + row["cases"]
        by_assignee[row["assignee"]] = by_assignee.get(row["assignee"], 0) + row["cases"]
    busiest = sorted(by_assignee.items(), key=lambda item: (-item[1], item[0] or ""))[:ASSIGNEES_MAX]
    return CaseCounts(
        sum(row["cases"] for row in rows), sum(row["overdue"] for row in rows), sum(row["breached"] for row in rows),
        by_assignee.get(None, 0), by_status, by_priority, [AssigneeCount(*each) for each in busiest],
    )  # fmt: skip
