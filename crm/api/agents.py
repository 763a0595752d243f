"""`/v1/agents`: who works on cases, how many at once, and in which teams."""

from datetime import datetime
from typing import Annotated, Any, Literal

from litestar import Response
from litestar.params import FromPath
from pydantic import Field

from crm.api import paging
from crm.api.cases import AgentId, Names
from crm.api.etags import IfMatch, etag, version_of
from crm.api.paging import Cursor, Limit, Page
from crm.api.routes import get, patch, post
from crm.api.schemas import Body, Line, Patch
from crm.care import agents
from crm.care.agents import Agent, AgentExists, AgentNotFound, StaleAgent, TooManyAgents
from crm.db import idempotency
from crm.db.session import Session

CAPACITY_MAX = 10_000
Capacity = Annotated[int, Field(ge=0, le=CAPACITY_MAX, description="How many open and waiting cases at most.")]


class NewAgent(Body):
    """Somebody who works on cases. Without a `capacity` there is no limit."""

    id: AgentId
    name: Line
    capacity: Capacity | None = None
    away: bool = False
    teams: Annotated[Names, Field(default_factory=list)]
    skills: Annotated[Names, Field(default_factory=list)]


class AgentPatch(Patch):
    """What can change. Who is away or archived keeps the cases that they have."""

    name: Line | None = None
    capacity: Capacity | None = None
    away: bool | None = None
    teams: Names | None = None
    skills: Names | None = None
    status: Literal["active", "archived"] | None = None

    not_nullable = frozenset({"name", "away", "teams", "skills", "status"})


@post("/agents", scopes={"care:write"}, problems=(AgentExists, TooManyAgents), headers=("ETag", "Location"))
async def create_agent(
    session: Session, data: NewAgent, now: datetime, once: idempotency.Request | None
) -> Response[Agent]:
    """Make an agent known."""
    await idempotency.begin(session, request=once)
    agent = await agents.create(
        session, agent_id=data.id, name=data.name, capacity=data.capacity, away=data.away, teams=data.teams,
        skills=data.skills, once=once, now=now,
    )  # fmt: skip
    return Response(agent, headers=etag(agent.version) | {"Location": f"/v1/agents/{agent.id}"})


@get("/agents", scopes={"care:read"})
async def list_agents(session: Session, cursor: Cursor = None, limit: Limit = 50) -> Page[Agent]:
    """List agents by their ids."""
    after = paging.decode(cursor, str)
    found = await agents.page(session, after=after[0] if after else None, limit=limit + 1)
    return paging.page_of(found, limit=limit, key=lambda agent: (agent.id,))


@get("/agents/{agent_id:str}", scopes={"care:read"}, problems=(AgentNotFound,), headers=("ETag",))
async def get_agent(session: Session, agent_id: FromPath[str]) -> Response[Agent]:
    """Read an agent."""
    agent = await agents.get(session, agent_id=agent_id)
    return Response(agent, headers=etag(agent.version))


@patch("/agents/{agent_id:str}", scopes={"care:write"}, problems=(AgentNotFound, StaleAgent), headers=("ETag",))
async def update_agent(
    session: Session, agent_id: FromPath[str], data: AgentPatch, now: datetime, if_match: IfMatch = None
) -> Response[Agent]:
    """Change an agent, or say that they are away."""
    changes: dict[str, Any] = {name: getattr(data, name) for name in data.model_fields_set}
    agent = await agents.update(session, agent_id=agent_id, changes=changes, version=version_of(if_match), now=now)
    return Response(agent, headers=etag(agent.version))


handlers = [create_agent, list_agents, get_agent, update_agent]
