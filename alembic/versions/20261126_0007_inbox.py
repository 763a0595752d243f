"""The inbox: channel accounts, their deliveries, threads, what changed on messages, and words to search them by."""

from alembic import op

revision = "20261126_0007"
down_revision = "20261126_0004"
branch_labels = None
depends_on = None

# In three dictionaries at once: shops write Indonesian and English in one sentence, and names are in neither. Cut, so
# that no message is too long for its words to be kept.
WORDS = (
    "CREATE EXTENSION IF NOT EXISTS btree_gin",
    """
    CREATE OR REPLACE FUNCTION message_words(p_subject text, p_body text) RETURNS tsvector
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
        SELECT to_tsvector('pg_catalog.indonesian', t.words) || to_tsvector('pg_catalog.english', t.words)
            || to_tsvector('pg_catalog.simple', t.words)
        FROM (SELECT left(coalesce(p_subject, '') || ' ' || coalesce(p_body, ''), 50000) AS words) t
    $$
    """,
    """
    CREATE OR REPLACE FUNCTION message_query(p_text text) RETURNS tsquery
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
        SELECT websearch_to_tsquery('pg_catalog.indonesian', p_text)
            || websearch_to_tsquery('pg_catalog.english', p_text)
            || websearch_to_tsquery('pg_catalog.simple', p_text)
    $$
    """,
)

# Only for rows that have words, or stand in a thread: nothing of the ledger's pays for them.
INDEXES = {
    "interactions_words_idx": """
        interactions USING gin (contact_id, message_words(subject, body))
        WHERE body IS NOT NULL OR subject IS NOT NULL
    """,
    "interactions_thread_idx": """
        interactions (contact_id, thread_id, occurred_at DESC, id DESC) WHERE thread_id IS NOT NULL
    """,
}

CHANGES = (
    # `key` is what makes a repetition known.
    """
    CREATE TABLE interaction_changes (
        contact_id uuid NOT NULL,
        interaction_id uuid NOT NULL,
        seq integer NOT NULL,
        kind text NOT NULL CHECK (kind IN ('state', 'edited', 'unsent', 'reaction', 'attached')),
        key text NOT NULL,
        data jsonb NOT NULL,
        occurred_at timestamptz NOT NULL,
        recorded_at timestamptz NOT NULL,
        PRIMARY KEY (contact_id, interaction_id, seq),
        UNIQUE (contact_id, interaction_id, key)
    )
    """,
    """
    CREATE INDEX interaction_changes_words_idx
        ON interaction_changes USING gin (contact_id, message_words(NULL, data ->> 'text')) WHERE kind = 'edited'
    """,
    # What became of messages that nobody here has heard of yet.
    """
    CREATE TABLE waiting_changes (
        source text NOT NULL,
        external_id text NOT NULL,
        key text NOT NULL,
        kind text NOT NULL,
        data jsonb NOT NULL,
        occurred_at timestamptz NOT NULL,
        recorded_at timestamptz NOT NULL,
        PRIMARY KEY (source, external_id, key)
    )
    """,
    "CREATE INDEX waiting_changes_recorded_at_idx ON waiting_changes (recorded_at)",
    # Up to when all messages to somebody reached a state.
    """
    CREATE TABLE message_watermarks (
        contact_id uuid NOT NULL,
        source text NOT NULL,
        state text NOT NULL,
        until timestamptz NOT NULL,
        occurred_at timestamptz NOT NULL,
        PRIMARY KEY (contact_id, source, state)
    )
    """,
    """
    CREATE FUNCTION refuse_change_of_interaction_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'UPDATE' AND current_setting('setia.emptying', true) = 'on'
            AND to_jsonb(NEW) - 'data' = to_jsonb(OLD) - 'data'
        THEN
            RETURN NEW;
        END IF;
        RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
    END $$
    """,
    """
    CREATE TRIGGER interaction_changes_append_only BEFORE UPDATE OR DELETE ON interaction_changes
        FOR EACH ROW EXECUTE FUNCTION refuse_change_of_interaction_change()
    """,
    # As before, and with what became of them: the later texts of a message, and the signs put on it.
    """
    CREATE OR REPLACE FUNCTION empty_interactions(p_contacts uuid[], p_ids uuid[]) RETURNS bigint
    LANGUAGE plpgsql AS $$
    DECLARE emptied bigint;
    BEGIN
        PERFORM set_config('setia.emptying', 'on', true);
        IF p_ids IS NULL THEN
            DELETE FROM interaction_directory d USING interactions i
            WHERE i.contact_id = ANY (p_contacts) AND i.external_id IS NOT NULL
                AND d.source = i.source AND d.external_id = i.external_id;
        END IF;
        UPDATE interaction_changes h SET data = '{}'
        WHERE h.contact_id = ANY (p_contacts) AND (p_ids IS NULL OR h.interaction_id = ANY (p_ids))
            AND h.kind IN ('edited', 'reaction', 'attached') AND h.data <> '{}';
        UPDATE interactions i SET subject = NULL, body = NULL,
            source = CASE WHEN p_ids IS NOT NULL THEN i.source END,
            external_id = CASE WHEN p_ids IS NOT NULL THEN i.external_id END,
            data = CASE WHEN i.data = '{}' OR i.channel NOT IN ('loyalty', 'shop') THEN '{}' ELSE coalesce((
                SELECT jsonb_object_agg(e.key, e.value) FROM jsonb_each(i.data) e
                WHERE e.key IN ('program_id', 'transaction_id', 'points', 'available_after', 'claim_id', 'offer_id',
                    'reward_id', 'redemption_id', 'voucher_id', 'hold_id', 'challenge_id', 'referral_id')
            ), '{}') END
        WHERE i.contact_id = ANY (p_contacts) AND (p_ids IS NULL OR i.id = ANY (p_ids));
        GET DIAGNOSTICS emptied = ROW_COUNT;
        PERFORM set_config('setia.emptying', '', true);
        RETURN emptied;
    END $$
    """,
)

