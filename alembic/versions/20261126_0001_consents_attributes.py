"""Consents, definitions of attributes, identities that are disputed or blocked, pairs that may be one person."""

from alembic import op

revision = "20261126_0001"
down_revision = "20261126_0012"
branch_labels = None
depends_on = None

CONSENTS = (
    # `channel` and `purpose` may be 'all'. What holds now is what was said last of each of them.
    """
    CREATE TABLE consents (
        contact_id uuid NOT NULL,
        id uuid NOT NULL,
        channel text COLLATE "C" NOT NULL,
        purpose text COLLATE "C" NOT NULL,
        status text NOT NULL CHECK (status IN ('granted', 'denied')),
        legal_basis text,
        source text,
        external_id text,
        evidence jsonb,
        occurred_at timestamptz NOT NULL,
        recorded_at timestamptz NOT NULL,
        by text NOT NULL,
        PRIMARY KEY (contact_id, id)
    )
    """,
    """
    CREATE INDEX consents_current_idx
        ON consents (contact_id, channel, purpose, occurred_at DESC, recorded_at DESC, id DESC)
    """,
    "CREATE INDEX consents_history_idx ON consents (contact_id, occurred_at DESC, id DESC)",
    """
    CREATE TABLE consent_directory (
        source text NOT NULL,
        external_id text NOT NULL,
        contact_id uuid NOT NULL,
        consent_id uuid NOT NULL,
        PRIMARY KEY (source, external_id)
    )
    """,
    # Nothing of a consent changes, but that its proof goes with the person; and that only on the one way below.
    """
    CREATE FUNCTION refuse_change_of_consent() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'UPDATE' AND current_setting('setia.emptying', true) = 'on'
            AND NEW.source IS NULL AND NEW.external_id IS NULL AND NEW.evidence IS NULL
            AND (NEW.contact_id, NEW.id, NEW.channel, NEW.purpose, NEW.status, NEW.occurred_at, NEW.recorded_at,
                NEW."by") = (OLD.contact_id, OLD.id, OLD.channel, OLD.purpose, OLD.status, OLD.occurred_at,
                OLD.recorded_at, OLD."by")
            AND NEW.legal_basis IS NOT DISTINCT FROM OLD.legal_basis
        THEN
            RETURN NEW;
        END IF;
        RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
    END $$
    """,
    """
    CREATE TRIGGER consents_append_only BEFORE UPDATE OR DELETE ON consents
        FOR EACH ROW EXECUTE FUNCTION refuse_change_of_consent()
    """,
    # Takes from consents of these contacts what was shown and said, and the ids that other systems know them by.
    """
    CREATE FUNCTION empty_consents(p_contacts uuid[]) RETURNS bigint LANGUAGE plpgsql AS $$
    DECLARE emptied bigint;
    BEGIN
        PERFORM set_config('setia.emptying', 'on', true);
        DELETE FROM consent_directory d USING consents n
        WHERE n.contact_id = ANY (p_contacts) AND n.external_id IS NOT NULL
            AND d.source = n.source AND d.external_id = n.external_id;
        UPDATE consents SET source = NULL, external_id = NULL, evidence = NULL WHERE contact_id = ANY (p_contacts);
        GET DIAGNOSTICS emptied = ROW_COUNT;
        PERFORM set_config('setia.emptying', '', true);
        RETURN emptied;
    END $$
    """,
)

ATTRIBUTES = (
    """
    CREATE TABLE attribute_definitions (
        name text COLLATE "C" PRIMARY KEY,
        type text NOT NULL CHECK (type IN ('text', 'number', 'money', 'date', 'boolean', 'choice', 'list')),
        labels jsonb NOT NULL,
        description text,
        options jsonb,
        currency text,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        CHECK ((type = 'money') = (currency IS NOT NULL)),
        CHECK (CASE type WHEN 'choice' THEN options IS NOT NULL WHEN 'list' THEN true ELSE options IS NULL END)
    )
    """,
)

IDENTITIES = (
    # Constant default: no row is rewritten. A disputed identity has no row of its own in the directory.
    "ALTER TABLE contact_identities ADD COLUMN disputed boolean NOT NULL DEFAULT false",
    # Addresses of the shop itself, and others that are nobody's: they never become or join a contact.
    """
    CREATE TABLE blocked_identities (
        value text COLLATE "C" NOT NULL,
        kind text COLLATE "C" NOT NULL,
        id uuid NOT NULL UNIQUE,
        reason text,
        by text NOT NULL,
        created_at timestamptz NOT NULL,
        PRIMARY KEY (value, kind)
    )
    """,
    # Two contacts that may be one person. `reasons` are objects with a `code` and a `text`.
    """
    CREATE TABLE duplicate_pairs (
        contact_id uuid NOT NULL,
        other_id uuid NOT NULL,
        score smallint NOT NULL CHECK (score BETWEEN 0 AND 100),
        reasons jsonb NOT NULL,
        status text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'dismissed', 'merged')),
        found_at timestamptz NOT NULL,
        decided_at timestamptz,
        decided_by text,
        PRIMARY KEY (contact_id, other_id),
        CHECK (contact_id < other_id)
    )
    """,
)


def upgrade() -> None:
    bind = op.get_bind()
    for statement in (*CONSENTS, *ATTRIBUTES, *IDENTITIES):
        bind.exec_driver_sql(statement)


def downgrade() -> None:
    raise RuntimeError("What people allowed and forbade would be lost: restore a backup from before instead.")
