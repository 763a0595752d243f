"""Events of members are read by their id and listed by it."""

from alembic import op

revision = "20261125_0007"
down_revision = "20261125_0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(
        "CREATE UNIQUE INDEX loyalty_events_contact_id_id_key ON loyalty_events (contact_id, id)"
    )


def downgrade() -> None:
    op.get_bind().exec_driver_sql("DROP INDEX loyalty_events_contact_id_id_key")
