"""Tasks: what somebody has to do for a contact."""

from alembic import op

revision = "20261126_0012"
down_revision = "20261126_0011"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE tasks (
        contact_id uuid NOT NULL,
        id uuid NOT NULL,
        title text NOT NULL,
        note text,
        due_at timestamptz,
        assignee text,
        case_id uuid,
        status text NOT NULL CHECK (status IN ('open', 'done', 'cancelled')),
        natural_key text,
        version bigint NOT NULL,
        created_at timestamptz NOT NULL,
        created_by text NOT NULL,
        updated_at timestamptz NOT NULL,
        ended_at timestamptz,
        ended_by text,
        PRIMARY KEY (contact_id, id),
        CHECK ((status = 'open') = (ended_at IS NULL))
    )
    """,
    """
    CREATE UNIQUE INDEX tasks_contact_id_natural_key_key ON tasks (contact_id, natural_key)
        WHERE natural_key IS NOT NULL
    """,
    # The queue: what is due first comes first, what has no date last.
    """
    CREATE INDEX tasks_open_idx ON tasks (coalesce(due_at, 'infinity'), id) INCLUDE (assignee) WHERE status = 'open'
    """,
    "CREATE INDEX tasks_assignee_idx ON tasks (assignee, (coalesce(due_at, 'infinity')), id) WHERE status = 'open'",
    """
    CREATE TABLE task_directory (
        id uuid PRIMARY KEY,
        contact_id uuid NOT NULL
    )
    """,
)


def upgrade() -> None:
    bind = op.get_bind()
    for statement in STATEMENTS:
        bind.exec_driver_sql(statement)


def downgrade() -> None:
    raise RuntimeError("What was to be done would be lost: restore a backup from before instead.")
