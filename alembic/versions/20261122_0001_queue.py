"""The job queue: pgqueuer's own tables, as the release that requirements.lock pins declares them."""

from alembic import op
from pgqueuer.adapters.persistence import schema_ddl
from pgqueuer.domain.schema.declaration import target

from crm.db.queue import NAMES

revision = "20261122_0001"
down_revision = "20261122_0000"
branch_labels = None
depends_on = None


def upgrade() -> None:
    schema = target(NAMES)
    connection = op.get_bind()
    for entries, render in (
        (schema.enums, schema_ddl.render_enum),
        (schema.tables, schema_ddl.render_table),
        (schema.indexes, schema_ddl.render_index),
        (schema.functions, schema_ddl.render_function),
        (schema.triggers, schema_ddl.render_trigger),
    ):
        for entry in entries:
            connection.exec_driver_sql(render(entry, NAMES))


def downgrade() -> None:
    for statement in schema_ddl.render_uninstall(NAMES).split(";"):
        if statement.strip():
            op.get_bind().exec_driver_sql(statement)
