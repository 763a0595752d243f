"""How far the mailboxes were read that nobody delivers from, and the threads of each channel account."""

from alembic import op

revision = "20261126_0017"
down_revision = "20261126_0016"
branch_labels = None
depends_on = None

# `position` is the mailbox's own numbering and the last number taken under it.
MAILBOXES = """
    CREATE TABLE IF NOT EXISTS mailboxes (
        account_id uuid PRIMARY KEY REFERENCES channel_accounts (id) ON DELETE CASCADE,
        position text,
        polled_at timestamptz NOT NULL,
        next_at timestamptz NOT NULL,
        failures_count integer NOT NULL DEFAULT 0
    )
"""
INDEX = "threads_of_account_idx"


def upgrade() -> None:
    bind = op.get_bind()
    bind.exec_driver_sql(MAILBOXES)
    with op.get_context().autocommit_block():
        bind.exec_driver_sql(f"DROP INDEX CONCURRENTLY IF EXISTS {INDEX}")
        bind.exec_driver_sql(f"CREATE INDEX CONCURRENTLY {INDEX} ON threads (account_id, last_at DESC, id DESC)")


def downgrade() -> None:
    op.get_bind().exec_driver_sql(f"DROP INDEX {INDEX}")
    op.get_bind().exec_driver_sql("DROP TABLE mailboxes")
