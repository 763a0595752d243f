"""The loyalty engine: ends and beginnings of points, holds, refunds, events, tier windows, limits."""

from alembic import op

revision = "20261125_0000"
down_revision = "20261122_0001"
branch_labels = None
depends_on = None

COLUMNS = (
    # What a membership says; an account without a word is active.
    """
    ALTER TABLE loyalty_accounts
        ADD COLUMN status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'paused', 'closed')),
        ADD COLUMN terms_version text,
        ADD COLUMN tier_until timestamptz,
        ADD COLUMN pin jsonb
    """,
    # `cancels_at`: when points that wait for an event are gone. `fixed`: an end that was given for this lot alone.
    """
    ALTER TABLE points_lots
        ADD COLUMN cancels_at timestamptz,
        ADD COLUMN fixed boolean NOT NULL DEFAULT false
    """,
    "CREATE INDEX points_lots_order_ref_idx ON points_lots (contact_id, order_ref) WHERE order_ref IS NOT NULL",
    # Where accounts wait for time to pass, soonest first: what the night looks for.
    """
    CREATE INDEX loyalty_accounts_next_due_at_idx ON loyalty_accounts (program_id, next_due_at, contact_id)
        WHERE next_due_at IS NOT NULL
    """,
)

FACTS = (
    # The end of a lot may move; what it was before stays written.
    """
    CREATE TABLE points_lot_changes (
        contact_id uuid NOT NULL,
        program_id uuid NOT NULL,
        id uuid NOT NULL,
        lot_id uuid NOT NULL,
        expires_before timestamptz,
        expires_after timestamptz,
        reason text NOT NULL,
        occurred_at timestamptz NOT NULL,
        recorded_at timestamptz NOT NULL,
        by text NOT NULL,
        PRIMARY KEY (contact_id, id)
    )
    """,
    "CREATE INDEX points_lot_changes_lot_id_idx ON points_lot_changes (contact_id, lot_id)",
    """
    CREATE TRIGGER points_lot_changes_append_only BEFORE UPDATE OR DELETE ON points_lot_changes
        FOR EACH ROW EXECUTE FUNCTION refuse_change()
    """,
    # What counts towards the tiers, by local day of the fact: every window is a sum over days.
    """
    CREATE TABLE qualifying_days (
        contact_id uuid NOT NULL,
        program_id uuid NOT NULL,
        local_on date NOT NULL,
        points bigint NOT NULL,
        spend numeric NOT NULL,
        visits bigint NOT NULL,
        PRIMARY KEY (contact_id, program_id, local_on)
    ) WITH (fillfactor = 80)
    """,
    # What a member has had from a rule in a period.
    """
    CREATE TABLE rule_usages (
        contact_id uuid NOT NULL,
        program_id uuid NOT NULL,
        rule_id uuid NOT NULL,
        period text COLLATE "C" NOT NULL,
        points bigint NOT NULL,
        times bigint NOT NULL,
        PRIMARY KEY (contact_id, program_id, rule_id, period)
    ) WITH (fillfactor = 80)
    """,
    """
    CREATE TABLE holds (
        contact_id uuid NOT NULL,
        id uuid NOT NULL,
        program_id uuid NOT NULL,
        points bigint NOT NULL CHECK (points > 0),
        captured bigint NOT NULL DEFAULT 0 CHECK (captured BETWEEN 0 AND points),
        status text NOT NULL CHECK (status IN ('held', 'captured', 'released', 'expired')),
        reference text,
        expires_at timestamptz NOT NULL,
        created_at timestamptz NOT NULL,
        resolved_at timestamptz,
        PRIMARY KEY (contact_id, id)
    )
    """,
    "CREATE INDEX holds_open_idx ON holds (contact_id, program_id, expires_at) WHERE status = 'held'",
    """
    CREATE TABLE refunds (
        contact_id uuid NOT NULL,
        program_id uuid NOT NULL,
        order_ref text NOT NULL,
        refund_ref text NOT NULL,
        id uuid NOT NULL,
        request_hash bytea NOT NULL,
        content jsonb NOT NULL,
        amount numeric NOT NULL,
        exact_points numeric NOT NULL,
        points_due bigint NOT NULL,
        points_taken_back bigint NOT NULL,
        points_returned bigint NOT NULL,
        points_returned_expired bigint NOT NULL,
        counted_points bigint NOT NULL,
        counted_at timestamptz,
        counted_spend numeric NOT NULL,
        counted_visits bigint NOT NULL,
        transaction_id uuid,
        return_transaction_id uuid,
        occurred_at timestamptz NOT NULL,
        recorded_at timestamptz NOT NULL,
        by text NOT NULL,
        PRIMARY KEY (contact_id, program_id, order_ref, refund_ref),
        CHECK (points_taken_back BETWEEN 0 AND points_due)
    )
    """,
    """
    CREATE TRIGGER refunds_append_only BEFORE UPDATE OR DELETE ON refunds
        FOR EACH ROW EXECUTE FUNCTION refuse_change()
    """,
    """
    CREATE TABLE loyalty_events (
        contact_id uuid NOT NULL,
        program_id uuid NOT NULL,
        event text COLLATE "C" NOT NULL,
        ref text COLLATE "C" NOT NULL,
        id uuid NOT NULL,
        request_hash bytea NOT NULL,
        order_ref text,
        transaction_id uuid,
        points bigint NOT NULL,
        rules jsonb NOT NULL,
        occurred_at timestamptz NOT NULL,
        recorded_at timestamptz NOT NULL,
        by text NOT NULL,
        PRIMARY KEY (contact_id, program_id, event, ref)
    )
    """,
    """
    CREATE TRIGGER loyalty_events_append_only BEFORE UPDATE OR DELETE ON loyalty_events
        FOR EACH ROW EXECUTE FUNCTION refuse_change()
    """,
    # Which local midnights of a program have been worked off.
    """
    CREATE TABLE program_nights (
        program_id uuid NOT NULL REFERENCES programs,
        night_on date NOT NULL,
        started_at timestamptz NOT NULL,
        finished_at timestamptz,
        PRIMARY KEY (program_id, night_on)
    )
    """,
)

