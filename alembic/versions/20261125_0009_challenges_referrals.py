"""Challenges with their stamps and cards, referrals with their codes; who referred is locked with their friend."""

from alembic import op

revision = "20261125_0009"
down_revision = "20261125_0010"
branch_labels = None
depends_on = None

# Constant defaults: no row is rewritten.
COLUMNS = (
    "ALTER TABLE programs ADD COLUMN has_referrals boolean NOT NULL DEFAULT false",
    "ALTER TABLE purchases ADD COLUMN challenges jsonb NOT NULL DEFAULT '[]'",
    "ALTER TABLE loyalty_events ADD COLUMN challenges jsonb NOT NULL DEFAULT '[]'",
    "ALTER TABLE refunds ADD COLUMN challenges jsonb NOT NULL DEFAULT '[]'",
)

CHALLENGES = (
    """
    CREATE TABLE challenges (
        program_id uuid NOT NULL REFERENCES programs,
        id uuid NOT NULL,
        name text NOT NULL,
        event text NOT NULL,
        status text NOT NULL,
        definition jsonb NOT NULL,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        deleted_at timestamptz,
        PRIMARY KEY (program_id, id)
    )
    """,
    # Where a member stands: what their stamps and cards add up to. `runs` are the periods in a row of a streak.
    """
    CREATE TABLE challenge_progress (
        contact_id uuid NOT NULL,
        program_id uuid NOT NULL,
        challenge_id uuid NOT NULL,
        total bigint NOT NULL CHECK (total >= 0),
        due bigint NOT NULL CHECK (due >= 0),
        filled bigint NOT NULL,
        completed bigint NOT NULL CHECK (completed BETWEEN due AND filled),
        runs jsonb NOT NULL,
        known_from bigint,
        updated_at timestamptz NOT NULL,
        PRIMARY KEY (contact_id, program_id, challenge_id)
    ) WITH (fillfactor = 80)
    """,
    # What a fact stamped, and what a refund of it took back, as less than none. `period` is that of a streak.
    """
    CREATE TABLE challenge_stamps (
        contact_id uuid NOT NULL,
        id uuid NOT NULL,
        program_id uuid NOT NULL,
        challenge_id uuid NOT NULL,
        cause text NOT NULL CHECK (cause IN ('purchase', 'event', 'refund')),
        ref text COLLATE "C" NOT NULL,
        refund_ref text COLLATE "C",
        stamps bigint NOT NULL CHECK (stamps <> 0 AND (stamps > 0) = (cause <> 'refund')),
        period bigint,
        terms jsonb,
        occurred_at timestamptz NOT NULL,
        recorded_at timestamptz NOT NULL,
        by text NOT NULL,
        PRIMARY KEY (contact_id, id)
    )
    """,
    """
    CREATE UNIQUE INDEX challenge_stamps_contact_id_ref_key
        ON challenge_stamps (contact_id, program_id, ref, cause, challenge_id, refund_ref) NULLS NOT DISTINCT
    """,
    """
    CREATE INDEX challenge_stamps_period_idx ON challenge_stamps (contact_id, program_id, challenge_id, period)
        WHERE period IS NOT NULL
    """,
    """
    CREATE TRIGGER challenge_stamps_append_only BEFORE UPDATE OR DELETE ON challenge_stamps
        FOR EACH ROW EXECUTE FUNCTION refuse_change()
    """,
    # A card that was filled, by which fact, and what became of its points or its reward. `counted_at`: on what day its
    # points no longer count towards the tiers.
    """
    CREATE TABLE challenge_cards (
        contact_id uuid NOT NULL,
        program_id uuid NOT NULL,
        challenge_id uuid NOT NULL,
        card bigint NOT NULL CHECK (card > 0),
        status text NOT NULL CHECK (status IN ('paid', 'granted', 'unrewarded', 'kept', 'reversed')),
        reason text,
        points bigint NOT NULL CHECK (points >= 0),
        transaction_id uuid,
        reward_id uuid,
        redemption_id uuid,
        cause text NOT NULL,
        ref text COLLATE "C" NOT NULL,
        points_taken_back bigint NOT NULL CHECK (points_taken_back BETWEEN 0 AND points),
        reversal_id uuid,
        counted_at timestamptz,
        ended_at timestamptz,
        filled_at timestamptz NOT NULL,
        recorded_at timestamptz NOT NULL,
        PRIMARY KEY (contact_id, program_id, challenge_id, card)
    )
    """,
)

