"""People, the timeline and the ledger."""

from alembic import op

revision = "20261122_0000"
down_revision = None
branch_labels = None
depends_on = None

EXTENSIONS = ("CREATE EXTENSION IF NOT EXISTS pg_trgm",)

APPEND_ONLY = (
    """
    CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
    END $$
    """,
)

ACCESS = (
    """
    CREATE TABLE api_keys (
        id uuid PRIMARY KEY,
        name text NOT NULL,
        prefix text NOT NULL,
        hash bytea NOT NULL UNIQUE,
        scopes jsonb NOT NULL,
        created_at timestamptz NOT NULL,
        created_by text NOT NULL,
        expires_at timestamptz,
        revoked_at timestamptz,
        last_used_at timestamptz
    )
    """,
    """
    CREATE TABLE idempotency_keys (
        key bytea PRIMARY KEY,
        contact_id uuid,
        request_hash bytea NOT NULL,
        status smallint NOT NULL,
        body bytea NOT NULL,
        created_at timestamptz NOT NULL
    )
    """,
    "CREATE INDEX idempotency_keys_created_at_idx ON idempotency_keys USING brin (created_at)",
    "CREATE INDEX idempotency_keys_contact_id_idx ON idempotency_keys (contact_id) WHERE contact_id IS NOT NULL",
)

PEOPLE = (
    # Without case and accents, so that "Muller" finds "Müller". The space in front lets one pattern, '% sa%', find the
    # beginning of every word.
    """
    CREATE FUNCTION folded(p_text text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
        SELECT ' ' || translate(
            lower(regexp_replace(normalize(p_text, NFKD), '[\\u0300-\\u036f]', '', 'g')), 'đøłς', E'dol\\u03c3'
        )
    $$
    """,
    """
    CREATE TABLE contacts (
        id uuid PRIMARY KEY,
        name text NOT NULL,
        name_folded text NOT NULL GENERATED ALWAYS AS (folded(name)) STORED,
        given_name text,
        family_name text,
        locale text,
        time_zone text,
        birth_on date,
        attributes jsonb NOT NULL DEFAULT '{}',
        version bigint NOT NULL DEFAULT 1,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL
    )
    """,
    "CREATE INDEX contacts_name_folded_idx ON contacts USING gin (name_folded gin_trgm_ops)",
    """
    CREATE TABLE contact_identities (
        contact_id uuid NOT NULL,
        kind text COLLATE "C" NOT NULL,
        account text COLLATE "C" NOT NULL DEFAULT '',
        value text COLLATE "C" NOT NULL,
        raw text NOT NULL,
        verified boolean NOT NULL DEFAULT false,
        position smallint NOT NULL DEFAULT 0,
        created_at timestamptz NOT NULL,
        PRIMARY KEY (contact_id, kind, account, value)
    )
    """,
    # Collated by bytes, so that the primary key also finds a value by its beginning.
    """
    CREATE TABLE identity_directory (
        value text COLLATE "C" NOT NULL,
        kind text COLLATE "C" NOT NULL,
        account text COLLATE "C" NOT NULL DEFAULT '',
        contact_id uuid NOT NULL,
        PRIMARY KEY (value, kind, account)
    )
    """,
    """
    CREATE TABLE contact_tags (
        contact_id uuid NOT NULL,
        tag text COLLATE "C" NOT NULL,
        created_at timestamptz NOT NULL,
        PRIMARY KEY (contact_id, tag)
    )
    """,
    "CREATE INDEX contact_tags_tag_contact_id_idx ON contact_tags (tag, contact_id)",
    # Contacts whose name holds or resembles a text, or of whose identities one begins with one of `p_beginnings`,
    # best first. A function, because only a function can bring its own threshold to the operator that the index knows.
    """
    CREATE FUNCTION find_contacts(
        p_name text,             -- folded
        p_pattern text,          -- of the folded names that hold it
        p_values text[],         -- identities in canonical form
        p_beginnings text[],     -- of identities
        p_ends text[],           -- for each beginning, the least value behind all that begin so
        p_tag text,              -- NULL: whatever their tags
        p_rank integer,          -- only what comes after this rank and id; NULL: from the first
        p_id uuid,
        p_limit integer
    ) RETURNS TABLE (id uuid, rank integer)
    LANGUAGE sql STABLE ROWS 50
    SET pg_trgm.word_similarity_threshold = 0.4
    SET max_parallel_workers_per_gather = 0 -- starting workers takes longer than the whole search
    AS $$
        WITH named AS (
            SELECT c.id, c.name_folded LIKE p_pattern AS holds, word_similarity(p_name, c.name_folded) AS words,
                similarity(p_name, c.name_folded) AS whole
            FROM contacts c
            WHERE c.name_folded LIKE p_pattern OR c.name_folded %> p_name
        ), hits AS (
            SELECT n.id, (CASE WHEN n.holds THEN 5000 ELSE 0 END + 5000 * n.words + 1000 * n.whole)::integer AS rank
            FROM named n
            UNION ALL
            SELECT d.contact_id, 9000
            FROM unnest(p_beginnings, p_ends) AS b (first, beyond)
            JOIN identity_directory d ON d.value >= b.first AND d.value < b.beyond
            UNION ALL
            SELECT d.contact_id, 20000 FROM identity_directory d WHERE d.value = ANY (p_values)
        ), ranked AS (
            SELECT h.id, max(h.rank) AS rank FROM hits h GROUP BY h.id
        )
        SELECT r.id, r.rank FROM ranked r
        WHERE (p_rank IS NULL OR (r.rank, r.id) < (p_rank, p_id))
            AND (p_tag IS NULL OR EXISTS (
                SELECT FROM contact_tags t WHERE t.contact_id = r.id AND t.tag = p_tag
            ))
        ORDER BY r.rank DESC, r.id DESC
        LIMIT p_limit
    $$
    """,
)

