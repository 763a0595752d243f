"""The audit: everything the ledger keeps, worked out again from its movements, by statements over whole tables.

Each check finds values that are not what the movements say. Postgres sorts and spills to disk where a table is large,
so memory stays bounded on both sides however long the ledger is.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple
from uuid import UUID

from crm.db.session import Session
from crm.loyalty import bonus_audit, offer_audit, reward_audit
from crm.loyalty.movements import BUCKETS

FINDINGS_MAX: Final = 1_000
"""How many findings of each check are looked for; whoever has more has enough to go on."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A value that differs from what the movements say.

    `contact_id` is None for a program as a whole, `program_id` for a row of the timeline without its transaction.
    Of a chain only the first break in an account is a finding: those behind it follow from it.
    """

    program_id: UUID | None
    contact_id: UUID | None
    what: str
    place: str | None
    expected: str
    found: str


@dataclass(frozen=True, slots=True)
class Totals:
    """The points of one program: `buckets` by movements, `open` (pending, available and held) by its accounts."""

    program_id: UUID
    name: str | None
    accounts: int
    movements: int
    buckets: dict[str, int]
    open: dict[str, int]

    @property
    def issued(self) -> int:
        """Points that came into being: what has left the bucket that everything comes from."""
        return -self.buckets["issued"]

    @property
    def gone(self) -> dict[str, int]:
        """Points that members don't have any more."""
        return {name: points for name, points in self.buckets.items() if name != "issued" and name not in self.open}


@dataclass(slots=True)
class Report:
    """What the audit found; nothing is wrong where `findings` is empty. `complete` is false where there was more."""

    findings: list[Finding] = field(default_factory=list)
    totals: list[Totals] = field(default_factory=list)
    complete: bool = True


async def freeze(session: Session) -> None:
    """Let this transaction see one moment, however long it reads and whoever writes meanwhile; its first statement."""
    await session.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    await session.execute("SET LOCAL statement_timeout = 0")
    await session.execute("SET LOCAL work_mem = '64MB'")
    # Nothing here is about few rows, whatever statistics of yesterday make the planner believe.
    await session.execute("SET LOCAL enable_nestloop = off")


async def verify(session: Session, *, watch: Callable[[str], None] = lambda _: None) -> Report:
    """Check the whole ledger as the session's transaction sees it; `watch` hears which of `STEPS` comes next.

    Needs a transaction that sees one moment throughout: see `freeze`.
    """
    report = Report()
    for title, query in CHECKS.items():
        watch(title)
        rows = await session.fetch(f"{query} LIMIT {FINDINGS_MAX}")
        report.findings += [Finding(*row) for row in rows]
        report.complete = report.complete and len(rows) < FINDINGS_MAX
    watch(SUMS)
    report.totals = await _totals(session)
    report.findings += [unbalanced for totals in report.totals if (unbalanced := _unbalanced(totals)) is not None]
    return report


async def _totals(session: Session) -> list[Totals]:
    rows = await session.fetch(_TOTALS)
    return [
        Totals(
            row["program_id"], row["name"], row["accounts"], row["movements"],
            {bucket: int(row["buckets"].get(bucket, 0)) for bucket in BUCKETS},
            {bucket: int(row[bucket]) for bucket in ("pending", "available", "held")},
        )
        for row in rows
    ]  # fmt: skip


def _unbalanced(totals: Totals) -> Finding | None:
    """Whether points were made or lost: what was issued is with the members, or has gone a way that is written down."""
    kept = sum(totals.open.values()) + sum(totals.gone.values())
    if kept == totals.issued:
        return None
    return Finding(totals.program_id, None, "program.issued", None, str(totals.issued), str(kept))


def _into(bucket: str) -> str:
    """What a movement adds to a bucket."""
    return f"(points * ((to_bucket = '{bucket}')::int - (from_bucket = '{bucket}')::int))"


