"""Agents: who works on cases, how many at once, and whose turn it is."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias

from asyncpg import Record
from sqlalchemy import BigInteger, Boolean, Column, Integer, Table, Text
from sqlalchemy.dialects.postgresql import JSONB

from crm.db import idempotency, writes
from crm.db.session import Session
from crm.db.tables import Instant, metadata
from crm.db.writes import Insert, Update
from crm.errors import Conflict, FieldError, Invalid, NotFound, Stale

agents = Table(
    "agents",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("capacity", Integer),
    Column("away", Boolean, nullable=False),
    Column("teams", JSONB, nullable=False),
    Column("skills", JSONB, nullable=False),
    Column("status", Text, nullable=False),
    Column("turn", BigInteger, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
)

Mode: TypeAlias = Literal["manual", "round_robin", "least_busy"]

AGENTS_MAX: Final = 1_000

_SHOWN: Final = ("id", "name", "capacity", "away", "teams", "skills", "status", "version", "created_at", "updated_at")
_SELECTED: Final = ", ".join(f"a.{name}" for name in _SHOWN)
_CASES: Final = """(
    SELECT count(*) FROM cases c WHERE c.assignee = a.id AND c.status IN ('open', 'waiting')
) AS cases_count"""
_TAKE_TURNS: Final = """
    UPDATE agents a SET turn = g.turn FROM unnest($1::text[], $2::bigint[]) AS g (id, turn) WHERE a.id = g.id