TIMELINE = (
    """
    CREATE TABLE interactions (
        contact_id uuid NOT NULL,
        id uuid NOT NULL,
        occurred_at timestamptz NOT NULL,
        recorded_at timestamptz NOT NULL,
        channel text NOT NULL,
        kind text NOT NULL,
        direction text,
        subject text,
        body text,
        data jsonb NOT NULL DEFAULT '{}',
        source text,
        external_id text,
        thread_id uuid,
        case_id uuid,
        by text NOT NULL,
        xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
        PRIMARY KEY (contact_id, id)
    )
    """,
    "CREATE INDEX interactions_timeline_idx ON interactions (contact_id, occurred_at DESC, id DESC)",
    """
    CREATE UNIQUE INDEX interactions_contact_id_source_external_id_key
        ON interactions (contact_id, source, external_id) WHERE external_id IS NOT NULL
    """,
    "CREATE INDEX interactions_xid_id_idx ON interactions (xid, id)",
    """
    CREATE TRIGGER interactions_append_only BEFORE UPDATE OR DELETE ON interactions
        FOR EACH ROW EXECUTE FUNCTION refuse_change()
    """,
    """
    CREATE TABLE interaction_directory (
        source text NOT NULL,
        external_id text NOT NULL,
        contact_id uuid NOT NULL,
        interaction_id uuid NOT NULL,
        PRIMARY KEY (source, external_id)
    )
    """,
)