def _microseconds(column: str) -> str:
    # A time that is none ('infinity') can only have been put there; it shall break the chain, not the audit.
    return f"CASE WHEN isfinite({column}) THEN (extract(epoch FROM {column}) * 1000000)::bigint ELSE 0 END"


class _Value(NamedTuple):
    """A value to compare, in SQL; `place` says where it stands if that is not where its row does."""

    what: str
    expected: str
    found: str
    place: str | None = None


def _differences(
    source: str, *values: _Value, contact: str = "contact_id", program: str = "program_id", place: str = "NULL"
) -> str:
    """A check: the values of the rows of `source` that are not as expected; where one side is NULL, nothing is.

    `source` selects `FINDINGS`.
    """
    rows = ", ".join(
        f"('{value.what}', {value.place or place}, ({value.expected})::text, ({value.found})::text)" for value in values
    )
    # Said twice, because most rows are sound, and comparing numbers costs far less than their texts.
    some = " OR ".join(f"({value.expected}) <> ({value.found})" for value in values)
    return f"""
        {source.replace("FINDINGS", f"{program}, {contact}, v.what, v.place, v.expected, v.found")}
        CROSS JOIN LATERAL (VALUES {rows}) v (what, place, expected, found)
        WHERE ({some}) AND v.expected <> v.found
    """


def _first_break(expected: str, found: str) -> str:
    """As an aggregate: `[seq, expected, found]` of an account's first row where the two differ."""
    return f"min(ARRAY[seq, {expected}, {found}]) FILTER (WHERE {expected} <> {found})"


# `lag` gives what a row follows from; numeric, because a forged number must not overflow the audit.
_CHAIN: Final = _differences(
    f"""
    WITH chained AS (
        SELECT contact_id, program_id, digest, seq::numeric, available_after::numeric, pending_after::numeric,
            held_after::numeric,
            {_into("available")} AS available, {_into("pending")} AS pending, {_into("held")} AS held,
            lag(seq, 1, 0::bigint) OVER account + 1::numeric AS seq_due,
            lag(available_after, 1, 0::bigint) OVER account + {_into("available")}::numeric AS available_due,
            lag(pending_after, 1, 0::bigint) OVER account + {_into("pending")}::numeric AS pending_due,
            lag(held_after, 1, 0::bigint) OVER account + {_into("held")}::numeric AS held_due,
            sha256(
                lag(digest, 1, ''::bytea) OVER account || uuid_send(contact_id) || uuid_send(program_id)
                || uuid_send(transaction_id) || uuid_send(lot_id)
                || convert_to(from_bucket::text || '>' || to_bucket::text, 'UTF8')
                || int8send(seq) || int8send(points)
                || int8send(available_after) || int8send(pending_after) || int8send(held_after)
                || int8send({_microseconds("occurred_at")}) || int8send({_microseconds("recorded_at")})
            ) AS digest_due,
            lead(seq) OVER account IS NULL AS is_last
        FROM points_movements
        WINDOW account AS (PARTITION BY contact_id, program_id ORDER BY seq)
    ), moved AS (
        SELECT contact_id, program_id, sum(available) AS available, sum(pending) AS pending, sum(held) AS held,
            max(seq) AS seq, string_agg(digest, '') FILTER (WHERE is_last) AS digest,
            {_first_break("seq_due", "seq")} AS seq_break,
            {_first_break("available_due", "available_after")} AS available_break,
            {_first_break("pending_due", "pending_after")} AS pending_break,
            {_first_break("held_due", "held_after")} AS held_break,
            min(ARRAY[lpad(seq::text, 20), encode(digest_due, 'hex'), encode(digest, 'hex')])
                FILTER (WHERE digest_due <> digest) AS digest_break
        FROM chained GROUP BY contact_id, program_id
    )
    SELECT FINDINGS FROM moved m FULL JOIN loyalty_accounts a USING (contact_id, program_id)
    """,
    _Value("account", "'an account'", "CASE WHEN a.seq IS NULL THEN 'none' END"),
    _Value("account.available", "coalesce(m.available, 0)", "a.available"),
    _Value("account.pending", "coalesce(m.pending, 0)", "a.pending"),
    _Value("account.held", "coalesce(m.held, 0)", "a.held"),
    _Value("account.seq", "coalesce(m.seq, 0)", "a.seq"),
    _Value("account.digest", "encode(coalesce(m.digest, ''), 'hex')", "encode(a.digest, 'hex')"),
    _Value("movement.seq", "seq_break[2]", "seq_break[3]", "'seq ' || seq_break[1]"),
    _Value("movement.available_after", "available_break[2]", "available_break[3]", "'seq ' || available_break[1]"),
    _Value("movement.pending_after", "pending_break[2]", "pending_break[3]", "'seq ' || pending_break[1]"),
    _Value("movement.held_after", "held_break[2]", "held_break[3]", "'seq ' || held_break[1]"),
    _Value("movement.digest", "digest_break[2]", "digest_break[3]", "'seq ' || ltrim(digest_break[1])"),
)

