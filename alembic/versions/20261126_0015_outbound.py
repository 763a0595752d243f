"""Messages that go out, and the templates that they are made of."""

from alembic import op

revision = "20261126_0015"
down_revision = "20261126_0014"
branch_labels = None
depends_on = None

STATEMENTS = (
    # Its words stand with its interaction, which has the same id.
    """
    CREATE TABLE outbound_messages (
        contact_id uuid NOT NULL,
        id uuid NOT NULL,
        account_id uuid NOT NULL,
        channel text NOT NULL,
        purpose text NOT NULL,
        status text NOT NULL
            CHECK (status IN ('queued', 'sending', 'sent', 'unknown', 'failed', 'cancelled')),
        identity jsonb,
        sent_to jsonb,
        template_id uuid,
        provider_template jsonb,
        human boolean NOT NULL,
        natural_key text,
        resend_of uuid,
        due_at timestamptz NOT NULL,
        attempts integer NOT NULL,
        claimed_at timestamptz,
        sent_at timestamptz,
        external_id text,
        error jsonb,
        by text NOT NULL,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        PRIMARY KEY (contact_id, id),
        CHECK (status <> 'sending' OR claimed_at IS NOT NULL)
    ) WITH (fillfactor = 80)
    """,
    """
    CREATE UNIQUE INDEX outbound_messages_contact_id_natural_key_key ON outbound_messages (contact_id, natural_key)
        WHERE natural_key IS NOT NULL
    """,
    "CREATE INDEX outbound_messages_due_idx ON outbound_messages (due_at, id) WHERE status = 'queued'",
    "CREATE INDEX outbound_messages_sending_idx ON outbound_messages (claimed_at) WHERE status = 'sending'",
    # What an echo may be of.
    """
    CREATE INDEX outbound_messages_doubtful_idx ON outbound_messages (contact_id, account_id)
        WHERE status IN ('sending', 'unknown')
    """,
    """
    CREATE TABLE message_templates (
        id uuid PRIMARY KEY,
        name text NOT NULL UNIQUE,
        channels text[] NOT NULL,
        variables text[] NOT NULL,
        variants jsonb NOT NULL,
        provider_template jsonb,
        version bigint NOT NULL,
        created_at timestamptz NOT NULL,
        created_by text NOT NULL,
        updated_at timestamptz NOT NULL
    )
    """,
    """
    CREATE TABLE test_messages (
        id uuid PRIMARY KEY,
        account_id uuid NOT NULL,
        sent_to text NOT NULL,
        outcome text NOT NULL CHECK (outcome IN ('sent', 'refused', 'later', 'unclear')),
        code text,
        detail text,
        external_id text,
        by text NOT NULL,
        created_at timestamptz NOT NULL
    )
    """,
    "CREATE INDEX test_messages_account_id_idx ON test_messages (account_id, id)",
    # What somebody should look at. Those that went are many, and found by whom they went to.
    "CREATE INDEX outbound_messages_odd_idx ON outbound_messages (status, id) WHERE status <> 'sent'",
)
# For marks up to which everything was read: a message of ours counts from when it was sent.
SENT = """
    CREATE INDEX CONCURRENTLY interaction_changes_sent_idx ON interaction_changes (contact_id, occurred_at)
        WHERE key = 'state:sent'
"""


def upgrade() -> None:
    bind = op.get_bind()
    with op.get_context().autocommit_block():
        bind.exec_driver_sql("DROP INDEX CONCURRENTLY IF EXISTS interaction_changes_sent_idx")
        bind.exec_driver_sql(SENT)
    for statement in STATEMENTS:
        bind.exec_driver_sql(statement)


def downgrade() -> None:
    raise RuntimeError("What was sent, and is still to go, would be lost: restore a backup from before instead.")
