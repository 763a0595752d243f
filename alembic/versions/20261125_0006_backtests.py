"""Backtests: rule sets replayed over past purchases. They belong to programs; of members they hold ids only."""

from alembic import op

revision = "20261125_0006"
down_revision = "20261125_0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(
        """
        CREATE TABLE backtests (
            program_id uuid NOT NULL,
            id uuid NOT NULL,
            status text NOT NULL DEFAULT 'pending'
                CHECK (status IN ('pending', 'processing', 'completed', 'failed', 'cancelled')),
            first_on date NOT NULL,
            last_on date NOT NULL CHECK (last_on >= first_on),
            rules jsonb NOT NULL,
            rules_sent boolean NOT NULL,
            include_drafts boolean NOT NULL,
            conditions text NOT NULL,
            done bigint NOT NULL DEFAULT 0,
            total bigint,
            report jsonb,
            by text NOT NULL,
            created_at timestamptz NOT NULL,
            finished_at timestamptz,
            PRIMARY KEY (program_id, id),
            CONSTRAINT backtests_report_check CHECK ((status = 'completed') = (report IS NOT NULL))
        )
        """
    )


def downgrade() -> None:
    op.get_bind().exec_driver_sql("DROP TABLE backtests")
