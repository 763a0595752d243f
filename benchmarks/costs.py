"""What the core routes cost, counted: the same on every machine."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks import history
from benchmarks.footprint import Call, Footprint, Probe, probed
from benchmarks.stage import Stage

MEMBERS = 1_000
ENTRIES = 100_000
EXPIRES_AT = "2099-01-01T00:00:00Z"
AWARDS = 200
AWARDED = 20

_numbers: Final = itertools.count(1)


def _contact() -> str:
    """Somebody else each time."""
    return f"/v1/contacts/{history.member(next(_numbers) * 7 % MEMBERS + 1)}"


def _get(path: str) -> Call:
    return {"method": "GET", "url": _contact() + path}


def _post(path: str, **body: Any) -> Call:
    return {"method": "POST", "url": _contact() + path, "json": body}


def _award() -> Call:
    return _post("/points-awards", points=5, reason="goodwill")


def _award_with_key() -> Call:
    return {**_award(), "headers": {"Idempotency-Key": f"bench-{next(_numbers)}"}}


def _award_with_end() -> Call:
    return _post("/points-awards", points=5, reason="goodwill", expires_at=EXPIRES_AT)


def _purchase() -> Call:
    return _post(
        "/purchases", order_ref=f"N-{next(_numbers)}", occurred_at="2025-03-04T10:00:00Z", currency="USD", total="9.50"
    )


def _redemption() -> Call:
    return _post("/redemptions", points=1)


ROUTES: Final[dict[str, Callable[[], Call]]] = {
    "award": _award,
    "award with an Idempotency-Key": _award_with_key,
    "award with an end": _award_with_end,
    "purchase": _purchase,
    "redemption": _redemption,
    "balance": lambda: _get("/loyalty"),
    "timeline page": lambda: _get("/timeline?limit=50"),
    "contact by id": lambda: _get(""),
}


async def awards(probe: Probe) -> Footprint:
    """Many awards to few members, half of them with an end, on pages that have been written to and split before."""
    for _ in range(3):
        await probe.footprint(_awards())
    return await probe.footprint(_awards())


def _awards() -> Iterator[Call]:
    for number in range(AWARDS):
        contact = f"/v1/contacts/{history.member(1 + number % AWARDED * (MEMBERS // AWARDED))}"
        end = {"expires_at": EXPIRES_AT} if number % 2 else {}
        yield {"method": "POST", "url": f"{contact}/points-awards", "json": {"points": 5, "reason": "goodwill", **end}}


async def show(at: Stage, console: Console) -> None:
    """Print it."""
    dsn = await at.database("costs")
    shop = await history.open_shop(dsn)
    with console.status(f"making {ENTRIES:,} entries"):
        await history.fill(dsn, program_id=shop.program_id, members=MEMBERS, entries=ENTRIES, whole=True)
    table = Table(
        title=f"What a request costs, with {ENTRIES:,} entries", title_justify="left", title_style="bold",
        box=box.SIMPLE_HEAD,
    )  # fmt: skip
    for name in ("", "statements", "of them BEGIN, COMMIT", "pages", "tables read whole"):
        table.add_column(name, justify="right" if name else "left")
    async with probed(dsn, shop.token) as probe:
        for name, call in ROUTES.items():
            found = await probe.least(call)
            frame = sum(statement in {"BEGIN", "COMMIT"} for statement in found.statements)
            table.add_row(
                name, str(len(found.statements)), str(frame), str(found.buffers), ", ".join(found.scanned) or "none"
            )
        many = await awards(probe)
    console.print(table)
    console.print(
        f"  An award writes {many.wal_bytes / AWARDS:,.0f} bytes of WAL, with {many.wal_pages} whole pages in {AWARDS} "
        f"awards; {many.hot_ratio('loyalty_accounts'):.0%} of the updates of accounts touch no index.\n"
    )
