"""A ledger on which anything has been played: random posts by the verbs themselves, or random movements put in raw."""

import asyncio
from collections import Counter
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

import asyncpg
from hypothesis import strategies as st

from crm.db.ids import uuid7
from crm.db.session import Session, prepare
from crm.errors import CrmError
from crm.loyalty import journal, ledger, programs, purchases, redemptions, rules
from crm.loyalty.basket import Purchase
from crm.loyalty.ledger import Award
from crm.loyalty.movements import BUCKETS
from crm.loyalty.purchases import Bought
from tests.loyalty.story import PER_1000

START = datetime(2026, 10, 20, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)

hours = st.integers(0, 300).map(lambda number: number * HOUR)


@dataclass(frozen=True, slots=True)
class Post:
    """One thing that happens, `after` the one before; what does not apply to its kind is left aside."""

    kind: Literal["award", "purchase", "redeem", "reverse", "adjust"]
    who: int
    points: int
    after: timedelta
    happened: timedelta | None
    activates: timedelta | None
    expires: timedelta | None


posts = st.lists(
    st.builds(
        Post,
        kind=st.sampled_from(["award", "award", "award", "purchase", "redeem", "redeem", "reverse", "adjust"]),
        who=st.sampled_from([0, 0, 1]),
        points=st.integers(1, 50),
        after=hours,
        happened=st.none() | st.integers(-400, 20).map(lambda number: number * HOUR),
        activates=st.none() | hours,
        expires=st.none() | hours,
    ),
    max_size=16,
)


@dataclass(frozen=True, slots=True)
class Move:
    """A movement as no verb would make it, but as the tables allow."""

    who: int
    transaction: int
    lot: int
    source: str
    target: str
    points: int
    hour: int


buckets = st.sampled_from(BUCKETS)
moves = st.lists(
    st.builds(
        Move, who=st.integers(0, 1), transaction=st.integers(0, 5), lot=st.integers(0, 5), source=buckets,
        target=buckets, points=st.integers(1, 100), hour=st.integers(0, 24 * 80),
    ).filter(lambda move: move.source != move.target),
    max_size=30,
)  # fmt: skip


class Table:
    """A program and two members in one transaction that is never committed, on an event loop of its own."""

    def __init__(self, dsn: str) -> None:
        self._runner = asyncio.Runner()
        self._connection = self.run(asyncpg.connect(dsn))
        self.session = Session(self._connection)
        self.now = START
        self.run(self._set_up())

    async def _set_up(self) -> None:
        await prepare(self._connection)
        await self._connection.execute("BEGIN")
        program = await programs.create(
            self.session, name="Kopi", currency="IDR", time_zone="Asia/Jakarta", default=True, settings={}, now=START
        )
        self.program_id = program.id
        await rules.create(self.session, program_id=program.id, definition=PER_1000, now=START)
        self.people = sorted([uuid7(), uuid7()])
        for contact_id in self.people:
            await self.session.execute(
                "INSERT INTO contacts (id, name, created_at, updated_at) VALUES ($1, 'Sari', now(), now())", contact_id
            )
        await self._connection.execute("SAVEPOINT start")

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(coroutine)

    def close(self) -> None:
        self.run(self._connection.close())
        self._runner.close()

    def play(self, played: list[Post]) -> None:
        """From the beginning: what the ledger refuses does not happen."""
        self.run(self._connection.execute("ROLLBACK TO SAVEPOINT start"))
        self.now = START
        redeemed: list[tuple[UUID, UUID]] = []
        for number, post in enumerate(played):
            self.now += post.after
            with suppress(CrmError):
                self.run(self._post(number, post, redeemed))

    async def _post(self, number: int, post: Post, redeemed: list[tuple[UUID, UUID]]) -> None:
        now, contact_id = self.now, self.people[post.who]
        common: dict[str, Any] = {"by": "till", "once": None, "now": now}
        happened = now + (post.happened or timedelta(0))
        match post.kind:
            case "award":
                award = Award(
                    contact_id, post.points, "goodwill", occurred_at=happened,
                    activates_at=None if post.activates is None else happened + post.activates,
                    expires_at=None if post.expires is None else happened + post.expires,
                )  # fmt: skip
                await ledger.award(self.session, program_id=self.program_id, award=award, **common)
            case "purchase":
                bought = Purchase(
                    order_ref=f"O-{number}", occurred_at=happened, currency="IDR", total=Decimal(post.points * 1000)
                )
                await purchases.record(
                    self.session, program_id=self.program_id, bought=Bought(contact_id, bought), **common
                )
            case "redeem":
                redemption, _ = await redemptions.redeem(
                    self.session, program_id=self.program_id, contact_id=contact_id, points=post.points,
                    order_ref=None, place={}, **common,
                )  # fmt: skip
                redeemed.append((contact_id, redemption.id))
            case "reverse" if redeemed:
                owner, redemption_id = redeemed[post.points % len(redeemed)]
                await redemptions.reverse(
                    self.session, contact_id=owner, redemption_id=redemption_id, reason=None, **common
                )
            case "adjust":
                await ledger.adjust(
                    self.session, program_id=self.program_id, contact_id=contact_id,
                    points=post.points if post.activates else -3 * post.points, reason="fix", note=None,
                    allow_negative=bool(post.expires), qualifying=False, **common,
                )  # fmt: skip

    def write_down_what_is_due(self) -> None:
        async def settle() -> None:
            locked = await journal.lock(self.session, program_id=self.program_id, contact_ids=self.people, now=self.now)
            await journal.write_down(self.session, locked)

        self.run(settle())

    def put(self, moved: list[Move]) -> None:
        """Movements without anything that belongs to them, but lots."""
        self.run(self._connection.execute("ROLLBACK TO SAVEPOINT start"))
        self.run(self._put(moved))

    async def _put(self, moved: list[Move]) -> None:
        for number in range(6):
            for who in self.people:
                await self.session.execute(
                    """
                    INSERT INTO points_lots (contact_id, program_id, id, kind, amount, remaining, active, qualifying,
                        earned_at)
                    VALUES ($1, $2, $3, $4, $5, 0, true, true, $6)
                    """,
                    who, self.program_id, _numbered(number), "regular" if number else "deficit", min(number, 1),
                    START + 20 * number * 24 * HOUR,
                )  # fmt: skip
        for seq, move in enumerate(moved, 1):
            at = START + move.hour * HOUR
            await self.session.execute(
                """
                INSERT INTO points_movements (contact_id, program_id, seq, transaction_id, lot_id, from_bucket,
                    to_bucket, points, available_after, pending_after, held_after, occurred_at, recorded_at, digest)
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, 0, 0, $9, $9, '')
                """,
                self.people[move.who], self.program_id, seq, _numbered(move.transaction), _numbered(move.lot),
                move.source, move.target, move.points, at,
            )  # fmt: skip

    def movements(self) -> list[asyncpg.Record]:
        rows: list[asyncpg.Record] = self.run(self.session.fetch("SELECT * FROM points_movements ORDER BY seq"))
        return rows

    def buckets(self, contact_id: UUID | None = None, *, until: datetime | None = None) -> Counter[str]:
        """What is in each bucket by the movements before an instant, counted one by one."""
        found: Counter[str] = Counter()
        for row in self.movements():
            if contact_id in (None, row["contact_id"]) and (until is None or row["occurred_at"] < until):
                found[row["from_bucket"]] -= row["points"]
                found[row["to_bucket"]] += row["points"]
        return found


def _numbered(number: int) -> UUID:
    return UUID(int=number)
