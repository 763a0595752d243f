"""(d) Whether reading stays as fast when there is a hundred, or a thousand times as much."""

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks import history, stage
from benchmarks.footprint import probed
from benchmarks.rounds import Part, Ratio, Turn
from benchmarks.stage import OURS, Served, Stage

SIZES = (10**4, 10**6)
SIZES_QUICK = (10**4, 10**5)
SIZE_LARGE = 10**7
PER_MEMBER = 100
SLOWER_MAX = 1.2
REQUESTS = 4_000

ROUTES = {"balance": "/v1/contacts/{}/loyalty", "timeline page": "/v1/contacts/{}/timeline?limit=50"}


@asynccontextmanager
async def opened(at: Stage, console: Console, *, sizes: Sequence[int]) -> AsyncIterator[Part]:
    """Prepare a database and a server for each size for as long as the part takes its turns."""
    turns: dict[str, Turn] = {}
    buffers = Table(
        title="(d) Growth: pages per request", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD
    )
    for name in ("rows in each table", *ROUTES):
        buffers.add_column(name, justify="right")
    async with AsyncExitStack() as stack:
        grown: dict[int, tuple[Served, str]] = {}
        for size in sizes:
            dsn = await at.database(f"grown_{size}")
            shop = await history.open_shop(dsn)
            with console.status(f"making {size:,} entries"):
                await history.fill(dsn, program_id=shop.program_id, members=size // PER_MEMBER, entries=size)
            buffers.add_row(f"{size:,}", *[str(pages) for pages in await _pages(dsn, shop.token)])
            grown[size] = await stack.enter_async_context(stage.serving(at, OURS, dsn)), shop.token
        console.print(buffers)
        for route, path in ROUTES.items():
            for size, (served, token) in grown.items():
                turns[f"{route}, {size:,}"] = _turn(at, served, path, token, size // PER_MEMBER)
        await at.settled()
        first, *others = sizes
        figures = [
            Ratio(
                f"{route}: {first:,} rows ÷ {size:,} rows", f"{route}, {first:,}", f"{route}, {size:,}",
                at_most=SLOWER_MAX,
            )
            for route in ROUTES
            for size in others
        ]  # fmt: skip
        yield Part("(d) Growth", "reads", turns, figures)


def _turn(at: Stage, served: Served, path: str, token: str, members: int) -> Turn:
    chance = random.Random(4)
    requests = [
        {"method": "GET", "path": path.format(history.member(chance.randint(1, members))), "token": token}
        for _ in range(REQUESTS)
    ]
    return lambda: at.http(served, requests)


async def _pages(dsn: str, token: str) -> list[int]:
    async with probed(dsn, token) as probe:
        calls = [{"method": "GET", "url": path.format(history.member(7))} for path in ROUTES.values()]
        return [(await probe.least(lambda call=call: call)).buffers for call in calls]  # type: ignore[misc]
