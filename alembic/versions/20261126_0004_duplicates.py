"""Duplicates: pairs of contacts that may be one person, what people decided of them, and the search for them."""

from alembic import op

revision = "20261126_0004"
down_revision = "20261126_0003"
branch_labels = None
depends_on = None

STATEMENTS = (
    "CREATE INDEX duplicate_pairs_other_id_idx ON duplicate_pairs (other_id)",
    "CREATE INDEX duplicate_pairs_best_idx ON duplicate_pairs (status, score DESC, contact_id, other_id)",
    """
    CREATE TABLE duplicate_scans (
        id uuid PRIMARY KEY,
        status text NOT NULL DEFAULT 'pending'
            CHECK (status IN ('pending', 'processing', 'completed', 'failed', 'cancelled')),
        phase text,
        done bigint NOT NULL DEFAULT 0,
        total bigint,
        report jsonb,
        by text NOT NULL,
        created_at timestamptz NOT NULL,
        finished_at timestamptz,
        CONSTRAINT duplicate_scans_report_check CHECK ((status = 'completed') = (report IS NOT NULL))
    )
    """,
    # By what somebody new is recognised: a birth date, the end of a number, an e-mail address before its @.
    "CREATE INDEX contacts_birth_on_idx ON contacts (birth_on) WHERE birth_on IS NOT NULL",
    """
    CREATE FUNCTION identity_trace(p_kind text, p_value text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
        SELECT CASE p_kind
            WHEN 'email' THEN replace(split_part(split_part(p_value, '@', 1), '+', 1), '.', '')
            ELSE right(p_value, 5)
        END
    $$
    """,
    """
    CREATE INDEX identity_directory_trace_idx ON identity_directory (identity_trace(kind, value))
        WHERE kind IN ('email', 'phone', 'whatsapp')
    """,
)


def upgrade() -> None:
    bind = op.get_bind()
    for statement in STATEMENTS:
        bind.exec_driver_sql(statement)


def downgrade() -> None:
    raise RuntimeError("What people decided of duplicates would be lost: restore a backup from before instead.")