"""


class AgentNotFound(NotFound):
    code = "agent_not_found"
    title = "There is no such agent"


class AgentExists(Conflict):
    code = "agent_exists"
    title = "Another agent has this id"


class TooManyAgents(Conflict):
    code = "too_many_agents"
    title = "There are too many agents"


class UnknownAgent(Invalid):
    code = "unknown_agent"
    title = "Nobody with this id works on cases"


class AgentFull(Conflict):
    code = "agent_full"
    title = "The agent has as many cases as they can take"


class StaleAgent(Stale):
    title = "The agent has changed since you read them"


@dataclass(slots=True)
class Agent:
    """Who works on cases. `capacity` is how many open and waiting ones at most; without one there is no limit.

    Who is `away` is given none automatically. `cases_count` is how many they have now.
    """

    id: str
    name: str
    capacity: int | None
    away: bool
    teams: list[str]
    skills: list[str]
    status: Literal["active", "archived"]
    version: int
    created_at: datetime
    updated_at: datetime
    cases_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """Who should get a case: the `agent`, or one of a `team` who has all of the `skills`."""

    mode: Mode
    agent: str | None = None
    team: str | None = None
    skills: tuple[str, ...] = ()


@dataclass(slots=True)
class _Candidate:
    id: str
    capacity: int | None
    away: bool
    teams: frozenset[str]
    skills: frozenset[str]
    turn: int
    busy: int

    def has_room(self) -> bool:
        return self.capacity is None or self.busy < self.capacity

    def suits(self, wish: Wish) -> bool:
        if self.away or not self.has_room():
            return False
        if wish.mode == "manual":
            return wish.agent == self.id
        return (wish.team is None or wish.team in self.teams) and self.skills.issuperset(wish.skills)


async def create(
    session: Session,
    *,
    agent_id: str,
    name: str,
    capacity: int | None,
    away: bool,
    teams: Sequence[str],
    skills: Sequence[str],
    once: idempotency.Request | None = None,
    now: datetime,
) -> Agent:
    """Make an agent known. Raises AgentExists, TooManyAgents."""
    if await session.fetchval("SELECT count(*) FROM agents WHERE status = 'active'") >= AGENTS_MAX:
        raise TooManyAgents(f"{AGENTS_MAX} are kept at most; archive one who is gone.")
    agent = Agent(agent_id, name, capacity, away, list(teams), list(skills), "active", 1, now, now, 0)
    columns = (*_SHOWN, "turn")
    row = (*(getattr(agent, column) for column in _SHOWN), 0)
    there = await writes.write(session, [Insert(agents, columns, [row], on_conflict="DO NOTHING")])
    if there:
        raise AgentExists(f"'{agent_id}' works here already: change them.")
    await idempotency.keep(session, request=once, contact_id=None, result=agent, now=now)
    return agent


async def update(
    session: Session, *, agent_id: str, changes: Mapping[str, Any], version: int | None = None, now: datetime
) -> Agent:
    """Change an agent; what they have of cases stays theirs. Raises AgentNotFound, StaleAgent."""
    await session.execute("SELECT FROM agents WHERE id = $1 FOR NO KEY UPDATE", agent_id)
    agent = await get(session, agent_id=agent_id)
    if version is not None and version != agent.version:
        raise StaleAgent("Read them again, and send the new ETag in If-Match.", version=agent.version)
    if all(getattr(agent, name) == value for name, value in changes.items()):
        return agent
    for name, value in changes.items():
        setattr(agent, name, value)
    agent.version, agent.updated_at = agent.version + 1, now
    await writes.write(session, [Update(agents, _SHOWN, [tuple(getattr(agent, column) for column in _SHOWN)], 1)])
    return agent


async def get(session: Session, *, agent_id: str) -> Agent:
    """One agent. Raises AgentNotFound."""
    row = await session.fetchrow(f"SELECT {_SELECTED}, {_CASES} FROM agents a WHERE a.id = $1", agent_id)
    if row is None:
        raise AgentNotFound("No agent has this id.")
    return _view(row)


async def page(session: Session, *, after: str | None, limit: int) -> list[Agent]:
    """Agents by their ids, those behind `after`."""
    rows = await session.fetch(
        f"SELECT {_SELECTED}, {_CASES} FROM agents a WHERE $1::text IS NULL OR a.id > $1 ORDER BY a.id LIMIT $2",
        after, limit,
    )  # fmt: skip
    return [_view(row) for row in rows]


async def take(session: Session, *, agent_id: str, more: bool = True) -> None:
    """Give an agent a case in this transaction, away or not: one `more` that is live, or one at its end.

    Raises UnknownAgent, AgentFull.
    """
    found = await _locked(session, [agent_id])
    if not found:
        raise UnknownAgent(
            "POST /v1/agents makes them known.", errors=[FieldError("/assignee", "unknown_agent", "is no agent")]
        )
    if more and not found[0].has_room():
        raise AgentFull(f"'{agent_id}' has {found[0].busy} of {found[0].capacity}.", capacity=found[0].capacity)


async def choose_all(session: Session, *, wishes: Sequence[Wish | None]) -> list[str | None]:
    """Who gets each of several cases, in their order; None where nobody can, or nobody is wished for.

    Agents are locked until the end of the transaction, in one order: who is chosen elsewhere meanwhile counts. In turn
    means whoever waited longest; of the least busy too.
    """
    asked = [wish for wish in wishes if wish is not None]
    if not asked:
        return [None] * len(wishes)
    named = {wish.agent for wish in asked if wish.agent is not None} if _all_manual(asked) else None
    candidates = await _locked(session, named)
    before = {candidate.id: candidate.turn for candidate in candidates}
    turn = max(before.values(), default=0)
    chosen: list[str | None] = []
    for wish in wishes:
        suiting = [] if wish is None else [each for each in candidates if each.suits(wish)]
        if wish is None or not suiting:
            chosen.append(None)
            continue
        by_turn = wish.mode != "least_busy"
        agent = min(suiting, key=lambda each: (0 if by_turn else each.busy, each.turn, each.id))
        turn += 1
        agent.busy, agent.turn = agent.busy + 1, turn
        chosen.append(agent.id)
    turns = {each.id: each.turn for each in candidates if each.turn != before[each.id]}
    if turns:
        await session.execute(_TAKE_TURNS, list(turns), list(turns.values()))
    return chosen


def _all_manual(wishes: Collection[Wish]) -> bool:
    return all(wish.mode == "manual" for wish in wishes)


async def _locked(session: Session, ids: Collection[str] | None) -> list[_Candidate]:
    """Agents, locked in the order of their ids, and then how busy they are: nobody else can change that any more."""
    rows = await session.fetch(
        """
        SELECT id, capacity, away, teams, skills, turn FROM agents
        WHERE status = 'active' AND ($1::text[] IS NULL OR id = ANY ($1)) ORDER BY id FOR NO KEY UPDATE
        """,
        None if ids is None else list(ids),
    )
    counted = await session.fetch(
        """
        SELECT c.assignee, count(*) AS busy FROM cases c
        WHERE c.assignee = ANY ($1) AND c.status IN ('open', 'waiting') GROUP BY c.assignee
        """,
        [row["id"] for row in rows],
    )
    busy = Counter({row["assignee"]: row["busy"] for row in counted})
    return [
        _Candidate(
            row["id"], row["capacity"], row["away"], frozenset(row["teams"]), frozenset(row["skills"]), row["turn"],
            busy[row["id"]],
        )
        for row in rows
    ]  # fmt: skip


def _view(row: Record) -> Agent:
    return Agent(*row)
