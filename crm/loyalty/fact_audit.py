"""What the audit asks of the facts that points come from and go to: that each has its transaction, and it them."""

from typing import Final

from crm.loyalty.differences import Value, differences

_PURCHASES: Final = differences(
    """
    SELECT FINDINGS
    FROM purchases p
    FULL JOIN (SELECT * FROM points_transactions WHERE kind = 'earn' AND cause = 'purchase') t
        ON t.contact_id = p.contact_id AND t.id = p.transaction_id
    LEFT JOIN order_directory d ON d.program_id = p.program_id AND d.order_ref = p.order_ref
    """,
    Value("purchase", "'a purchase'", "CASE WHEN p.order_ref IS NULL THEN 'none' END", "'transaction ' || t.id"),
    Value("purchase.transaction_id", "p.transaction_id::text", "CASE WHEN t.id IS NULL THEN 'none' END"),
    Value("purchase.program_id", "t.program_id", "p.program_id"),
    Value("purchase.order_ref", "t.order_ref", "p.order_ref"),
    Value("purchase.points", "coalesce(t.points, 0)", "p.points"),
    Value("order_directory.contact_id", "p.contact_id::text", "coalesce(d.contact_id::text, 'none')"),
    contact="coalesce(p.contact_id, t.contact_id)",
    program="coalesce(p.program_id, t.program_id)",
    place="'order ' || p.order_ref",
)

_REDEMPTIONS: Final = differences(
    """
    SELECT FINDINGS
    FROM redemptions r
    FULL JOIN (SELECT * FROM points_transactions WHERE kind = 'redeem' AND cause IN ('redemption', 'reward')) t
        ON t.contact_id = r.contact_id AND t.id = r.id
    LEFT JOIN (SELECT * FROM points_transactions WHERE kind = 'reverse' AND cause = 'reversal') b
        ON b.contact_id = r.contact_id AND b.reverses = r.id
    LEFT JOIN order_directory d ON d.program_id = r.program_id AND d.order_ref = r.order_ref
    """,
    Value("redemption", "'a redemption'", "CASE WHEN r.id IS NULL THEN 'none' END", "'redemption ' || t.id"),
    Value("redemption.transaction", "'a transaction'", "CASE WHEN t.id IS NULL AND r.points > 0 THEN 'none' END"),
    Value("redemption.reward_id", "t.cause", "CASE WHEN r.reward_id IS NULL THEN 'redemption' ELSE 'reward' END"),
    Value("redemption.program_id", "t.program_id", "r.program_id"),
    Value("redemption.order_ref", "coalesce(t.order_ref, '')", "coalesce(r.order_ref, '')"),
    Value("redemption.points", "-t.points::numeric", "r.points"),
    Value(
        "redemption.status",
        """CASE WHEN b.id IS NOT NULL THEN 'reversed' WHEN r.reward_id IS NULL THEN 'redeemed'
                WHEN r.points > 0 AND r.status = 'reversed' THEN 'not reversed' ELSE r.status END""",
        "r.status",
    ),
    Value(
        "redemption.reversal_id",
        "coalesce(b.id::text, 'none')",
        "CASE WHEN r.id IS NOT NULL THEN coalesce(r.reversal_id::text, 'none') END",
    ),
    Value(
        "order_directory.contact_id",
        "CASE WHEN r.order_ref IS NOT NULL THEN r.contact_id::text END",
        "coalesce(d.contact_id::text, 'none')",
    ),
    contact="coalesce(r.contact_id, t.contact_id)",
    program="coalesce(r.program_id, t.program_id)",
    place="'redemption ' || r.id",
)

_HOLDS: Final = differences(
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
    Value("hold", "'a hold'", "CASE WHEN h.id IS NULL THEN 'none' END", "'hold ' || t.id"),
    Value("hold.transaction", "'a transaction'", "CASE WHEN t.id IS NULL THEN 'none' END"),
    Value("hold.points", "-t.points::numeric", "h.points"),
    Value("hold.captured", "CASE WHEN h.id IS NOT NULL THEN coalesce(e.captured, 0) END", "h.captured"),
    Value(
        "hold.status",
        """CASE WHEN e.id IS NULL THEN 'held' WHEN e.ended <> h.points THEN 'ended whole'
                WHEN e.captured > 0 THEN 'captured' WHEN h.status = 'expired' THEN 'expired' ELSE 'released' END""",
        "h.status",
    ),
    contact="coalesce(h.contact_id, t.contact_id)",
    program="coalesce(h.program_id, t.program_id)",
    place="'hold ' || h.id",
)

_REFUNDS: Final = differences(
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
    Value("refund", "'a refund'", "CASE WHEN r.ref IS NULL THEN 'none' END", "'transaction ' || t.id"),
    Value("refund.transaction", "'a transaction'", "CASE WHEN t.id IS NULL THEN 'none' END"),
    Value("refund.points", "t.points", "r.points"),
    contact="coalesce(r.contact_id, t.contact_id)",
    program="coalesce(r.program_id, t.program_id)",
    place="'refund ' || r.ref",
)

_EVENTS: Final = differences(
    """
    SELECT FINDINGS
    FROM loyalty_events e
    FULL JOIN (SELECT * FROM points_transactions WHERE kind = 'earn' AND cause = 'event') t
        ON t.contact_id = e.contact_id AND t.id = e.transaction_id
    LEFT JOIN interactions i ON i.contact_id = e.contact_id AND i.id = e.id AND i.kind = 'event'
    """,
    Value("event", "'an event'", "CASE WHEN e.id IS NULL THEN 'none' END", "'transaction ' || t.id"),
    Value("event.transaction_id", "e.transaction_id::text", "CASE WHEN t.id IS NULL THEN 'none' END"),
    Value("event.program_id", "t.program_id", "e.program_id"),
    Value("event.points", "coalesce(t.points, 0)", "e.points"),
    Value("event.event", "t.reason", "e.event"),
    Value("event.timeline", "'told'", "CASE WHEN e.id IS NOT NULL AND i.id IS NULL THEN 'none' END"),
    contact="coalesce(e.contact_id, t.contact_id)",
    program="coalesce(e.program_id, t.program_id)",
    place="'event ' || e.id",
)

CHECKS: Final = {
    "purchases": _PURCHASES,
    "redemptions": _REDEMPTIONS,
    "holds": _HOLDS,
    "refunds": _REFUNDS,
    "events": _EVENTS,
}
