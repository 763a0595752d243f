"""Playbooks, what they do with whom, and how far the calendar has been gone through for them."""

from alembic import op

revision = "20261126_0019"
down_revision = "20261126_0015"
branch_labels = None
depends_on = None

# Built beside the writes that go on. One that broke off has left an index that nothing uses.
INDEXES = {"contacts_time_zone_id_idx": "contacts (time_zone, id)"}

STATEMENTS = (
    """
    CREATE TABLE playbooks (
        id uuid PRIMARY KEY,
        name text NOT NULL,
        description text,
        status text NOT NULL CHECK (status IN ('draft', 'active', 'paused', 'archived')),
        trigger text NOT NULL,
        definition jsonb NOT NULL,
        version bigint NOT NULL,
        activated_at timestamptz,
        by text NOT NULL,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        archived_at timestamptz,
        CHECK ((status = 'archived') = (archived_at IS NOT NULL)),
        CHECK (status <> 'active' OR activated_at IS NOT NULL)
    )
    """,
    # A run goes on by the version with which it began.
    """
    CREATE TABLE playbook_versions (
        playbook_id uuid NOT NULL REFERENCES playbooks,
        version bigint NOT NULL,
        definition jsonb NOT NULL,
        by text NOT NULL,
        created_at timestamptz NOT NULL,
        PRIMARY KEY (playbook_id, version)
    )
    """,
    # `lineage` are the playbooks whose doing it began with, the first one first.
    """
    CREATE TABLE playbook_runs (
        contact_id uuid NOT NULL,
        id uuid NOT NULL,
        playbook_id uuid NOT NULL,
        version bigint NOT NULL,
        occasion text NOT NULL,
        status text NOT NULL CHECK (status IN ('running', 'completed', 'stopped', 'cancelled', 'skipped', 'failed')),
        reason text,
        position integer NOT NULL DEFAULT 0,
        due_at timestamptz,
        attempts integer NOT NULL DEFAULT 0,
        lineage uuid[] NOT NULL,
        data jsonb NOT NULL,
        started_at timestamptz NOT NULL,
        ended_at timestamptz,
        PRIMARY KEY (contact_id, id),
        CHECK ((status = 'running') = (due_at IS NOT NULL)),
        CHECK ((status = 'running') = (ended_at IS NULL))
    ) WITH (fillfactor = 80)
    """,
    """
    CREATE UNIQUE INDEX playbook_runs_contact_id_playbook_id_occasion_key
        ON playbook_runs (contact_id, playbook_id, occasion)
    """,
    "CREATE INDEX playbook_runs_due_idx ON playbook_runs (due_at, id) WHERE status = 'running'",
    "CREATE INDEX playbook_runs_playbook_id_id_idx ON playbook_runs (playbook_id, id)",
    """
    CREATE TABLE playbook_steps (
        contact_id uuid NOT NULL,
        run_id uuid NOT NULL,
        position integer NOT NULL,
        kind text NOT NULL,
        outcome text NOT NULL CHECK (outcome IN ('taken', 'skipped')),
        reason text,
        data jsonb NOT NULL,
        at timestamptz NOT NULL,
        PRIMARY KEY (contact_id, run_id, position)
    )
    """,
    "CREATE INDEX playbook_steps_taken_idx ON playbook_steps (contact_id, at) WHERE outcome = 'taken'",
    # `day` is the last local day that was begun, or done where it is finished; `position` how far it has come.
    """
    CREATE TABLE playbook_days (
        playbook_id uuid NOT NULL REFERENCES playbooks,
        zone text NOT NULL,
        day date NOT NULL,
        position uuid,
        finished_at timestamptz,
        PRIMARY KEY (playbook_id, zone)
    )
    """,
)


def upgrade() -> None:
    with op.get_context().autocommit_block():
        for name, definition in INDEXES.items():
            op.get_bind().exec_driver_sql(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.get_bind().exec_driver_sql(f"CREATE INDEX CONCURRENTLY {name} ON {definition}")
    for statement in STATEMENTS:
        op.get_bind().exec_driver_sql(statement)


def downgrade() -> None:
    raise RuntimeError("What playbooks did would be forgotten, and done again: restore a backup from before instead.")
