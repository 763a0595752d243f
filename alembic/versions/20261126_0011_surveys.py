"""Surveys: what is asked, who was asked, and what they said."""

from alembic import op

revision = "20261126_0011"
down_revision = "20261126_0006"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE surveys (
        id uuid PRIMARY KEY,
        name text NOT NULL,
        kind text NOT NULL CHECK (kind IN ('csat', 'ces', 'nps', 'rating')),
        scale_version integer NOT NULL,
        questions jsonb NOT NULL,
        valid_days integer NOT NULL CHECK (valid_days > 0),
        quarantine_days integer NOT NULL CHECK (quarantine_days >= 0),
        status text NOT NULL CHECK (status IN ('active', 'archived')),
        version bigint NOT NULL,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL
    )
    """,
    # With what the survey was then: a change of it changes nothing of what was asked. `answered_at` is the first
    # answer's, `changed_at` the last one's.
    """
    CREATE TABLE survey_invitations (
        contact_id uuid NOT NULL,
        id uuid NOT NULL,
        survey_id uuid NOT NULL,
        kind text NOT NULL,
        scale_version integer NOT NULL,
        channel text,
        agent text,
        case_id uuid,
        interaction_id uuid,
        locale text NOT NULL,
        score smallint,
        comment text,
        created_at timestamptz NOT NULL,
        expires_at timestamptz NOT NULL,
        answered_at timestamptz,
        changed_at timestamptz,
        by text NOT NULL,
        PRIMARY KEY (contact_id, id),
        CHECK ((score IS NULL) = (answered_at IS NULL))
    )
    """,
    # For the results of a period, and for the quarantine.
    "CREATE INDEX survey_invitations_survey_id_created_at_idx ON survey_invitations (survey_id, created_at)",
    """
    CREATE INDEX survey_invitations_survey_id_answered_at_idx ON survey_invitations (survey_id, answered_at)
        WHERE answered_at IS NOT NULL
    """,
    "CREATE INDEX survey_invitations_contact_id_kind_idx ON survey_invitations (contact_id, kind, created_at)",
    # The secret itself is nowhere: whoever reads the database can't answer for somebody.
    """
    CREATE TABLE survey_invitation_directory (
        hash bytea PRIMARY KEY,
        contact_id uuid NOT NULL,
        invitation_id uuid NOT NULL
    )
    """,
)


def upgrade() -> None:
    bind = op.get_bind()
    for statement in STATEMENTS:
        bind.exec_driver_sql(statement)


def downgrade() -> None:
    raise RuntimeError("What people answered would be lost: restore a backup from before instead.")