THREADS = (
    """
    CREATE TABLE threads (
        contact_id uuid NOT NULL,
        id uuid NOT NULL,
        account_id uuid NOT NULL,
        channel text NOT NULL,
        hint text,
        opened_at timestamptz NOT NULL,
        last_at timestamptz NOT NULL,
        last_inbound_at timestamptz,
        messages_count bigint NOT NULL,
        PRIMARY KEY (contact_id, id)
    ) WITH (fillfactor = 80)
    """,
    "CREATE INDEX threads_last_at_idx ON threads (contact_id, last_at DESC, id DESC)",
    "CREATE INDEX threads_account_id_idx ON threads (contact_id, account_id, opened_at)",
    "CREATE INDEX threads_hint_idx ON threads (contact_id, account_id, hint) WHERE hint IS NOT NULL",
)

INBOX = (
    # `secrets` is encrypted with a key that is not in the database.
    """
    CREATE TABLE channel_accounts (
        id uuid PRIMARY KEY,
        provider text NOT NULL,
        channel text NOT NULL,
        name text NOT NULL,
        ref text NOT NULL,
        settings jsonb NOT NULL DEFAULT '{}',
        secrets bytea NOT NULL,
        secret_names text[] NOT NULL DEFAULT '{}',
        silence_after interval,
        silent_since timestamptz,
        last_error jsonb,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        UNIQUE (provider, ref)
    )
    """,
    """
    CREATE TABLE inbox_deliveries (
        id uuid PRIMARY KEY,
        account_id uuid NOT NULL,
        received_at timestamptz NOT NULL,
        status text NOT NULL CHECK (status IN ('pending', 'processed', 'failed', 'refused', 'test')),
        verdict text NOT NULL,
        key text,
        method text NOT NULL,
        url text NOT NULL,
        headers jsonb NOT NULL,
        query jsonb NOT NULL,
        body bytea,
        body_length bigint NOT NULL,
        attempts integer NOT NULL DEFAULT 0,
        retry_at timestamptz,
        processed_at timestamptz,
        events jsonb,
        error jsonb,
        contact_ids uuid[],
        purged_at timestamptz
    )
    """,
    """
    CREATE UNIQUE INDEX inbox_deliveries_account_id_key_key ON inbox_deliveries (account_id, key)
        WHERE key IS NOT NULL
    """,
    "CREATE INDEX inbox_deliveries_account_id_id_idx ON inbox_deliveries (account_id, id)",
    "CREATE INDEX inbox_deliveries_pending_idx ON inbox_deliveries (id) WHERE status = 'pending'",
    """
    CREATE INDEX inbox_deliveries_odd_idx ON inbox_deliveries (status, id) WHERE status IN ('failed', 'refused', 'test')
    """,
    "CREATE INDEX inbox_deliveries_unpurged_idx ON inbox_deliveries (received_at) WHERE purged_at IS NULL",
    # Where something of somebody may stand, who wants to be told of it or forgotten.
    "CREATE INDEX inbox_deliveries_contact_ids_idx ON inbox_deliveries USING gin (contact_ids)",
    """
    CREATE TABLE privacy_requests (
        id uuid PRIMARY KEY,
        account_id uuid NOT NULL,
        external_id text NOT NULL,
        topic text NOT NULL CHECK (topic IN ('export', 'erasure', 'shop_erasure')),
        identities jsonb NOT NULL,
        data jsonb NOT NULL,
        occurred_at timestamptz NOT NULL,
        recorded_at timestamptz NOT NULL,
        UNIQUE (account_id, external_id)
    )
    """,
)


def upgrade() -> None:
    bind = op.get_bind()
    with op.get_context().autocommit_block():
        for statement in WORDS:
            bind.exec_driver_sql(statement)
        for name, definition in INDEXES.items():
            bind.exec_driver_sql(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            bind.exec_driver_sql(f"CREATE INDEX CONCURRENTLY {name} ON {definition}")
    for statement in (*CHANGES, *THREADS, *INBOX):
        bind.exec_driver_sql(statement)


def downgrade() -> None:
    raise RuntimeError("What was delivered and not told yet would be lost: restore a backup from before instead.")