PROGRAMS = (
    """
    CREATE TABLE programs (
        id uuid PRIMARY KEY,
        name text NOT NULL,
        currency text NOT NULL,
        time_zone text NOT NULL,
        is_default boolean NOT NULL DEFAULT false,
        settings jsonb NOT NULL DEFAULT '{}',
        tier_policy jsonb NOT NULL DEFAULT '{}',
        version bigint NOT NULL DEFAULT 1,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL
    )
    """,
    "CREATE UNIQUE INDEX programs_is_default_key ON programs (is_default) WHERE is_default",
    """
    CREATE TABLE earning_rules (
        program_id uuid NOT NULL REFERENCES programs,
        id uuid NOT NULL,
        version bigint NOT NULL,
        name text NOT NULL,
        kind text NOT NULL,
        status text NOT NULL,
        definition jsonb NOT NULL,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        deleted_at timestamptz,
        PRIMARY KEY (program_id, id)
    )
    """,
    """
    CREATE TABLE tiers (
        program_id uuid NOT NULL REFERENCES programs,
        id uuid NOT NULL,
        name text NOT NULL,
        threshold bigint NOT NULL CHECK (threshold >= 0),
        benefits jsonb NOT NULL DEFAULT '{}',
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        PRIMARY KEY (program_id, id),
        UNIQUE (program_id, threshold)
    )
    """,
)