REFERRALS = (
    """
    CREATE TABLE referral_policies (
        program_id uuid PRIMARY KEY REFERENCES programs,
        referrer_points bigint NOT NULL CHECK (referrer_points >= 0),
        referee_points bigint NOT NULL CHECK (referee_points >= 0),
        min_spend numeric NOT NULL,
        hold_days integer NOT NULL,
        cap jsonb,
        updated_at timestamptz NOT NULL
    )
    """,
    """
    CREATE TABLE referral_codes (
        contact_id uuid NOT NULL,
        program_id uuid NOT NULL,
        code text NOT NULL,
        created_at timestamptz NOT NULL,
        PRIMARY KEY (contact_id, program_id)
    )
    """,
    # One referral is two rows of one id, one for each side with its points; `other_id` is the other contact.
    """
    CREATE TABLE referrals (
        contact_id uuid NOT NULL,
        id uuid NOT NULL,
        program_id uuid NOT NULL,
        role text NOT NULL CHECK (role IN ('referrer', 'referee')),
        other_id uuid NOT NULL,
        code text NOT NULL,
        status text NOT NULL CHECK (status IN ('pending', 'qualified', 'refused', 'reversed')),
        reason text,
        points bigint NOT NULL CHECK (points >= 0),
        other_points bigint NOT NULL,
        min_spend numeric NOT NULL,
        hold_days integer NOT NULL,
        order_ref text,
        transaction_id uuid,
        points_taken_back bigint NOT NULL DEFAULT 0 CHECK (points_taken_back BETWEEN 0 AND points),
        reversal_id uuid,
        counted_at timestamptz,
        created_at timestamptz NOT NULL,
        qualified_at timestamptz,
        activates_at timestamptz,
        ended_at timestamptz,
        by text NOT NULL,
        PRIMARY KEY (contact_id, id)
    )
    """,
    # Somebody is referred once, and who referred them is looked for with each of their orders.
    """
    CREATE UNIQUE INDEX referrals_contact_id_program_id_key ON referrals (contact_id, program_id)
        WHERE role = 'referee'
    """,
)