# One order may return spent points several times, so only what undoes a whole transaction is unique.
REVERSALS = (
    "DROP INDEX points_transactions_contact_id_reverses_key",
    """
    CREATE UNIQUE INDEX points_transactions_contact_id_reverses_key
        ON points_transactions (contact_id, reverses) WHERE kind = 'reverse' AND cause = 'reversal'
    """,
    """
    CREATE INDEX points_transactions_contact_id_reverses_idx
        ON points_transactions (contact_id, reverses) WHERE reverses IS NOT NULL
    """,
)

# What counted so far, by the local day on which it did. Points count when they become available, less what a person
# has taken away from what counts; money and visits count with their purchase.
BACKFILL = (
    """
    INSERT INTO qualifying_days (contact_id, program_id, local_on, points, spend, visits)
    SELECT f.contact_id, f.program_id, (f.at AT TIME ZONE p.time_zone)::date, sum(f.points), sum(f.spend), sum(f.visits)
    FROM (
        SELECT m.contact_id, m.program_id, m.occurred_at AS at, m.points, 0 AS spend, 0 AS visits
        FROM points_movements m
        JOIN points_lots l ON l.contact_id = m.contact_id AND l.program_id = m.program_id AND l.id = m.lot_id
        WHERE l.qualifying AND m.to_bucket = 'available' AND m.from_bucket IN ('issued', 'pending')
        UNION ALL
        SELECT contact_id, program_id, occurred_at, 0, basis, 1 FROM purchases
    ) f JOIN programs p ON p.id = f.program_id
    GROUP BY 1, 2, 3
    """,
    # An adjustment says nowhere whether it counted: what is missing from the sum is what did.
    """
    INSERT INTO qualifying_days (contact_id, program_id, local_on, points, spend, visits)
    SELECT a.contact_id, a.program_id, (a.updated_at AT TIME ZONE p.time_zone)::date,
        a.qualifying_points - coalesce(d.points, 0), 0, 0
    FROM loyalty_accounts a JOIN programs p ON p.id = a.program_id
    LEFT JOIN (
        SELECT contact_id, program_id, sum(points) AS points FROM qualifying_days GROUP BY 1, 2
    ) d USING (contact_id, program_id)
    WHERE a.qualifying_points <> coalesce(d.points, 0)
    ON CONFLICT (contact_id, program_id, local_on) DO UPDATE SET points = qualifying_days.points + excluded.points
    """,
)

