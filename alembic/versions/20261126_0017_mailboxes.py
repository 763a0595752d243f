"""How far the mailboxes were read that nobody delivers from."""

from alembic import op

revision = "20261126_0017"
down_revision = "20261126_0016"
branch_labels = None
depends_on = None

# `position` is the mailbox's own numbering and the last number taken under it.
STATEMENT = """
    CREATE TABLE mailboxes (
        account_id uuid PRIMARY KEY REFERENCES channel_accounts (id) ON DELETE CASCADE,
        position text,
        polled_at timestamptz NOT NULL,
        next_at timestamptz NOT NULL,
        failures_count integer NOT NULL DEFAULT 0
    )
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(STATEMENT)


def downgrade() -> None:
    op.get_bind().exec_driver_sql("DROP TABLE mailboxes")
