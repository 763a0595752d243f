"""Imports: files of contacts or purchases, how far each is, which rows were refused, and which contacts it touched."""

from alembic import op

revision = "20261126_0003"
down_revision = "20261126_0002"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE imports (
        id uuid PRIMARY KEY,
        kind text NOT NULL CHECK (kind IN ('contacts', 'purchases')),
        status text NOT NULL DEFAULT 'pending' CHECK (status IN (
            'pending', 'validating', 'processing', 'completed', 'failed', 'cancelled', 'reverting', 'reverted')),
        filename text NOT NULL,
        layout jsonb NOT NULL,
        sample jsonb NOT NULL,
        mapping jsonb NOT NULL,
        program_id uuid,
        region text NOT NULL,
        on_duplicate text NOT NULL DEFAULT 'skip' CHECK (on_duplicate IN ('skip', 'fill', 'update', 'reject')),
        dry_run boolean,
        run integer NOT NULL DEFAULT 0,
        attempt integer NOT NULL DEFAULT 0,
        positions bigint[] NOT NULL DEFAULT '{}',
        rows_count bigint,
        processed bigint NOT NULL DEFAULT 0,
        created bigint NOT NULL DEFAULT 0,
        updated bigint NOT NULL DEFAULT 0,
        skipped bigint NOT NULL DEFAULT 0,
        failed bigint NOT NULL DEFAULT 0,
        failure jsonb,
        removed bigint,
        kept bigint,
        by text NOT NULL,
        created_at timestamptz NOT NULL,
        started_at timestamptz,
        finished_at timestamptz,
        CHECK ((kind = 'purchases') = (program_id IS NOT NULL))
    ) WITH (fillfactor = 50)
    """,
    # Of a file that was uploaded: the worker may be another machine. Compressing would be tried in vain or for long.
    """
    CREATE TABLE import_chunks (
        import_id uuid NOT NULL REFERENCES imports,
        number integer NOT NULL,
        data bytea STORAGE EXTERNAL NOT NULL,
        PRIMARY KEY (import_id, number)
    )
    """,
    """
    CREATE TABLE import_errors (
        import_id uuid NOT NULL REFERENCES imports,
        row bigint NOT NULL,
        errors jsonb NOT NULL,
        cells jsonb NOT NULL,
        PRIMARY KEY (import_id, row)
    )
    """,
    """
    CREATE TABLE imported_contacts (
        contact_id uuid NOT NULL,
        import_id uuid NOT NULL,
        row bigint NOT NULL,
        result text NOT NULL CHECK (result IN ('created', 'updated')),
        version bigint NOT NULL,
        removed boolean NOT NULL DEFAULT false,
        kept text,
        PRIMARY KEY (contact_id, import_id)
    )
    """,
    "CREATE INDEX imported_contacts_import_id_row_idx ON imported_contacts (import_id, row)",
)


def upgrade() -> None:
    bind = op.get_bind()
    for statement in STATEMENTS:
        bind.exec_driver_sql(statement)


def downgrade() -> None:
    bind = op.get_bind()
    for name in ("imported_contacts", "import_errors", "import_chunks", "imports"):
        bind.exec_driver_sql(f"DROP TABLE {name}")
