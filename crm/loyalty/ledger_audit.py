"""What the audit asks of the ledger itself: that accounts, lots and transactions are what the movements say."""

from typing import Final

from crm.loyalty.differences import Value, differences


def _into(bucket: str) -> str:
    """What a movement adds to a bucket."""
    return f"(points * ((to_bucket = '{bucket}')::int - (from_bucket = '{bucket}')::int))"


def _microseconds(column: str) -> str:
    # A time that is none ('infinity') can only have been put there; it shall break the chain, not the audit.
    return f"CASE WHEN isfinite({column}) THEN (extract(epoch FROM {column}) * 1000000)::bigint ELSE 0 END"


def _first_break(expected: str, found: str) -> str:
    """As an aggregate: `[seq, expected, found]` of an account's first row where the two differ."""
    return f"min(ARRAY[seq, {expected}, {found}]) FILTER (WHERE {expected} <> {found})"


# `lag` gives what a row follows from; numeric, because a forged number must not overflow the audit.
_CHAIN: Final = differences(
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
    Value("account", "'an account'", "CASE WHEN a.seq IS NULL THEN 'none' END"),
    Value("account.available", "coalesce(m.available, 0)", "a.available"),
    Value("account.pending", "coalesce(m.pending, 0)", "a.pending"),
    Value("account.held", "coalesce(m.held, 0)", "a.held"),
    Value("account.seq", "coalesce(m.seq, 0)", "a.seq"),
    Value("account.digest", "encode(coalesce(m.digest, ''), 'hex')", "encode(a.digest, 'hex')"),
    Value("movement.seq", "seq_break[2]", "seq_break[3]", "'seq ' || seq_break[1]"),
    Value("movement.available_after", "available_break[2]", "available_break[3]", "'seq ' || available_break[1]"),
    Value("movement.pending_after", "pending_break[2]", "pending_break[3]", "'seq ' || pending_break[1]"),
    Value("movement.held_after", "held_break[2]", "held_break[3]", "'seq ' || held_break[1]"),
    Value("movement.digest", "digest_break[2]", "digest_break[3]", "'seq ' || ltrim(digest_break[1])"),
)

# A lot's points are pending until it is active, then available; those of a deficit are below zero. A merge takes a lot
# into another account, where it is the same lot; points come back to an account that had it only if they had gone.
_LOTS: Final = differences(
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
    Value("lot", "'a lot'", "CASE WHEN l.kind IS NULL THEN 'none' END"),
    Value("lot.movements", "'movements'", "CASE WHEN m.active IS NULL THEN 'none' END"),
    Value("lot.amount", "CASE l.kind WHEN 'regular' THEN m.amount ELSE 0 END", "l.amount"),
    Value("lot.credited", "CASE l.kind WHEN 'regular' THEN least(credited, m.amount + given) END", "credited"),
    Value("lot.remaining", "m.remaining", "l.remaining"),
    Value("lot.held", "m.held", "l.held"),
    Value("lot.active", "m.active", "l.active"),
    place="'lot ' || id",
)

# An account may look for due lots too early, where the lot it waited for was spent, but never too late.
_OPEN_LOTS: Final = differences(
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
    Value("lots.available", "a.available", "coalesce(o.available, 0)"),
    Value("lots.pending", "a.pending", "coalesce(o.pending, 0)"),
    Value("lots.held", "a.held", "coalesce(o.held, 0)"),
    Value("account.deficit", "coalesce(o.deficit, 0)", "a.deficit"),
    Value("holds.points", "a.held", "coalesce(h.points, 0)"),
    Value(
        "account.next_due_at",
        "least(o.due_at, h.due_at)",
        "greatest(least(o.due_at, h.due_at), coalesce(a.next_due_at, 'infinity'))",
    ),
    Value("account.qualifying_points", "coalesce(q.points, 0)", "a.qualifying_points"),
    Value("account.qualifying_spend", "coalesce(q.spend, 0)", "a.qualifying_spend"),
    Value("account.qualifying_visits", "coalesce(q.visits, 0)", "a.qualifying_visits"),
)

_TRANSACTIONS: Final = differences(
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
    Value("transaction", "'a transaction'", "CASE WHEN t.kind IS NULL THEN 'none' END"),
    Value("transaction.movements", "t.seq::numeric - t.first_seq + 1", "coalesce(m.movements, 0)"),
    Value("transaction.first_seq", "m.first_seq", "t.first_seq"),
    Value("transaction.seq", "m.seq", "t.seq"),
    Value("transaction.available_after", "m.available_after", "t.available_after"),
    Value("transaction.occurred_at", "m.occurred_at", "t.occurred_at"),
    Value("transaction.recorded_at", "m.recorded_at", "t.recorded_at"),
    Value(
        "transaction.points",
        """CASE t.kind WHEN 'activate' THEN m.activated WHEN 'hold' THEN -m.held WHEN 'capture' THEN -m.unheld
                WHEN 'release' THEN m.unheld ELSE m.points END""",
        "t.points",
    ),
    place="'transaction ' || id",
)

# Of whom was merged, what happened under every id counts, and the accounts of the former ids don't; who was erased
# leaves no word of which ids were theirs.
_LIFETIME: Final = differences(
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
    Value("account.lifetime_earned", "coalesce(e.points, 0)", "a.lifetime_earned"),
    Value("account.lifetime_redeemed", "coalesce(r.points, 0)", "a.lifetime_redeemed"),
)

# Both ways: a row of the timeline without its transaction is what remains of a ledger whose end was cut off.
_TIMELINE: Final = differences(
    """
    WITH told AS (
        SELECT contact_id, id, CASE kind WHEN 'purchase' THEN kind ELSE 'points.*' END AS kind FROM interactions
        WHERE kind = 'purchase' OR channel = 'loyalty' AND kind LIKE 'points.%' AND kind <> 'points.milestone'
    )
    SELECT FINDINGS FROM points_transactions t FULL JOIN told i USING (contact_id, id)
    """,
    Value(
        "timeline",
        "CASE WHEN t.cause = 'purchase' THEN 'purchase' WHEN t.id IS NOT NULL THEN 'points.*' END",
        "coalesce(i.kind, 'none')",
    ),
    Value(
        "timeline.transaction",
        "'a transaction'",
        "CASE WHEN t.id IS NULL AND i.kind <> 'purchase' THEN 'none' END",
    ),
    program="t.program_id",
    place="'transaction ' || id",
)

# What one side of a transfer gave, the other has; an account alone may not tell.
_TRANSFERS: Final = differences(
    """
    WITH sides AS (
        SELECT id, program_id, min(contact_id::text)::uuid AS contact_id, sum(points) AS points, count(*) AS sides
        FROM points_transactions WHERE kind = 'transfer' GROUP BY id, program_id
    )
    SELECT FINDINGS FROM sides
    """,
    Value("transfer.points", "0", "points"),
    Value("transfer.sides", "2", "sides"),
    place="'transaction ' || id",
)

CHECKS: Final = {
    "movements and balances": _CHAIN,
    "lots": _LOTS,
    "open lots": _OPEN_LOTS,
    "transactions": _TRANSACTIONS,
    "lifetime sums": _LIFETIME,
    "timeline": _TIMELINE,
    "transfers": _TRANSFERS,
}
