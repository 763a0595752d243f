"""Imports that look for people who resemble a row; privacy requests that are carried out;
addresses that were erased."""

from alembic import op

revision = "20261126_0013"
down_revision = "20261126_0007"
branch_labels = None
depends_on = None

STATEMENTS = (
    "ALTER TABLE imports DROP CONSTRAINT imports_on_duplicate_check",
    """
    ALTER TABLE imports ADD CONSTRAINT imports_on_duplicate_check
        CHECK (on_duplicate IN ('skip', 'fill', 'update', 'reject', 'link', 'create')) NOT VALID
    """,
    "ALTER TABLE imports VALIDATE CONSTRAINT imports_on_duplicate_check",
    """
    ALTER TABLE privacy_requests
        ADD COLUMN status text NOT NULL DEFAULT 'pending'
            CHECK (status IN ('pending', 'waiting', 'done', 'nobody_known', 'refused')),
        ADD COLUMN contact_id uuid, ADD COLUMN erasure_id uuid, ADD COLUMN task_id uuid, ADD COLUMN reason text,
        ADD COLUMN decided_by text, ADD COLUMN done_at timestamptz
    """,
    """
    CREATE TABLE erased_addresses (
        hash bytea PRIMARY KEY,
        erased_at timestamptz NOT NULL
    )
    """,
    "ALTER TABLE imported_contacts ADD COLUMN note text",
    "CREATE INDEX privacy_requests_pending_idx ON privacy_requests (id) WHERE status = 'pending'",
)


def upgrade() -> None:
    bind = op.get_bind()
    for statement in STATEMENTS:
        bind.exec_driver_sql(statement)


def downgrade() -> None:
    raise RuntimeError("What is known of imports would be lost: restore a backup from before instead.")
