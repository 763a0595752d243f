"""The secret that signs members' tokens."""

from alembic import op

revision = "20261125_0003"
down_revision = "20261125_0000"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # `single` lets there be one row: of processes that make the first secret together, one does and the others find it.
    op.get_bind().exec_driver_sql(
        """
        CREATE TABLE member_token_secrets (
            single boolean PRIMARY KEY DEFAULT true CHECK (single),
            id uuid NOT NULL,
            secret bytea NOT NULL,
            created_at timestamptz NOT NULL
        )
        """
    )


def downgrade() -> None:
    op.get_bind().exec_driver_sql("DROP TABLE member_token_secrets")