# Enumerations and one CHECK a table: an expression in a CHECK is compiled anew for every statement that writes.
LEDGER = (
    """
    CREATE TYPE points_bucket AS ENUM (
        'issued', 'pending', 'available', 'held', 'redeemed', 'expired', 'revoked', 'transferred')
    """,
    """
    CREATE TYPE points_transaction_kind AS ENUM (
        'earn', 'redeem', 'hold', 'capture', 'release', 'adjust', 'expire', 'activate', 'transfer', 'reverse')
    """,
    "CREATE TYPE points_lot_kind AS ENUM ('regular', 'deficit')",
    # The row every post locks. fillfactor leaves room for heap-only updates: no indexed column changes in a post.
    """
    CREATE TABLE loyalty_accounts (
        contact_id uuid NOT NULL,
        program_id uuid NOT NULL,
        available bigint NOT NULL DEFAULT 0,
        pending bigint NOT NULL DEFAULT 0,
        held bigint NOT NULL DEFAULT 0,
        deficit bigint NOT NULL DEFAULT 0,
        lifetime_earned bigint NOT NULL DEFAULT 0,
        lifetime_redeemed bigint NOT NULL DEFAULT 0,
        qualifying_points bigint NOT NULL DEFAULT 0,
        qualifying_spend numeric NOT NULL DEFAULT 0,
        qualifying_visits bigint NOT NULL DEFAULT 0,
        tier_id uuid,
        tier_since timestamptz,
        seq bigint NOT NULL DEFAULT 0,
        digest bytea NOT NULL DEFAULT '\\x',
        next_due_at timestamptz,
        enrolled_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        PRIMARY KEY (contact_id, program_id),
        CHECK (pending >= 0 AND held >= 0 AND deficit >= 0 AND available >= -deficit)
    ) WITH (fillfactor = 70)
    """,
    """
    CREATE TABLE points_lots (
        contact_id uuid NOT NULL,
        program_id uuid NOT NULL,
        id uuid NOT NULL,
        kind points_lot_kind NOT NULL,
        amount bigint NOT NULL,
        remaining bigint NOT NULL,
        held bigint NOT NULL DEFAULT 0,
        active boolean NOT NULL,
        qualifying boolean NOT NULL,
        earned_at timestamptz NOT NULL,
        activates_at timestamptz,
        expires_at timestamptz,
        order_ref text,
        PRIMARY KEY (contact_id, program_id, id),
        CHECK (CASE kind
            WHEN 'regular' THEN amount > 0 AND remaining >= 0 AND held >= 0 AND remaining + held <= amount
            ELSE amount = 0 AND remaining <= 0 AND held = 0
        END)
    )
    """,
    # In the order in which points are spent: soonest expiry first, never-expiring last, then the oldest.
    """
    CREATE INDEX points_lots_open_idx ON points_lots (contact_id, program_id, expires_at, earned_at, id)
        INCLUDE (remaining) WHERE remaining > 0
    """,
    """
    CREATE UNIQUE INDEX points_lots_deficit_key ON points_lots (contact_id, program_id) WHERE kind = 'deficit'
    """,
    """
    CREATE TABLE points_transactions (
        contact_id uuid NOT NULL,
        program_id uuid NOT NULL,
        id uuid NOT NULL,
        first_seq bigint NOT NULL,
        seq bigint NOT NULL,
        kind points_transaction_kind NOT NULL,
        cause text NOT NULL,
        points bigint NOT NULL,
        reason text,
        order_ref text,
        reverses uuid,
        rules jsonb,
        available_after bigint NOT NULL,
        occurred_at timestamptz NOT NULL,
        recorded_at timestamptz NOT NULL,
        by text NOT NULL,
        PRIMARY KEY (contact_id, id)
    )
    """,
    """
    CREATE UNIQUE INDEX points_transactions_contact_id_program_id_seq_key
        ON points_transactions (contact_id, program_id, seq)
    """,
    """
    CREATE UNIQUE INDEX points_transactions_contact_id_reverses_key
        ON points_transactions (contact_id, reverses) WHERE reverses IS NOT NULL AND kind = 'reverse'
    """,
    """
    CREATE TABLE points_movements (
        contact_id uuid NOT NULL,
        program_id uuid NOT NULL,
        seq bigint NOT NULL,
        transaction_id uuid NOT NULL,
        lot_id uuid NOT NULL,
        from_bucket points_bucket NOT NULL,
        to_bucket points_bucket NOT NULL,
        points bigint NOT NULL,
        available_after bigint NOT NULL,
        pending_after bigint NOT NULL,
        held_after bigint NOT NULL,
        occurred_at timestamptz NOT NULL,
        recorded_at timestamptz NOT NULL,
        digest bytea NOT NULL,
        PRIMARY KEY (contact_id, program_id, seq),
        CHECK (points > 0 AND from_bucket <> to_bucket)
    )
    """,
    """
    CREATE TRIGGER points_transactions_append_only BEFORE UPDATE OR DELETE ON points_transactions
        FOR EACH ROW EXECUTE FUNCTION refuse_change()
    """,
    """
    CREATE TRIGGER points_movements_append_only BEFORE UPDATE OR DELETE ON points_movements
        FOR EACH ROW EXECUTE FUNCTION refuse_change()
    """,
    # An order belongs to one contact, whether it was first seen as a purchase or as a redemption.
    """
    CREATE TABLE order_directory (
        program_id uuid NOT NULL,
        order_ref text NOT NULL,
        contact_id uuid NOT NULL,
        PRIMARY KEY (program_id, order_ref)
    )
    """,
    """
    CREATE TABLE purchases (
        contact_id uuid NOT NULL,
        program_id uuid NOT NULL,
        order_ref text NOT NULL,
        transaction_id uuid,
        occurred_at timestamptz NOT NULL,
        recorded_at timestamptz NOT NULL,
        currency text NOT NULL,
        total numeric NOT NULL,
        basis numeric NOT NULL,
        points bigint NOT NULL,
        request_hash bytea NOT NULL,
        content jsonb NOT NULL,
        rules jsonb NOT NULL,
        exact_points jsonb NOT NULL,
        PRIMARY KEY (contact_id, program_id, order_ref)
    )
    """,
    """
    CREATE INDEX purchases_contact_id_program_id_occurred_at_idx
        ON purchases (contact_id, program_id, occurred_at DESC, order_ref DESC)
    """,
    """
    CREATE TABLE redemptions (
        contact_id uuid NOT NULL,
        id uuid NOT NULL,
        program_id uuid NOT NULL,
        points bigint NOT NULL CHECK (points > 0),
        order_ref text,
        status text NOT NULL CHECK (status IN ('redeemed', 'reversed')),
        occurred_at timestamptz NOT NULL,
        recorded_at timestamptz NOT NULL,
        reversal_id uuid,
        PRIMARY KEY (contact_id, id)
    )
    """,
    """
    CREATE UNIQUE INDEX redemptions_contact_id_program_id_order_ref_key
        ON redemptions (contact_id, program_id, order_ref) WHERE order_ref IS NOT NULL
    """,
)