# As it was made first, with subjects, limits of rules, and who referred the contacts: they are locked with them where
# one of these orders, or any that comes, decides about the reward of both. `referrals` are those as they are under the
# lock: a referrer in it who is not among the accounts was found too late. The function with fewer arguments stays for
# the version that is being replaced.
LOCK = (
    """
    CREATE FUNCTION lock_accounts(
        p_program uuid,          -- NULL: the default program
        p_contacts uuid[],
        p_now timestamptz,
        p_lots_max integer,      -- how many open lots to return for each account
        p_order_refs text[],     -- orders whose owner the plan must know
        p_key bytea,             -- the request's idempotency key, or NULL
        p_subject uuid,          -- a transaction of the one account whose movements the plan must know, or NULL
        p_times timestamptz[],   -- when what may use up limits of rules happened, or NULL
        p_referrals boolean      -- whether the plan is about orders, which may decide about referrals
    ) RETURNS TABLE (
        program_id uuid, program_version bigint, orders jsonb, subject jsonb, referrals jsonb,
        replay_hash bytea, replay_status smallint, replay_body bytea,
        contact_id uuid, status text, available bigint, pending bigint, held bigint, deficit bigint,
        deficit_lot_id uuid, lifetime_earned bigint, lifetime_redeemed bigint,
        qualifying_points bigint, qualifying_spend numeric, qualifying_visits bigint,
        tier_id uuid, tier_since timestamptz, tier_until timestamptz, pin jsonb,
        seq bigint, digest bytea, next_due_at timestamptz, enrolled_at timestamptz,
        expiring jsonb, lots jsonb, holds jsonb, days jsonb, usages jsonb
    ) LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
    #variable_conflict use_column
    DECLARE
        program uuid;
        zone text;
        invited boolean;
        known integer;
        periods text[];
        buyers uuid[] := p_contacts;
        referring boolean;
        deciding boolean;
    BEGIN
        IF p_key IS NOT NULL THEN
            PERFORM pg_advisory_xact_lock(('x' || encode(substr(p_key, 1, 8), 'hex'))::bit(64)::bigint);
            SELECT k.request_hash, k.status, k.body INTO replay_hash, replay_status, replay_body
            FROM idempotency_keys k WHERE k.key = p_key;
            IF FOUND THEN
                RETURN NEXT;
                RETURN;
            END IF;
        END IF;

        IF p_subject IS NOT NULL THEN
            SELECT p.id, p.time_zone, p.settings ->> 'enrolment' = 'explicit', p.has_referrals
            INTO program, zone, invited, referring
            FROM points_transactions t JOIN programs p ON p.id = t.program_id
            WHERE t.contact_id = p_contacts[1] AND t.id = p_subject;
        ELSIF p_program IS NULL THEN
            SELECT p.id, p.time_zone, p.settings ->> 'enrolment' = 'explicit', p.has_referrals
            INTO program, zone, invited, referring FROM programs p WHERE p.is_default;
        ELSE
            SELECT p.id, p.time_zone, p.settings ->> 'enrolment' = 'explicit', p.has_referrals
            INTO program, zone, invited, referring FROM programs p WHERE p.id = p_program;
        END IF;
        IF program IS NULL THEN
            RETURN;
        END IF;
        program_id := program;

        deciding := p_referrals AND referring;
        IF deciding THEN
            SELECT coalesce(array_agg(DISTINCT u.id), '{}') INTO p_contacts FROM (
                SELECT unnest(buyers) AS id
                UNION ALL
                SELECT r.other_id FROM referrals r
                WHERE r.contact_id = ANY (buyers) AND r.program_id = program AND r.role = 'referee'
                    AND (r.status = 'pending' OR r.status = 'qualified' AND r.order_ref = ANY (p_order_refs))
            ) u;
        END IF;

        -- One pass in key order, whether rows are there or not: two passes would wait for each other in a circle.
        -- Accounts are never deleted, so that all of them being there needs no lock to stay true; a single one
        -- can't be taken in the wrong order, and is looked for and locked at once.
        IF cardinality(p_contacts) = 1 THEN
            PERFORM 1 FROM loyalty_accounts a
            WHERE a.contact_id = p_contacts[1] AND a.program_id = program FOR NO KEY UPDATE;
            known := FOUND::integer;
        ELSE
            SELECT count(*) INTO known FROM loyalty_accounts a
            WHERE a.contact_id = ANY (p_contacts) AND a.program_id = program;
            IF known = cardinality(p_contacts) OR invited THEN
                PERFORM 1 FROM loyalty_accounts a
                WHERE a.contact_id = ANY (p_contacts) AND a.program_id = program
                ORDER BY a.contact_id FOR NO KEY UPDATE;
            END IF;
        END IF;
        IF known < cardinality(p_contacts) AND invited IS NOT TRUE THEN
            INSERT INTO loyalty_accounts AS a (contact_id, program_id, enrolled_at, updated_at)
            SELECT c.id, program, p_now, p_now
            FROM (SELECT id FROM contacts WHERE id = ANY (p_contacts) ORDER BY id FOR KEY SHARE) c
            ON CONFLICT (contact_id, program_id) DO UPDATE SET updated_at = a.updated_at WHERE false;
        END IF;

        -- Only now: terms that changed while this waited for the accounts hold for this post.
        SELECT p.version INTO program_version FROM programs p WHERE p.id = program;
        IF cardinality(p_order_refs) > 0 THEN
            SELECT jsonb_object_agg(d.order_ref, d.contact_id) INTO orders FROM order_directory d
            WHERE d.program_id = program AND d.order_ref = ANY (p_order_refs);
        END IF;
        IF p_subject IS NOT NULL THEN
            subject := points_subject(p_contacts[1], p_subject);
        END IF;
        IF deciding THEN
            SELECT jsonb_agg(jsonb_build_array(
                r.contact_id, r.id, r.other_id, r.status, r.points, r.other_points, r.min_spend::text, r.hold_days,
                r.order_ref)) INTO referrals
            FROM referrals r
            WHERE r.contact_id = ANY (buyers) AND r.program_id = program AND r.role = 'referee'
                AND (r.status = 'pending' OR r.status = 'qualified' AND r.order_ref = ANY (p_order_refs));
        END IF;
        RETURN NEXT;
        IF p_times IS NOT NULL THEN
            SELECT array_agg(DISTINCT k.period) INTO periods
            FROM unnest(p_times) AS u (at) CROSS JOIN LATERAL (VALUES
                (to_char(u.at AT TIME ZONE zone, 'YYYY-MM-DD')), (to_char(u.at AT TIME ZONE zone, 'IYYY-"W"IW')),
                (to_char(u.at AT TIME ZONE zone, 'YYYY-MM')), (to_char(u.at AT TIME ZONE zone, 'YYYY')), ('lifetime')
            ) AS k (period);
        END IF;
        RETURN QUERY
        SELECT program, NULL::bigint, NULL::jsonb, NULL::jsonb, NULL::jsonb, NULL::bytea, NULL::smallint, NULL::bytea,
            s.*
        FROM account_states(program, p_contacts, p_now, p_lots_max, periods) s;
    END $$
    """,
)


def upgrade() -> None:
    bind = op.get_bind()
    for statement in (*COLUMNS, *CHALLENGES, *REFERRALS, *LOCK):
        bind.exec_driver_sql(statement)


def downgrade() -> None:
    raise RuntimeError("Stamps that members collected would be lost: restore a backup from before instead.")