# A lot's points are pending until it is active, then available; those of a deficit are below zero. A merge takes a lot
# into another account, where it is the same lot; points come back to an account that had it only if they had gone.
_LOTS: Final = _differences(
    f"""
    WITH moved AS (
        SELECT contact_id, program_id, lot_id AS id,
            (min(ARRAY[seq, points]) FILTER (WHERE from_bucket IN ('issued', 'transferred')))[2] AS first,
            sum(points) FILTER (WHERE from_bucket IN ('issued', 'transferred')) AS credited,
            coalesce(sum(points) FILTER (WHERE to_bucket = 'transferred'), 0) AS given,
            sum({_into("available")} + {_into("pending")}::numeric) AS remaining, sum({_into("held")}) AS held,
            bool_or('available' IN (from_bucket, to_bucket)) AS active
        FROM points_movements GROUP BY contact_id, program_id, lot_id
    ), whole AS (
        SELECT *, max(first) OVER (PARTITION BY program_id, id) AS amount FROM moved
    )
    SELECT FINDINGS FROM whole m FULL JOIN points_lots l USING (contact_id, program_id, id)
    """,
    _Value("lot", "'a lot'", "CASE WHEN l.kind IS NULL THEN 'none' END"),
    _Value("lot.movements", "'movements'", "CASE WHEN m.active IS NULL THEN 'none' END"),
    _Value("lot.amount", "CASE l.kind WHEN 'regular' THEN m.amount ELSE 0 END", "l.amount"),
    _Value("lot.credited", "CASE l.kind WHEN 'regular' THEN least(credited, m.amount + given) END", "credited"),
    _Value("lot.remaining", "m.remaining", "l.remaining"),
    _Value("lot.held", "m.held", "l.held"),
    _Value("lot.active", "m.active", "l.active"),
    place="'lot ' || id",
)

# An account may look for due lots too early, where the lot it waited for was spent, but never too late.
_OPEN_LOTS: Final = _differences(
    """
    WITH open AS (
        SELECT contact_id, program_id, sum(held) AS held,
            coalesce(sum(remaining) FILTER (WHERE active), 0) AS available,
            coalesce(sum(remaining) FILTER (WHERE NOT active), 0) AS pending,
            coalesce(-sum(remaining) FILTER (WHERE kind = 'deficit'), 0) AS deficit,
            min(CASE WHEN active THEN expires_at ELSE least(activates_at, cancels_at, expires_at) END)
                FILTER (WHERE remaining > 0) AS due_at
        FROM points_lots GROUP BY contact_id, program_id
    ), aside AS (
        SELECT contact_id, program_id, sum(points) AS points, min(expires_at) AS due_at FROM holds
        WHERE status = 'held' GROUP BY contact_id, program_id
    ), counting AS (
        SELECT contact_id, program_id, sum(points) AS points, sum(spend) AS spend, sum(visits) AS visits
        FROM qualifying_days GROUP BY contact_id, program_id
    )
    SELECT FINDINGS FROM loyalty_accounts a
    LEFT JOIN open o USING (contact_id, program_id)
    LEFT JOIN aside h USING (contact_id, program_id)
    LEFT JOIN counting q USING (contact_id, program_id)
    """,
    _Value("lots.available", "a.available", "coalesce(o.available, 0)"),
    _Value("lots.pending", "a.pending", "coalesce(o.pending, 0)"),
    _Value("lots.held", "a.held", "coalesce(o.held, 0)"),
    _Value("account.deficit", "coalesce(o.deficit, 0)", "a.deficit"),
    _Value("holds.points", "a.held", "coalesce(h.points, 0)"),
    _Value(
        "account.next_due_at",
        "least(o.due_at, h.due_at)",
        "greatest(least(o.due_at, h.due_at), coalesce(a.next_due_at, 'infinity'))",
    ),
    _Value("account.qualifying_points", "coalesce(q.points, 0)", "a.qualifying_points"),
    _Value("account.qualifying_spend", "coalesce(q.spend, 0)", "a.qualifying_spend"),
    _Value("account.qualifying_visits", "coalesce(q.visits, 0)", "a.qualifying_visits"),
)

