"""What the audit asks of rewards and vouchers: that each unit and each use is accounted for."""

from typing import Final

# All that was ever put into a stock is left, or with a redemption that holds it.
_STOCKS: Final = """
    WITH held AS (
        SELECT program_id, reward_id, sum(stock_taken) AS taken FROM redemptions
        WHERE stock_taken > 0 GROUP BY program_id, reward_id
    ), due AS (
        SELECT coalesce(s.program_id, h.program_id) AS program_id, coalesce(s.reward_id, h.reward_id) AS reward_id,
            s.stocked - coalesce(h.taken, 0) AS expected, s.remaining
        FROM reward_stocks s FULL JOIN held h ON h.program_id = s.program_id AND h.reward_id = s.reward_id
    )
    SELECT program_id, NULL::uuid, 'reward.stock', 'reward ' || reward_id, coalesce(expected::text, 'a stock'),
        coalesce(remaining::text, 'none')
    FROM due WHERE expected IS DISTINCT FROM remaining OR remaining IS NULL
"""

_VOUCHERS: Final = """
    WITH used AS (
        SELECT voucher_id, count(*) FILTER (WHERE rolled_back_at IS NULL) AS uses, bool_or(d.use_id IS NULL) AS lost
        FROM voucher_uses u LEFT JOIN voucher_use_directory d USING (voucher_id, ref) GROUP BY voucher_id
    ), listed AS (
        SELECT subject_id, coalesce(contact_id, '00000000-0000-0000-0000-000000000000') AS contact_id
        FROM code_directory WHERE kind = 'voucher'
    ), seen AS (
        SELECT v.program_id, v.contact_id, v.id, v.uses_max - coalesce(u.uses, 0) AS due, v.uses_left,
            c.subject_id IS NULL AS unlisted, coalesce(u.lost, false) AS lost
        FROM vouchers v
        LEFT JOIN used u ON u.voucher_id = v.id
        LEFT JOIN listed c ON c.subject_id = v.id AND c.contact_id = v.contact_id
    )
    SELECT s.program_id, nullif(s.contact_id, '00000000-0000-0000-0000-000000000000'), f.what, 'voucher ' || s.id,
        f.expected, f.found
    FROM seen s CROSS JOIN LATERAL (VALUES
        ('voucher.uses_left', s.due::text, s.uses_left::text),
        ('code_directory.contact_id', 'its member', CASE WHEN s.unlisted THEN 'none' END),
        ('voucher_use_directory.use_id', 'its use', CASE WHEN s.lost THEN 'none' END)
    ) f (what, expected, found)
    WHERE f.expected <> f.found
"""

# The voucher of a redemption is its member's, ended with it, and used up just when the redemption says so.
_ISSUED: Final = """
    SELECT r.program_id, r.contact_id, f.what, 'redemption ' || r.id, f.expected, f.found
    FROM redemptions r
    LEFT JOIN vouchers v ON v.contact_id = r.contact_id AND v.id = r.voucher_id AND v.redemption_id = r.id
    CROSS JOIN LATERAL (VALUES
        ('redemption.voucher', 'a voucher', CASE WHEN r.voucher_id IS NOT NULL AND v.id IS NULL THEN 'none' END),
        ('redemption.status', CASE WHEN v.id IS NULL THEN NULL WHEN v.cancelled_at IS NOT NULL THEN 'reversed'
            WHEN v.uses_left = 0 THEN 'used' ELSE 'issued' END, r.status)
    ) f (what, expected, found)
    WHERE r.voucher_id IS NOT NULL AND f.expected <> f.found
"""

CHECKS: Final = {"stocks": _STOCKS, "vouchers": _VOUCHERS, "vouchers of rewards": _ISSUED}
"""By title, in the form of `audit.CHECKS`."""
