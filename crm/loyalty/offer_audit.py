"""What the audit asks of offers: that points, codes and counts have their claims, and claims what they gave."""

from typing import Final

_POINTS: Final = """
    SELECT coalesce(t.program_id, c.program_id), coalesce(t.contact_id, c.contact_id), f.what,
        coalesce('claim ' || c.id, 'transaction ' || t.id), f.expected, f.found
    FROM (SELECT * FROM offer_claims WHERE transaction_id IS NOT NULL) c
    FULL JOIN (SELECT * FROM points_transactions WHERE kind = 'earn' AND cause = 'offer') t
        ON t.contact_id = c.contact_id AND t.id = c.transaction_id
    CROSS JOIN LATERAL (VALUES
        ('offer_claim', 'a claim', CASE WHEN c.id IS NULL THEN 'none' END),
        ('offer_claim.transaction_id', 'a transaction', CASE WHEN t.id IS NULL THEN 'none' END),
        ('offer_claim.points', t.points::text, c.points::text)
    ) f (what, expected, found)
    WHERE f.expected <> f.found
"""

_CLAIMS: Final = """
    WITH numbered AS (
        SELECT *, row_number() OVER (PARTITION BY contact_id, offer_id ORDER BY number) AS due FROM offer_claims
    ), told AS (
        SELECT contact_id, data ->> 'claim_id' AS claim_id FROM interactions
        WHERE channel = 'loyalty' AND kind = 'offer.claimed'
    )
    SELECT c.program_id, c.contact_id, f.what, 'claim ' || c.id, f.expected, f.found
    FROM numbered c
    LEFT JOIN vouchers v ON v.contact_id = c.contact_id AND v.id = c.voucher_id
    LEFT JOIN redemptions r ON r.contact_id = c.contact_id AND r.id = c.redemption_id
    LEFT JOIN told i ON i.contact_id = c.contact_id AND i.claim_id = c.id::text
    CROSS JOIN LATERAL (VALUES
        ('offer_claim.number', c.due::text, c.number::text),
        ('offer_claim.voucher_id', 'a voucher',
            CASE WHEN v.id IS NULL AND (c.voucher_id IS NOT NULL OR c.benefit ->> 'kind' = 'voucher')
                THEN 'none' END),
        ('offer_claim.redemption_id', 'a reward',
            CASE WHEN r.id IS NULL AND (c.redemption_id IS NOT NULL OR c.benefit ->> 'kind' = 'reward')
                THEN 'none' END),
        ('offer_claim.timeline', 'offer.claimed', CASE WHEN i.claim_id IS NULL THEN 'none' END)
    ) f (what, expected, found)
    WHERE f.expected <> f.found
"""

# Of an offer with a maximum, every claim is counted; what has none has no count.
_COUNTS: Final = """
    WITH claimed AS (
        SELECT program_id, offer_id, count(*) AS claims FROM offer_claims GROUP BY program_id, offer_id
    )
    SELECT o.program_id, NULL::uuid, 'offer.claimed', 'offer ' || o.id,
        CASE WHEN o.definition ->> 'claims_max' IS NULL THEN 'no count' ELSE coalesce(c.claims, 0)::text END,
        coalesce(n.claimed::text, 'no count')
    FROM offers o
    LEFT JOIN claimed c ON c.program_id = o.program_id AND c.offer_id = o.id
    LEFT JOIN offer_counts n ON n.program_id = o.program_id AND n.offer_id = o.id
    WHERE n.claimed IS DISTINCT FROM CASE WHEN o.definition ->> 'claims_max' IS NOT NULL THEN coalesce(c.claims, 0) END
"""

_CODES: Final = """
    WITH listed AS (
        SELECT contact_id, subject_id AS offer_id, program_id, code FROM code_directory WHERE kind = 'offer'
    )
    SELECT coalesce(r.program_id, d.program_id), contact_id, 'code_directory.contact_id', 'offer ' || offer_id,
        CASE WHEN r.code IS NULL THEN 'no code' ELSE 'its member' END,
        CASE WHEN d.code IS NULL THEN 'none' ELSE 'one' END
    FROM (SELECT * FROM offer_recipients WHERE code IS NOT NULL) r
    FULL JOIN listed d USING (contact_id, offer_id)
    WHERE r.code IS NULL OR d.code IS NULL
"""

CHECKS: Final = {"offers' points": _POINTS, "claims": _CLAIMS, "counts of claims": _COUNTS, "offers' codes": _CODES}
"""By title, in the form of `audit.CHECKS`."""