_TRANSACTIONS: Final = _differences(
    f"""
    WITH moved AS (
        SELECT contact_id, program_id, transaction_id AS id, min(seq) AS first_seq, max(seq) AS seq,
            (max(ARRAY[seq, available_after]))[2] AS available_after,
            min(occurred_at) AS occurred_at, min(recorded_at) AS recorded_at, count(*) AS movements,
            sum({_into("available")} + {_into("pending")}::numeric + {_into("held")}) AS points,
            coalesce(sum(points) FILTER (WHERE from_bucket = 'pending' AND to_bucket = 'available'), 0) AS activated,
            coalesce(sum(points) FILTER (WHERE to_bucket = 'held'), 0) AS held,
            coalesce(sum(points) FILTER (WHERE from_bucket = 'held'), 0) AS unheld
        FROM points_movements GROUP BY contact_id, program_id, transaction_id
    )
    SELECT FINDINGS FROM moved m FULL JOIN points_transactions t USING (contact_id, program_id, id)
    """,
    _Value("transaction", "'a transaction'", "CASE WHEN t.kind IS NULL THEN 'none' END"),
    _Value("transaction.movements", "t.seq::numeric - t.first_seq + 1", "coalesce(m.movements, 0)"),
    _Value("transaction.first_seq", "m.first_seq", "t.first_seq"),
    _Value("transaction.seq", "m.seq", "t.seq"),
    _Value("transaction.available_after", "m.available_after", "t.available_after"),
    _Value("transaction.occurred_at", "m.occurred_at", "t.occurred_at"),
    _Value("transaction.recorded_at", "m.recorded_at", "t.recorded_at"),
    _Value(
        "transaction.points",
        """CASE t.kind WHEN 'activate' THEN m.activated WHEN 'hold' THEN -m.held WHEN 'capture' THEN -m.unheld
                WHEN 'release' THEN m.unheld ELSE m.points END""",
        "t.points",
    ),
    place="'transaction ' || id",
)

# Of whom was merged, what happened under every id counts, and the accounts of the former ids don't; who was erased
# leaves no word of which ids were theirs.
_LIFETIME: Final = _differences(
    """
    WITH earned AS (
        SELECT coalesce(d.contact_id, t.contact_id) AS contact_id, program_id, sum(points) AS points
        FROM points_transactions t LEFT JOIN contact_alias_directory d ON d.alias_id = t.contact_id
        WHERE kind = 'earn' GROUP BY 1, 2
    ), redeemed AS (
        SELECT coalesce(d.contact_id, m.contact_id) AS contact_id, program_id,
            sum(CASE to_bucket WHEN 'redeemed' THEN points ELSE -points END) AS points
        FROM points_movements m LEFT JOIN contact_alias_directory d ON d.alias_id = m.contact_id
        WHERE 'redeemed' IN (from_bucket, to_bucket) GROUP BY 1, 2
    )
    SELECT FINDINGS FROM (
        SELECT * FROM loyalty_accounts a
        WHERE status <> 'merged' AND (status <> 'erased' OR NOT EXISTS (
            SELECT FROM merges m WHERE m.contact_id = a.contact_id OR m.other_id = a.contact_id
        ))
    ) a
    LEFT JOIN earned e USING (contact_id, program_id) LEFT JOIN redeemed r USING (contact_id, program_id)
    """,
    _Value("account.lifetime_earned", "coalesce(e.points, 0)", "a.lifetime_earned"),
    _Value("account.lifetime_redeemed", "coalesce(r.points, 0)", "a.lifetime_redeemed"),
)

