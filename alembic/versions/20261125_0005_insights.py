"""Find the movements of a period without reading those of all times."""

from alembic import op

revision = "20261125_0005"
down_revision = "20261125_0004"
branch_labels = None
depends_on = None

# A summary of each megabyte, a thousandth of what a B-tree takes: movements lie in the order in which they were
# recorded, and nearly all are recorded when they occur. A post pays for it with a look at two pages and no WAL.
INDEX = """
    CREATE INDEX points_movements_occurred_at_idx ON points_movements
        USING brin (occurred_at) WITH (autosummarize = on)
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(INDEX)


def downgrade() -> None:
    op.get_bind().exec_driver_sql("DROP INDEX points_movements_occurred_at_idx")