# What a plan or a balance needs to know of accounts. `lots` holds the first open lots in the order of spending, or all
# of them where something is due at `p_now` that nobody has written down yet.
STATE = (
    """
    CREATE FUNCTION account_states(p_program uuid, p_contacts uuid[], p_now timestamptz, p_lots_max integer)
    RETURNS TABLE (
        contact_id uuid, available bigint, pending bigint, held bigint, deficit bigint, deficit_lot_id uuid,
        lifetime_earned bigint, lifetime_redeemed bigint,
        qualifying_points bigint, qualifying_spend numeric, qualifying_visits bigint,
        tier_id uuid, tier_since timestamptz, seq bigint, digest bytea, next_due_at timestamptz,
        expiring jsonb, lots jsonb
    ) LANGUAGE sql STABLE AS $$
        SELECT a.contact_id, a.available, a.pending, a.held, a.deficit,
            CASE WHEN a.deficit > 0 OR p_lots_max > 0 THEN (
                SELECT l.id FROM points_lots l
                WHERE l.contact_id = a.contact_id AND l.program_id = a.program_id AND l.kind = 'deficit'
            ) END,
            a.lifetime_earned, a.lifetime_redeemed,
            a.qualifying_points, a.qualifying_spend, a.qualifying_visits,
            a.tier_id, a.tier_since, a.seq, a.digest, a.next_due_at,
            CASE WHEN a.next_due_at IS NOT NULL THEN (
                SELECT jsonb_agg(jsonb_build_array(e.points, e.expires_at) ORDER BY e.expires_at) FROM (
                    SELECT sum(l.remaining) AS points, l.expires_at FROM points_lots l
                    WHERE l.contact_id = a.contact_id AND l.program_id = a.program_id
                        AND l.remaining > 0 AND l.expires_at IS NOT NULL
                    GROUP BY l.expires_at
                ) e
            ) END,
            CASE WHEN p_lots_max > 0 OR a.next_due_at <= p_now THEN (
                SELECT jsonb_agg(jsonb_build_array(
                    o.id, o.amount, o.remaining, o.held, o.active, o.qualifying,
                    o.earned_at, o.activates_at, o.expires_at, o.order_ref
                )) FROM (
                    SELECT * FROM points_lots l
                    WHERE l.contact_id = a.contact_id AND l.program_id = a.program_id AND l.remaining > 0
                    ORDER BY l.expires_at, l.earned_at, l.id
                    LIMIT CASE WHEN a.next_due_at <= p_now THEN NULL ELSE p_lots_max END
                ) o
            ) END
        FROM loyalty_accounts a
        WHERE a.program_id = p_program AND a.contact_id = ANY (p_contacts)
    $$
    """,
)

