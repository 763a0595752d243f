"""What the audit asks of challenges and referrals: that each stamp, card and promise follows from its fact."""

from typing import Final

# How far a member has come, worked out again: a streak's periods in a row differ from their numbers by the same. Where
# contacts were ever merged, stamps of two accounts may have filled one card.
_PROGRESS: Final = """
    WITH goals AS (
        SELECT program_id, id AS challenge_id, (definition ->> 'goal')::bigint AS goal FROM challenges
    ), periods AS (
        SELECT contact_id, program_id, challenge_id, period,
            period - row_number() OVER (PARTITION BY contact_id, program_id, challenge_id ORDER BY period) AS run
        FROM challenge_stamps WHERE period IS NOT NULL
        GROUP BY contact_id, program_id, challenge_id, period HAVING sum(stamps) > 0
    ), runs AS (
        SELECT contact_id, program_id, challenge_id, count(*) AS length FROM periods
        GROUP BY contact_id, program_id, challenge_id, run
    ), totals AS (
        SELECT contact_id, program_id, challenge_id, sum(stamps)::bigint AS total, sum(stamps)::bigint / goal AS due
        FROM challenge_stamps JOIN goals USING (program_id, challenge_id)
        WHERE period IS NULL GROUP BY contact_id, program_id, challenge_id, goal
        UNION ALL
        SELECT contact_id, program_id, challenge_id, sum(length)::bigint, sum(length / goal)::bigint
        FROM runs JOIN goals USING (program_id, challenge_id) GROUP BY contact_id, program_id, challenge_id
    ), filled AS (
        SELECT contact_id, program_id, challenge_id, max(card) AS filled,
            count(*) FILTER (WHERE status <> 'reversed') AS completed, count(*) FILTER (WHERE status = 'kept') AS kept
        FROM challenge_cards GROUP BY contact_id, program_id, challenge_id
    )
    SELECT program_id, contact_id, f.what, 'challenge ' || challenge_id, f.expected, f.found
    FROM challenge_progress p
    FULL JOIN totals t USING (contact_id, program_id, challenge_id)
    FULL JOIN filled k USING (contact_id, program_id, challenge_id)
    CROSS JOIN LATERAL (VALUES
        ('challenge.progress', 'progress', CASE WHEN p.total IS NULL THEN 'none' END),
        ('challenge.total', coalesce(t.total, 0)::text, p.total::text),
        ('challenge.due', coalesce(t.due, 0)::text, p.due::text),
        ('challenge.filled', coalesce(k.filled, 0)::text, p.filled::text),
        ('challenge.completed', coalesce(k.completed, 0)::text, p.completed::text),
        ('challenge.kept', CASE WHEN NOT EXISTS (
                SELECT FROM merges m WHERE m.contact_id = p.contact_id OR m.other_id = p.contact_id
            ) THEN greatest(p.completed - p.due, 0)::text END, least(p.completed - p.due, k.kept)::text)
    ) f (what, expected, found)
    WHERE f.expected <> f.found
"""

# A stamp has its fact, and what the fact says that it stamped is there. Of a streak, facts that stamped nothing are
# kept too, because another one may be refunded.
_STAMPS: Final = """
    WITH facts AS (
        SELECT contact_id, program_id, 'purchase' AS cause, order_ref AS ref, NULL AS event, challenges FROM purchases
        UNION ALL
        SELECT contact_id, program_id, 'event', ref, event, challenges FROM loyalty_events
    ), told AS (
        SELECT f.contact_id, f.program_id, f.cause, f.ref, (e ->> 'challenge_id')::uuid AS challenge_id,
            (e ->> 'stamps')::bigint AS stamps
        FROM facts f CROSS JOIN LATERAL jsonb_array_elements(f.challenges) e
        WHERE f.challenges <> '[]'
    ), stamps AS (
        SELECT * FROM challenge_stamps WHERE cause <> 'refund'
    )
    SELECT program_id, contact_id, 'stamp.stamps', 'stamp ' || cause || ' ' || ref, f.expected, f.found
    FROM told t FULL JOIN stamps s USING (contact_id, program_id, challenge_id, cause, ref)
    CROSS JOIN LATERAL (VALUES
        (CASE WHEN t.stamps > 0 OR s.period IS NULL THEN coalesce(t.stamps, 0)::text END, coalesce(s.stamps, 0)::text)
    ) f (expected, found)
    WHERE f.expected <> f.found
    UNION ALL
    SELECT s.program_id, s.contact_id, 'stamp.refund', 'stamp ' || s.ref || ' / ' || s.refund_ref, 'a refund', 'none'
    FROM challenge_stamps s
    LEFT JOIN refunds r ON r.contact_id = s.contact_id AND r.program_id = s.program_id AND r.order_ref = s.ref
        AND r.refund_ref = s.refund_ref
    WHERE s.cause = 'refund' AND r.id IS NULL
"""