# Both ways: a row of the timeline without its transaction is what remains of a ledger whose end was cut off.
_TIMELINE: Final = _differences(
    """
    WITH told AS (
        SELECT contact_id, id, CASE kind WHEN 'purchase' THEN kind ELSE 'points.*' END AS kind FROM interactions
        WHERE kind = 'purchase' OR channel = 'loyalty' AND kind LIKE 'points.%' AND kind <> 'points.milestone'
    )
    SELECT FINDINGS FROM points_transactions t FULL JOIN told i USING (contact_id, id)
    """,
    _Value(
        "timeline",
        "CASE WHEN t.cause = 'purchase' THEN 'purchase' WHEN t.id IS NOT NULL THEN 'points.*' END",
        "coalesce(i.kind, 'none')",
    ),
    _Value(
        "timeline.transaction",
        "'a transaction'",
        "CASE WHEN t.id IS NULL AND i.kind <> 'purchase' THEN 'none' END",
    ),
    program="t.program_id",
    place="'transaction ' || id",
)

_PURCHASES: Final = _differences(
    """
    SELECT FINDINGS
    FROM purchases p
    FULL JOIN (SELECT * FROM points_transactions WHERE kind = 'earn' AND cause = 'purchase') t
        ON t.contact_id = p.contact_id AND t.id = p.transaction_id
    LEFT JOIN order_directory d ON d.program_id = p.program_id AND d.order_ref = p.order_ref
    """,
    _Value("purchase", "'a purchase'", "CASE WHEN p.order_ref IS NULL THEN 'none' END", "'transaction ' || t.id"),
    _Value("purchase.transaction_id", "p.transaction_id::text", "CASE WHEN t.id IS NULL THEN 'none' END"),
    _Value("purchase.program_id", "t.program_id", "p.program_id"),
    _Value("purchase.order_ref", "t.order_ref", "p.order_ref"),
    _Value("purchase.points", "coalesce(t.points, 0)", "p.points"),
    _Value("order_directory.contact_id", "p.contact_id::text", "coalesce(d.contact_id::text, 'none')"),
    contact="coalesce(p.contact_id, t.contact_id)",
    program="coalesce(p.program_id, t.program_id)",
    place="'order ' || p.order_ref",
)