LOT = """
    l.id, l.amount, l.remaining, l.held, l.active, l.qualifying, l.earned_at, l.activates_at, l.cancels_at,
    l.expires_at, l.fixed, l.order_ref
"""

# What a plan or a balance needs to know of accounts. `lots` holds the first open lots in the order of spending, or all
# of them where something is due at `p_now` that nobody has written down yet, and then `holds` all open ones.
# The function of this name with fewer arguments stays for the version that is being replaced.
STATE = (
    f"""
    CREATE FUNCTION account_states(
        p_program uuid, p_contacts uuid[], p_now timestamptz, p_lots_max integer, p_periods text[]
    )
    RETURNS TABLE (
        contact_id uuid, status text, available bigint, pending bigint, held bigint, deficit bigint,
        deficit_lot_id uuid, lifetime_earned bigint, lifetime_redeemed bigint,
        qualifying_points bigint, qualifying_spend numeric, qualifying_visits bigint,
        tier_id uuid, tier_since timestamptz, tier_until timestamptz, pin jsonb,
        seq bigint, digest bytea, next_due_at timestamptz, enrolled_at timestamptz,
        expiring jsonb, lots jsonb, holds jsonb, days jsonb, usages jsonb
    ) LANGUAGE sql STABLE AS $$
        SELECT a.contact_id, a.status, a.available, a.pending, a.held, a.deficit,
            CASE WHEN a.deficit > 0 OR p_lots_max > 0 THEN (
                SELECT l.id FROM points_lots l
                WHERE l.contact_id = a.contact_id AND l.program_id = a.program_id AND l.kind = 'deficit'
            ) END,
            a.lifetime_earned, a.lifetime_redeemed,
            a.qualifying_points, a.qualifying_spend, a.qualifying_visits,
            a.tier_id, a.tier_since, a.tier_until, a.pin, a.seq, a.digest, a.next_due_at, a.enrolled_at,
            CASE WHEN a.next_due_at IS NOT NULL THEN (
                SELECT jsonb_agg(jsonb_build_array(e.points, e.expires_at) ORDER BY e.expires_at) FROM (
                    SELECT sum(l.remaining) AS points, l.expires_at FROM points_lots l
                    WHERE l.contact_id = a.contact_id AND l.program_id = a.program_id
                        AND l.remaining > 0 AND l.expires_at IS NOT NULL
                    GROUP BY l.expires_at
                ) e
            ) END,
            CASE WHEN p_lots_max > 0 OR a.next_due_at <= p_now THEN (
                SELECT jsonb_agg(jsonb_build_array({LOT})) FROM (
                    SELECT * FROM points_lots l
                    WHERE l.contact_id = a.contact_id AND l.program_id = a.program_id AND l.remaining > 0
                    ORDER BY l.expires_at, l.earned_at, l.id
                    LIMIT CASE WHEN a.next_due_at <= p_now THEN NULL ELSE p_lots_max END
                ) l
            ) END,
            CASE WHEN a.held > 0 AND a.next_due_at <= p_now THEN (
                SELECT jsonb_agg(jsonb_build_array(h.id, h.expires_at, (
                    SELECT jsonb_agg(jsonb_build_array(m.points, jsonb_build_array({LOT})) ORDER BY m.seq)
                    FROM points_transactions t
                    JOIN points_movements m ON m.contact_id = t.contact_id AND m.program_id = t.program_id
                        AND m.seq BETWEEN t.first_seq AND t.seq
                    JOIN points_lots l
                        ON l.contact_id = m.contact_id AND l.program_id = m.program_id AND l.id = m.lot_id
                    WHERE t.contact_id = h.contact_id AND t.id = h.id
                )))
                FROM holds h
                WHERE h.contact_id = a.contact_id AND h.program_id = a.program_id AND h.status = 'held'
            ) END,
            CASE WHEN p.tier_policy ->> 'window' IN ('calendar_year', 'rolling_months') THEN (
                SELECT jsonb_agg(jsonb_build_array(d.local_on, d.points, d.spend::text, d.visits))
                FROM qualifying_days d WHERE d.contact_id = a.contact_id AND d.program_id = a.program_id
            ) END,
            CASE WHEN p_periods IS NOT NULL THEN (
                SELECT jsonb_agg(jsonb_build_array(u.rule_id, u.period, u.points, u.times)) FROM rule_usages u
                WHERE u.contact_id = a.contact_id AND u.program_id = a.program_id AND u.period = ANY (p_periods)
            ) END
        FROM programs p JOIN loyalty_accounts a ON a.program_id = p.id
        WHERE p.id = p_program AND a.contact_id = ANY (p_contacts)
    $$
    """,
)