_CARDS: Final = """
    SELECT coalesce(k.program_id, t.program_id), coalesce(k.contact_id, t.contact_id), f.what,
        coalesce('card ' || k.card || ' of ' || k.challenge_id, 'transaction ' || t.id), f.expected, f.found
    FROM challenge_cards k
    FULL JOIN (SELECT * FROM points_transactions WHERE kind = 'earn' AND cause = 'challenge') t
        ON t.contact_id = k.contact_id AND t.id = k.transaction_id
    LEFT JOIN (SELECT * FROM points_transactions WHERE kind = 'reverse' AND cause = 'challenge') b
        ON b.contact_id = k.contact_id AND b.reverses = k.transaction_id
    LEFT JOIN redemptions r ON r.contact_id = k.contact_id AND r.id = k.redemption_id
        AND r.natural_key = 'challenge:' || k.challenge_id || ':' || k.card
    CROSS JOIN LATERAL (VALUES
        ('card', 'a card', CASE WHEN k.card IS NULL THEN 'none' END),
        ('card.transaction_id', k.transaction_id::text, CASE WHEN t.id IS NULL THEN 'none' END),
        ('card.program_id', t.program_id::text, k.program_id::text),
        ('card.points', coalesce(t.points, 0)::text, k.points::text),
        ('card.points_taken_back', coalesce(-b.points, 0)::text, k.points_taken_back::text),
        ('card.reversal_id', CASE WHEN k.card IS NOT NULL THEN coalesce(b.id::text, 'none') END,
            coalesce(k.reversal_id::text, 'none')),
        ('card.status', CASE WHEN b.id IS NOT NULL THEN 'reversed' END, k.status),
        ('card.redemption_id', CASE WHEN k.redemption_id IS NOT NULL OR k.status IN ('granted', 'kept')
            THEN 'a redemption' END, CASE WHEN r.id IS NULL THEN 'none' END)
    ) f (what, expected, found)
    WHERE f.expected <> f.found
    UNION ALL
    SELECT r.program_id, r.contact_id, 'card', 'redemption ' || r.id, 'a card', 'none'
    FROM redemptions r
    LEFT JOIN challenge_cards k ON k.contact_id = r.contact_id AND k.redemption_id = r.id
    WHERE r.cause = 'challenge' AND k.card IS NULL
"""

# What one side says, the other says too; only who could not be rewarded is refused alone.
_REFERRALS: Final = """
    SELECT coalesce(r.program_id, t.program_id), coalesce(r.contact_id, t.contact_id), f.what,
        coalesce('referral ' || r.id, 'transaction ' || t.id), f.expected, f.found
    FROM referrals r
    FULL JOIN (SELECT * FROM points_transactions WHERE kind = 'earn' AND cause = 'referral') t
        ON t.contact_id = r.contact_id AND t.id = r.transaction_id
    LEFT JOIN referrals o ON o.contact_id = r.other_id AND o.id = r.id AND o.other_id = r.contact_id
        AND o.role <> r.role
    LEFT JOIN (SELECT * FROM points_transactions WHERE kind = 'reverse' AND cause = 'referral') b
        ON b.contact_id = r.contact_id AND b.reverses = r.transaction_id
    CROSS JOIN LATERAL (VALUES
        ('referral', 'a referral', CASE WHEN r.id IS NULL THEN 'none' END),
        ('referral.other_id', 'the other side', CASE WHEN r.id IS NOT NULL AND o.id IS NULL THEN 'none' END),
        ('referral.program_id', o.program_id::text, r.program_id::text),
        ('referral.points', o.other_points::text, r.points::text),
        ('referral.order_ref', CASE WHEN o.id IS NOT NULL THEN coalesce(o.order_ref, 'none') END,
            coalesce(r.order_ref, 'none')),
        ('referral.status', CASE WHEN r.role = 'referrer' AND r.status = 'refused' AND o.status <> 'pending'
            OR r.role = 'referee' AND o.status = 'refused' AND r.status <> 'pending' THEN r.status ELSE o.status END,
            r.status),
        ('referral.transaction_id', CASE WHEN r.status IN ('qualified', 'reversed') AND r.points > 0
            OR r.transaction_id IS NOT NULL THEN 'a transaction' END, CASE WHEN t.id IS NULL THEN 'none' END),
        ('referral.points_paid', t.points::text, r.points::text),
        ('referral.points_taken_back', coalesce(-b.points, 0)::text, r.points_taken_back::text),
        ('referral.reversal_id', CASE WHEN r.id IS NOT NULL THEN coalesce(b.id::text, 'none') END,
            coalesce(r.reversal_id::text, 'none'))
    ) f (what, expected, found)
    WHERE f.expected <> f.found
    UNION ALL
    SELECT c.program_id, c.contact_id, 'code_directory.contact_id', 'referral code', 'its member', 'none'
    FROM referral_codes c
    LEFT JOIN code_directory d ON d.code = replace(c.code, '-', '') AND d.kind = 'referral'
        AND d.program_id = c.program_id AND d.contact_id = c.contact_id
    WHERE d.code IS NULL
"""

CHECKS: Final = {
    "progress of challenges": _PROGRESS,
    "stamps": _STAMPS,
    "cards": _CARDS,
    "referrals": _REFERRALS,
}
"""By title, in the form of `audit.CHECKS`."""