_REDEMPTIONS: Final = _differences(
    """
    SELECT FINDINGS
    FROM redemptions r
    FULL JOIN (SELECT * FROM points_transactions WHERE kind = 'redeem' AND cause IN ('redemption', 'reward')) t
        ON t.contact_id = r.contact_id AND t.id = r.id
    LEFT JOIN (SELECT * FROM points_transactions WHERE kind = 'reverse' AND cause = 'reversal') b
        ON b.contact_id = r.contact_id AND b.reverses = r.id
    LEFT JOIN order_directory d ON d.program_id = r.program_id AND d.order_ref = r.order_ref
    """,
    _Value("redemption", "'a redemption'", "CASE WHEN r.id IS NULL THEN 'none' END", "'redemption ' || t.id"),
    _Value("redemption.transaction", "'a transaction'", "CASE WHEN t.id IS NULL AND r.points > 0 THEN 'none' END"),
    _Value("redemption.reward_id", "t.cause", "CASE WHEN r.reward_id IS NULL THEN 'redemption' ELSE 'reward' END"),
    _Value("redemption.program_id", "t.program_id", "r.program_id"),
    _Value("redemption.order_ref", "coalesce(t.order_ref, '')", "coalesce(r.order_ref, '')"),
    _Value("redemption.points", "-t.points::numeric", "r.points"),
    _Value(
        "redemption.status",
        """CASE WHEN b.id IS NOT NULL THEN 'reversed' WHEN r.reward_id IS NULL THEN 'redeemed'
                WHEN r.points > 0 AND r.status = 'reversed' THEN 'not reversed' ELSE r.status END""",
        "r.status",
    ),
    _Value(
        "redemption.reversal_id",
        "coalesce(b.id::text, 'none')",
        "CASE WHEN r.id IS NOT NULL THEN coalesce(r.reversal_id::text, 'none') END",
    ),
    _Value(
        "order_directory.contact_id",
        "CASE WHEN r.order_ref IS NOT NULL THEN r.contact_id::text END",
        "coalesce(d.contact_id::text, 'none')",
    ),
    contact="coalesce(r.contact_id, t.contact_id)",
    program="coalesce(r.program_id, t.program_id)",
    place="'redemption ' || r.id",
)

_HOLDS: Final = _differences(
    """
    SELECT FINDINGS
    FROM holds h
    FULL JOIN (SELECT * FROM points_transactions WHERE kind = 'hold') t ON t.contact_id = h.contact_id AND t.id = h.id
    LEFT JOIN (
        SELECT contact_id, reverses AS id, -sum(points) FILTER (WHERE kind = 'capture') AS captured,
            sum(abs(points)) AS ended
        FROM points_transactions WHERE kind IN ('capture', 'release') GROUP BY contact_id, reverses
    ) e ON e.contact_id = h.contact_id AND e.id = h.id
    """,
    _Value("hold", "'a hold'", "CASE WHEN h.id IS NULL THEN 'none' END", "'hold ' || t.id"),
    _Value("hold.transaction", "'a transaction'", "CASE WHEN t.id IS NULL THEN 'none' END"),
    _Value("hold.points", "-t.points::numeric", "h.points"),
    _Value("hold.captured", "CASE WHEN h.id IS NOT NULL THEN coalesce(e.captured, 0) END", "h.captured"),
    _Value(
        "hold.status",
        """CASE WHEN e.id IS NULL THEN 'held' WHEN e.ended <> h.points THEN 'ended whole'
                WHEN e.captured > 0 THEN 'captured' WHEN h.status = 'expired' THEN 'expired' ELSE 'released' END""",
        "h.status",
    ),
    contact="coalesce(h.contact_id, t.contact_id)",
    program="coalesce(h.program_id, t.program_id)",
    place="'hold ' || h.id",
)

_REFUNDS: Final = _differences(
    """
    SELECT FINDINGS
    FROM (
        SELECT contact_id, program_id, order_ref || ' / ' || refund_ref AS ref, transaction_id AS id,
            -points_taken_back AS points
        FROM refunds WHERE transaction_id IS NOT NULL OR points_taken_back > 0
        UNION ALL
        SELECT contact_id, program_id, order_ref || ' / ' || refund_ref, return_transaction_id, points_returned
        FROM refunds WHERE return_transaction_id IS NOT NULL OR points_returned > 0
    ) r
    FULL JOIN (SELECT * FROM points_transactions WHERE kind = 'reverse' AND cause = 'refund') t
        ON t.contact_id = r.contact_id AND t.id = r.id
    """,
    _Value("refund", "'a refund'", "CASE WHEN r.ref IS NULL THEN 'none' END", "'transaction ' || t.id"),
    _Value("refund.transaction", "'a transaction'", "CASE WHEN t.id IS NULL THEN 'none' END"),
    _Value("refund.points", "t.points", "r.points"),
    contact="coalesce(r.contact_id, t.contact_id)",
    program="coalesce(r.program_id, t.program_id)",
    place="'refund ' || r.ref",
)

