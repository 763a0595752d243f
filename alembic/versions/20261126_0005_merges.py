"""Merges: two records of one person become one, and its old ids stay known."""

from alembic import op

revision = "20261126_0005"
down_revision = "20261125_0011"
branch_labels = None
depends_on = None

STATEMENTS = (
    # Under which other ids a contact was known; the directory finds the contact by one of them.
    """
    CREATE TABLE contact_aliases (
        contact_id uuid NOT NULL,
        alias_id uuid NOT NULL,
        created_at timestamptz NOT NULL,
        PRIMARY KEY (contact_id, alias_id)
    )
    """,
    """
    CREATE TABLE contact_alias_directory (
        alias_id uuid PRIMARY KEY,
        contact_id uuid NOT NULL
    )
    """,
    # `memory` is what each package needs to know to undo it.
    """
    CREATE TABLE merges (
        contact_id uuid NOT NULL,
        id uuid NOT NULL,
        other_id uuid NOT NULL,
        status text NOT NULL CHECK (status IN ('merged', 'undone')),
        moved jsonb NOT NULL,
        memory jsonb NOT NULL,
        by text NOT NULL,
        created_at timestamptz NOT NULL,
        undone_by text,
        undone_at timestamptz,
        not_undone jsonb,
        PRIMARY KEY (contact_id, id),
        CHECK (contact_id <> other_id)
    )
    """,
    """
    CREATE TABLE merge_directory (
        id uuid PRIMARY KEY,
        contact_id uuid NOT NULL
    )
    """,
    # An account whose points have gone to that of another contact, with the contact itself.
    """
    ALTER TABLE loyalty_accounts
        DROP CONSTRAINT loyalty_accounts_status_check,
        ADD CONSTRAINT loyalty_accounts_status_check
            CHECK (status IN ('active', 'paused', 'closed', 'merged')) NOT VALID
    """,
    "ALTER TABLE loyalty_accounts VALIDATE CONSTRAINT loyalty_accounts_status_check",
)


def upgrade() -> None:
    bind = op.get_bind()
    for statement in STATEMENTS:
        bind.exec_driver_sql(statement)


def downgrade() -> None:
    raise RuntimeError("Who was merged with whom would be lost: restore a backup from before instead.")
