"""(b) What reading a balance costs over HTTP, against a handler that does nothing else than one SELECT."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks import history, stage
from benchmarks.rounds import Part, Ratio
from benchmarks.stage import BARE, OURS, Stage

MEMBERS = 1_000
ENTRIES = 100_000

FIGURES = (Ratio("balance over HTTP ÷ bare HTTP handler, one SELECT", "HTTP balance", "HTTP bare", at_least=0.7),)


@asynccontextmanager
async def opened(at: Stage) -> AsyncIterator[Part]:
    """Prepare tables and servers for as long as the part takes its turns."""
    dsn = await at.database("reads")
    shop = await history.open_shop(dsn)
    await history.fill(dsn, program_id=shop.program_id, members=MEMBERS, entries=ENTRIES)
    members = [history.member(number) for number in range(1, MEMBERS + 1)]
    balances = [{"method": "GET", "path": f"/v1/contacts/{one}/loyalty", "token": shop.token} for one in members]
    selects = [{"method": "GET", "path": f"/contacts/{one}/balance"} for one in members]
    async with stage.serving(at, OURS, dsn) as ours, stage.serving(at, BARE, dsn) as theirs:
        await at.settled()
        yield Part(
            "(b) Balance", "reads",
            {"HTTP bare": lambda: at.http(theirs, selects), "HTTP balance": lambda: at.http(ours, balances)},
            FIGURES,
        )  # fmt: skip