# What one side of a transfer gave, the other has; an account alone may not tell.
_TRANSFERS: Final = _differences(
    """
    WITH sides AS (
        SELECT id, program_id, min(contact_id::text)::uuid AS contact_id, sum(points) AS points, count(*) AS sides
        FROM points_transactions WHERE kind = 'transfer' GROUP BY id, program_id
    )
    SELECT FINDINGS FROM sides
    """,
    _Value("transfer.points", "0", "points"),
    _Value("transfer.sides", "2", "sides"),
    place="'transaction ' || id",
)

_EVENTS: Final = _differences(
    """
    SELECT FINDINGS
    FROM loyalty_events e
    FULL JOIN (SELECT * FROM points_transactions WHERE kind = 'earn' AND cause = 'event') t
        ON t.contact_id = e.contact_id AND t.id = e.transaction_id
    LEFT JOIN interactions i ON i.contact_id = e.contact_id AND i.id = e.id AND i.kind = 'event'
    """,
    _Value("event", "'an event'", "CASE WHEN e.id IS NULL THEN 'none' END", "'transaction ' || t.id"),
    _Value("event.transaction_id", "e.transaction_id::text", "CASE WHEN t.id IS NULL THEN 'none' END"),
    _Value("event.program_id", "t.program_id", "e.program_id"),
    _Value("event.points", "coalesce(t.points, 0)", "e.points"),
    _Value("event.event", "t.reason", "e.event"),
    _Value("event.timeline", "'told'", "CASE WHEN e.id IS NOT NULL AND i.id IS NULL THEN 'none' END"),
    contact="coalesce(e.contact_id, t.contact_id)",
    program="coalesce(e.program_id, t.program_id)",
    place="'event ' || e.id",
)

_TOTALS: Final = """
    WITH flows AS (
        SELECT program_id, from_bucket, to_bucket, sum(points) AS points, count(*) AS movements
        FROM points_movements GROUP BY program_id, from_bucket, to_bucket
    ), buckets AS (
        SELECT program_id, jsonb_object_agg(bucket, points) AS buckets FROM (
            SELECT program_id, bucket, sum(change) AS points
            FROM flows CROSS JOIN LATERAL (VALUES (from_bucket, -points), (to_bucket, points)) c (bucket, change)
            GROUP BY program_id, bucket
        ) b GROUP BY program_id
    ), counts AS (
        SELECT program_id, sum(movements)::bigint AS movements FROM flows GROUP BY program_id
    ), accounts AS (
        SELECT program_id, count(*) AS accounts, sum(available) AS available, sum(pending) AS pending, sum(held) AS held
        FROM loyalty_accounts GROUP BY program_id
    )
    SELECT program_id, p.name, coalesce(a.accounts, 0) AS accounts, coalesce(c.movements, 0) AS movements,
        coalesce(b.buckets, '{}') AS buckets, coalesce(a.available, 0) AS available,
        coalesce(a.pending, 0) AS pending, coalesce(a.held, 0) AS held
    FROM buckets b FULL JOIN accounts a USING (program_id)
    LEFT JOIN counts c USING (program_id) LEFT JOIN programs p ON p.id = program_id
    ORDER BY program_id
"""

CHECKS: Final = {
    "movements and balances": _CHAIN,
    "lots": _LOTS,
    "open lots": _OPEN_LOTS,
    "transactions": _TRANSACTIONS,
    "lifetime sums": _LIFETIME,
    "timeline": _TIMELINE,
    "purchases": _PURCHASES,
    "redemptions": _REDEMPTIONS,
    "holds": _HOLDS,
    "refunds": _REFUNDS,
    "transfers": _TRANSFERS,
    **reward_audit.CHECKS,
    "events": _EVENTS,
    **offer_audit.CHECKS,
    **bonus_audit.CHECKS,
}
"""By title. Each selects findings, with nothing said where one of `expected` and `found` is NULL."""
SUMS: Final = "sums of each program"
STEPS: Final = (*CHECKS, SUMS)
