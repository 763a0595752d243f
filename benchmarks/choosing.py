"""(e) Choosing among contacts: conditions against the SQL that somebody would write, and segments of everybody."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final

from benchmarks import crowd, history
from benchmarks.rounds import Part, Rate, Ratio, Sample, Turn
from benchmarks.stage import Stage
from crm.contacts import segments
from crm.contacts.segments import Definition
from crm.db.ids import uuid7
from crm.db.session import Database
from crm.interactions import segmentation, selections
from crm.loyalty.vocabulary import VOCABULARY

CONTACTS, CONTACTS_QUICK = 100_000, 20_000
INTERACTIONS = 10
"""Of each contact."""

_VIP: Final = {"field": "tags", "op": "contains", "value": "vip"}
_STORE: Final = {"field": "attributes.store", "op": "eq", "value": "S7"}
_RICH: Final = {"field": "points.available", "op": "gte", "value": 1_000}
_OFTEN: Final = {"did": "purchase", "count": {"gte": 3}, "within": "P90D"}
_LATELY: Final = {"did": "purchase", "within": "P90D"}

_LATE: Final = """
    SELECT count(*) FROM interactions i
    WHERE i.contact_id = c.id AND i.kind = 'purchase' AND i.occurred_at BETWEEN now() - interval '90 days' AND now()
"""
CONDITIONS: Final[dict[str, tuple[Any, str]]] = {
    "a tag": (_VIP, "SELECT count(*) FROM contacts c JOIN contact_tags t ON t.contact_id = c.id AND t.tag = 'vip'"),
    "an attribute": (_STORE, """SELECT count(*) FROM contacts WHERE attributes @> '{"store": "S7"}'"""),
    "a balance": (
        _RICH,
        "SELECT count(*) FROM contacts c JOIN loyalty_accounts a ON a.contact_id = c.id AND a.available >= 1000",
    ),
    "three purchases in 90 days": (_OFTEN, f"SELECT count(*) FROM contacts c WHERE ({_LATE}) >= 3"),
    "vip, rich, away for 90 days": (
        {"all": [_VIP, _RICH, {"not": _LATELY}]},
        f"""
        SELECT count(*) FROM contacts c JOIN contact_tags t ON t.contact_id = c.id AND t.tag = 'vip'
        JOIN loyalty_accounts a ON a.contact_id = c.id AND a.available >= 1000
        WHERE NOT EXISTS ({_LATE.replace("count(*)", "")})
        """,
    ),
}  # fmt: skip
"""Each condition, and what somebody would write who knows the tables and this one shop."""

FIGURES: Final = (
    Rate("contacts looked at, where nobody enters or leaves", "evaluation, nothing new", at_least=50_000),
    Rate("contacts that enter, with their timelines", "evaluation, everybody enters", at_least=10_000),
    *(Ratio(f"{name}: condition ÷ SQL by hand", f"{name}: condition", f"{name}: by hand") for name in CONDITIONS),
)


@asynccontextmanager
async def opened(at: Stage, *, quick: bool) -> AsyncIterator[Part]:
    """Prepare a crowd for as long as the part takes its turns."""
    contacts = CONTACTS_QUICK if quick else CONTACTS
    dsn = await at.database("crowd")
    shop = await history.open_shop(dsn)
    await crowd.fill(dsn, program_id=shop.program_id, contacts=contacts, interactions=INTERACTIONS)
    database = await Database.connect(dsn, size_max=1)
    known = await _segment(database, CONDITIONS["vip, rich, away for 90 days"][0])
    await _evaluate(database, known)

    async def again() -> None:
        async with database.begin() as session:
            await segments.request(session, segment_id=known, now=datetime.now(UTC))
        await _evaluate(database, known)

    async def anew() -> None:
        segment_id = await _segment(database, {"field": "name", "op": "exists"})
        await _evaluate(database, segment_id)
        async with database.begin() as session:
            await segments.archive(session, segment_id=segment_id, now=datetime.now(UTC))

    turns: dict[str, Turn] = {
        "evaluation, nothing new": lambda: _once(at, again, contacts),
        "evaluation, everybody enters": lambda: _once(at, anew, contacts),
    }
    for name, (condition, by_hand) in CONDITIONS.items():
        turns[f"{name}: condition"] = _turn(at, _counting(database, condition))
        turns[f"{name}: by hand"] = _turn(at, _running(database, by_hand))
    await at.settled()
    yield Part("(e) Choosing", "contacts or queries", turns, FIGURES)
    await database.close()


async def _once(at: Stage, operation: Callable[[], Awaitable[None]], each: int) -> Sample:
    """One run of what may take longer than a turn."""
    python, postgres, started = time.process_time(), at.postgres_seconds(), time.perf_counter()
    await operation()
    seconds = time.perf_counter() - started
    python, postgres = time.process_time() - python, at.postgres_seconds() - postgres
    return Sample(each / seconds, None, python / each * 1e6, postgres / each * 1e6)


def _turn(at: Stage, operation: Callable[[], Awaitable[None]]) -> Turn:
    return lambda: at.direct(operation, clients=1)


def _counting(database: Database, condition: Any) -> Callable[[], Awaitable[None]]:
    async def run() -> None:
        async with database.begin() as session:
            selection = await selections.select(
                session, vocabulary=VOCABULARY, condition=VOCABULARY.condition_of(condition), program_id=None,
                now=datetime.now(UTC),
            )  # fmt: skip
            await selections.count(session, selection=selection)

    return run


def _running(database: Database, query: str) -> Callable[[], Awaitable[None]]:
    async def run() -> None:
        async with database.begin() as session:
            await session.fetchval(query)

    return run


async def _segment(database: Database, condition: Any) -> Any:
    definition = Definition(name=str(uuid7()), condition=condition)
    async with database.begin() as session:
        made = await segments.create(
            session, vocabulary=VOCABULARY, definition=definition, by="bench", now=datetime.now(UTC)
        )
    return made.id


async def _evaluate(database: Database, segment_id: Any) -> None:
    going_on = True
    while going_on:
        async with database.begin() as session:
            going_on = await segmentation.advance(
                session, vocabulary=VOCABULARY, segment_id=segment_id, now=datetime.now(UTC)
            )
