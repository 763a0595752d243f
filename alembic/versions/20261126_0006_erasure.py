"""Erasure: a person is forgotten, and what has to be kept of them says nothing of who they were."""

from alembic import op

revision = "20261126_0006"
down_revision = "20261126_0005"
branch_labels = None
depends_on = None

STATEMENTS = (
    # Nothing of an interaction changes, but that its content goes; and that only on the one way below.
    """
    CREATE FUNCTION refuse_change_of_interaction() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'UPDATE' AND current_setting('setia.emptying', true) = 'on'
            AND (NEW.contact_id, NEW.id, NEW.occurred_at, NEW.recorded_at, NEW.channel, NEW.kind, NEW."by", NEW.xid)
                = (OLD.contact_id, OLD.id, OLD.occurred_at, OLD.recorded_at, OLD.channel, OLD.kind, OLD."by", OLD.xid)
        THEN
            RETURN NEW;
        END IF;
        RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
    END $$
    """,
    "DROP TRIGGER interactions_append_only ON interactions",
    """
    CREATE TRIGGER interactions_append_only BEFORE UPDATE OR DELETE ON interactions
        FOR EACH ROW EXECUTE FUNCTION refuse_change_of_interaction()
    """,
    # Takes subject, body and data from interactions of these contacts, and how many they were. Of facts that have a row
    # of their own besides, `data` keeps the ids and numbers by which the two belong together. Without `p_ids` it is all
    # of them, and the ids that other systems know them by go too: some hold an address.
    """
    CREATE FUNCTION empty_interactions(p_contacts uuid[], p_ids uuid[]) RETURNS bigint LANGUAGE plpgsql AS $$
    DECLARE emptied bigint;
    BEGIN
        PERFORM set_config('setia.emptying', 'on', true);
        IF p_ids IS NULL THEN
            DELETE FROM interaction_directory d USING interactions i
            WHERE i.contact_id = ANY (p_contacts) AND i.external_id IS NOT NULL
                AND d.source = i.source AND d.external_id = i.external_id;
        END IF;
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
    # What was erased and what was kept, in numbers: the certificate.
    """
    CREATE TABLE erasures (
        contact_id uuid NOT NULL,
        id uuid NOT NULL,
        aliases uuid[] NOT NULL,
        reason text,
        erased jsonb NOT NULL,
        kept jsonb NOT NULL,
        by text NOT NULL,
        created_at timestamptz NOT NULL,
        PRIMARY KEY (contact_id, id)
    )
    """,
    """
    CREATE TABLE erasure_directory (
        id uuid PRIMARY KEY,
        contact_id uuid NOT NULL
    )
    """,
    # How long what is kept: one row, or none where nothing goes by itself. `position` is how far a run has come.
    """
    CREATE TABLE retention_policies (
        single boolean PRIMARY KEY DEFAULT true CHECK (single),
        messages_months integer CHECK (messages_months > 0),
        contacts_months integer CHECK (contacts_months > 0),
        updated_at timestamptz NOT NULL,
        updated_by text NOT NULL,
        started_at timestamptz,
        finished_at timestamptz,
        position uuid,
        messages_emptied bigint NOT NULL DEFAULT 0,
        contacts_erased bigint NOT NULL DEFAULT 0
    )
    """,
    """
    ALTER TABLE loyalty_accounts
        DROP CONSTRAINT loyalty_accounts_status_check,
        ADD CONSTRAINT loyalty_accounts_status_check
            CHECK (status IN ('active', 'paused', 'closed', 'merged', 'erased')) NOT VALID
    """,
    "ALTER TABLE loyalty_accounts VALIDATE CONSTRAINT loyalty_accounts_status_check",
)


def upgrade() -> None:
    bind = op.get_bind()
    for statement in STATEMENTS:
        bind.exec_driver_sql(statement)


def downgrade() -> None:
    raise RuntimeError("The certificates of erasures would be lost: restore a backup from before instead.")