# What is known of an earlier transaction by a post that is about it.
SUBJECT = (
    f"""
    CREATE FUNCTION points_subject(p_contact uuid, p_transaction uuid) RETURNS jsonb LANGUAGE sql STABLE AS $$
        SELECT jsonb_build_object(
            'cause', t.cause, 'points', t.points, 'order_ref', t.order_ref, 'reason', t.reason,
            'reversed', EXISTS (
                SELECT 1 FROM points_transactions r
                WHERE r.contact_id = t.contact_id AND r.reverses = t.id AND r.kind = 'reverse'
                    AND r.cause = 'reversal'
            ),
            'hold', (SELECT to_jsonb(h) FROM holds h WHERE h.contact_id = t.contact_id AND h.id = t.id),
            'movements', (
                SELECT jsonb_agg(jsonb_build_array(
                    m.from_bucket, m.to_bucket, m.points, jsonb_build_array({LOT})) ORDER BY m.seq)
                FROM points_movements m JOIN points_lots l
                    ON l.contact_id = m.contact_id AND l.program_id = m.program_id AND l.id = m.lot_id
                WHERE m.contact_id = t.contact_id AND m.program_id = t.program_id
                    AND m.seq BETWEEN t.first_seq AND t.seq
            ),
            'returned', (
                SELECT jsonb_object_agg(b.lot_id, b.points) FROM (
                    SELECT m.lot_id, sum(m.points) AS points
                    FROM points_transactions r JOIN points_movements m
                        ON m.contact_id = r.contact_id AND m.program_id = r.program_id
                        AND m.seq BETWEEN r.first_seq AND r.seq
                    WHERE r.contact_id = t.contact_id AND r.reverses = t.id AND m.from_bucket = 'redeemed'
                    GROUP BY m.lot_id
                ) b
            )
        )
        FROM points_transactions t WHERE t.contact_id = p_contact AND t.id = p_transaction
    $$
    """,
)


def upgrade() -> None:
    bind = op.get_bind()
    for statement in (*COLUMNS, *FACTS, *REVERSALS, *BACKFILL, *STATE, *SUBJECT):
        bind.exec_driver_sql(statement)


def downgrade() -> None:
    raise RuntimeError("Ends, holds and refunds of points can't be forgotten: restore the backup of before instead.")