# Locks the accounts of a post in key order, opens those that are missing, and says in the same round trip what the
# plan needs to know. Each statement of a volatile function takes a new snapshot, so what is read below the lock is
# what the last holder committed: a single SELECT … FOR UPDATE would read the lots of before its wait.
# The first row is the header (its contact_id is NULL), the others are accounts.
# Left to itself the planner makes new plans for arrays at each call, which costs ten times what the calls do.
LOCK = (
    """
    CREATE FUNCTION lock_accounts(
        p_program uuid,          -- NULL: the default program
        p_contacts uuid[],
        p_now timestamptz,
        p_lots_max integer,      -- how many open lots to return for each account
        p_order_refs text[],     -- orders whose owner the plan must know
        p_key bytea,             -- the request's idempotency key, or NULL
        p_subject uuid           -- a transaction of the one account whose movements the plan must know, or NULL
    ) RETURNS TABLE (
        program_id uuid, program_version bigint, orders jsonb, subject jsonb,
        replay_hash bytea, replay_status smallint, replay_body bytea,
        contact_id uuid, available bigint, pending bigint, held bigint, deficit bigint, deficit_lot_id uuid,
        lifetime_earned bigint, lifetime_redeemed bigint,
        qualifying_points bigint, qualifying_spend numeric, qualifying_visits bigint,
        tier_id uuid, tier_since timestamptz, seq bigint, digest bytea, next_due_at timestamptz,
        expiring jsonb, lots jsonb
    ) LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
    #variable_conflict use_column
    DECLARE
        program uuid;
        known integer;
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
            SELECT p.id, p.version INTO program, program_version
            FROM points_transactions t JOIN programs p ON p.id = t.program_id
            WHERE t.contact_id = p_contacts[1] AND t.id = p_subject;
        ELSIF p_program IS NULL THEN
            SELECT p.id, p.version INTO program, program_version FROM programs p WHERE p.is_default;
        ELSE
            SELECT p.id, p.version INTO program, program_version FROM programs p WHERE p.id = p_program;
        END IF;
        IF program IS NULL THEN
            RETURN;
        END IF;
        program_id := program;

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
            IF known = cardinality(p_contacts) THEN
                PERFORM 1 FROM loyalty_accounts a
                WHERE a.contact_id = ANY (p_contacts) AND a.program_id = program
                ORDER BY a.contact_id FOR NO KEY UPDATE;
            END IF;
        END IF;
        IF known < cardinality(p_contacts) THEN
            INSERT INTO loyalty_accounts AS a (contact_id, program_id, enrolled_at, updated_at)
            SELECT c.id, program, p_now, p_now
            FROM (SELECT id FROM contacts WHERE id = ANY (p_contacts) ORDER BY id FOR KEY SHARE) c
            ON CONFLICT (contact_id, program_id) DO UPDATE SET updated_at = a.updated_at WHERE false;
        END IF;

        IF cardinality(p_order_refs) > 0 THEN
            SELECT jsonb_object_agg(d.order_ref, d.contact_id) INTO orders FROM order_directory d
            WHERE d.program_id = program AND d.order_ref = ANY (p_order_refs);
        END IF;
        IF p_subject IS NOT NULL THEN
            SELECT jsonb_build_object(
                'cause', t.cause, 'points', t.points, 'order_ref', t.order_ref,
                'reversed', EXISTS (
                    SELECT 1 FROM points_transactions r
                    WHERE r.contact_id = t.contact_id AND r.reverses = t.id AND r.kind = 'reverse'
                ),
                'movements', (
                    SELECT jsonb_agg(jsonb_build_array(m.from_bucket, m.to_bucket, m.points, jsonb_build_array(
                        l.id, l.amount, l.remaining, l.held, l.active, l.qualifying,
                        l.earned_at, l.activates_at, l.expires_at, l.order_ref)) ORDER BY m.seq)
                    FROM points_movements m JOIN points_lots l
                        ON l.contact_id = m.contact_id AND l.program_id = m.program_id AND l.id = m.lot_id
                    WHERE m.contact_id = t.contact_id AND m.program_id = t.program_id
                        AND m.seq BETWEEN t.first_seq AND t.seq
                )
            ) INTO subject
            FROM points_transactions t WHERE t.contact_id = p_contacts[1] AND t.id = p_subject;
        END IF;
        RETURN NEXT;
        RETURN QUERY
        SELECT program, NULL::bigint, NULL::jsonb, NULL::jsonb, NULL::bytea, NULL::smallint, NULL::bytea, s.*
        FROM account_states(program, p_contacts, p_now, p_lots_max) s;
    END $$
    """,
)


def upgrade() -> None:
    bind = op.get_bind()
    for statement in (*EXTENSIONS, *APPEND_ONLY, *ACCESS, *PEOPLE, *TIMELINE, *PROGRAMS, *LEDGER, *STATE, *LOCK):
        bind.exec_driver_sql(statement)


def downgrade() -> None:
    raise RuntimeError("The first revision has nothing before it: drop the database instead.")
