"""How much each caller has given by hand."""

from alembic import op

revision = "20261125_0011"
down_revision = "20261125_0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    bind = op.get_bind()
    # Counted only where a program limits it, and locked last, behind the accounts.
    bind.exec_driver_sql(
        """
        CREATE TABLE award_counts (
            program_id uuid NOT NULL,
            by text NOT NULL,
            local_on date NOT NULL,
            points bigint NOT NULL CHECK (points >= 0),
            PRIMARY KEY (program_id, by, local_on)
        ) WITH (fillfactor = 50)
        """
    )


def downgrade() -> None:
    op.get_bind().exec_driver_sql("DROP TABLE award_counts")
