"""Cases: clocks, policies, calendars, agents, rules, links and conversations."""

from alembic import op

revision = "20261126_0014"
down_revision = "20261126_0007"
branch_labels = None
depends_on = None

# Only for what is said of cases: nothing of the ledger's pays for it.
INDEX = """
    interactions (contact_id, case_id, occurred_at DESC, id DESC) WHERE case_id IS NOT NULL
"""

STATEMENTS = (
    # What is due first comes first; what has no due time, last. A case whose person was erased has no subject.
    """
    CREATE TABLE cases (
        contact_id uuid NOT NULL,
        id uuid NOT NULL,
        subject text,
        category text,
        priority text NOT NULL CHECK (priority IN ('low', 'normal', 'high', 'urgent')),
        status text NOT NULL CHECK (status IN ('open', 'waiting', 'resolved', 'closed')),
        channel text,
        assignee text,
        tags jsonb NOT NULL DEFAULT '[]',
        with_bot boolean NOT NULL DEFAULT false,
        policy_id uuid,
        rule_id uuid,
        due_at timestamptz,
        breach_count integer NOT NULL DEFAULT 0 CHECK (breach_count >= 0),
        unanswered_since timestamptz,
        last_reply_at timestamptz,
        first_replied_at timestamptz,
        first_reply_seconds bigint,
        resolved_at timestamptz,
        resolution_seconds bigint,
        closed_at timestamptz,
        closing_agent text,
        reopenable_until timestamptz,
        reopen_count integer NOT NULL DEFAULT 0,
        version bigint NOT NULL,
        created_at timestamptz NOT NULL,
        created_by text NOT NULL,
        updated_at timestamptz NOT NULL,
        PRIMARY KEY (contact_id, id),
        CHECK ((status IN ('resolved', 'closed')) = (resolved_at IS NOT NULL)),
        CHECK ((status = 'closed') = (closed_at IS NOT NULL))
    ) WITH (fillfactor = 80)
    """,
    "CREATE INDEX cases_live_idx ON cases (coalesce(due_at, 'infinity'), id) WHERE status IN ('open', 'waiting')",
    """
    CREATE INDEX cases_assignee_idx ON cases (assignee, coalesce(due_at, 'infinity'), id)
        WHERE status IN ('open', 'waiting')
    """,
    "CREATE INDEX cases_status_idx ON cases (status, coalesce(due_at, 'infinity'), id)",
    "CREATE INDEX cases_due_idx ON cases (coalesce(due_at, 'infinity'), id)",
    "CREATE INDEX cases_newest_idx ON cases (id)",
    """
    CREATE INDEX cases_breached_idx ON cases (coalesce(due_at, 'infinity'), id)
        WHERE status IN ('open', 'waiting') AND breach_count > 0
    """,
    "CREATE INDEX cases_reopenable_idx ON cases (reopenable_until) WHERE status = 'resolved'",
    """
    CREATE TABLE case_clocks (
        contact_id uuid NOT NULL,
        case_id uuid NOT NULL,
        metric text NOT NULL CHECK (metric IN ('first_reply', 'next_reply', 'resolution')),
        state text NOT NULL CHECK (state IN ('active', 'paused', 'met', 'breached')),
        target interval,
        elapsed interval NOT NULL,
        started_at timestamptz NOT NULL,
        resumed_at timestamptz,
        due_at timestamptz,
        breached_at timestamptz,
        ended_at timestamptz,
        warned interval,
        next_at timestamptz,
        calendar_id uuid,
        calendar_version bigint,
        PRIMARY KEY (contact_id, case_id, metric),
        CHECK ((state = 'breached') = (breached_at IS NOT NULL)),
        CHECK (state <> 'met' OR ended_at IS NOT NULL)
    ) WITH (fillfactor = 80)
    """,
    "CREATE INDEX case_clocks_next_at_idx ON case_clocks (next_at) WHERE next_at IS NOT NULL",
    """
    CREATE INDEX case_clocks_calendar_idx ON case_clocks (calendar_id, calendar_version)
        WHERE calendar_id IS NOT NULL AND resumed_at IS NOT NULL
    """,
    "CREATE TABLE case_directory (id uuid PRIMARY KEY, contact_id uuid NOT NULL)",
    """
    CREATE TABLE case_conversations (
        contact_id uuid NOT NULL,
        case_id uuid NOT NULL,
        thread_id uuid NOT NULL,
        account_id uuid,
        channel text NOT NULL,
        hint text,
        created_at timestamptz NOT NULL,
        PRIMARY KEY (contact_id, case_id, thread_id)
    )
    """,
    """
    CREATE TABLE case_links (
        contact_id uuid NOT NULL,
        case_id uuid NOT NULL,
        other_case_id uuid NOT NULL,
        relation text NOT NULL CHECK (
            relation IN ('related', 'duplicate_of', 'follow_up_of', 'duplicated_by', 'followed_by')
        ),
        created_at timestamptz NOT NULL,
        created_by text NOT NULL,
        PRIMARY KEY (contact_id, case_id, other_case_id)
    )
    """,
    """
    CREATE TABLE business_calendars (
        id uuid PRIMARY KEY,
        name text NOT NULL,
        time_zone text NOT NULL,
        hours jsonb NOT NULL,
        exceptions jsonb NOT NULL DEFAULT '{}',
        version bigint NOT NULL,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL
    )
    """,
    """
    CREATE TABLE sla_policies (
        id uuid PRIMARY KEY,
        name text NOT NULL,
        position integer NOT NULL,
        condition jsonb,
        calendar_id uuid REFERENCES business_calendars,
        targets jsonb NOT NULL,
        pauses_while_waiting boolean NOT NULL,
        escalations jsonb NOT NULL DEFAULT '[]',
        reopen_within interval NOT NULL,
        status text NOT NULL CHECK (status IN ('active', 'archived')),
        version bigint NOT NULL,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL
    )
    """,
    "CREATE INDEX sla_policies_position_idx ON sla_policies (position, id)",
    # `turn` counts up: whoever has the lowest waited longest for a case.
    """
    CREATE TABLE agents (
        id text PRIMARY KEY,
        name text NOT NULL,
        capacity integer CHECK (capacity >= 0),
        away boolean NOT NULL DEFAULT false,
        teams jsonb NOT NULL DEFAULT '[]',
        skills jsonb NOT NULL DEFAULT '[]',
        status text NOT NULL CHECK (status IN ('active', 'archived')),
        turn bigint NOT NULL DEFAULT 0,
        version bigint NOT NULL,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL
    )
    """,
    """
    CREATE TABLE case_rules (
        id uuid PRIMARY KEY,
        name text NOT NULL,
        position integer NOT NULL,
        action text NOT NULL CHECK (action IN ('open_case', 'ignore')),
        channels jsonb NOT NULL DEFAULT '[]',
        account_ids jsonb NOT NULL DEFAULT '[]',
        keywords jsonb NOT NULL DEFAULT '[]',
        new_thread_only boolean NOT NULL,
        condition jsonb,
        category text,
        priority text NOT NULL CHECK (priority IN ('low', 'normal', 'high', 'urgent')),
        tags jsonb NOT NULL DEFAULT '[]',
        assignment jsonb,
        status text NOT NULL CHECK (status IN ('active', 'archived')),
        version bigint NOT NULL,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL
    )
    """,
    "CREATE INDEX case_rules_position_idx ON case_rules (position, id)",
)


def upgrade() -> None:
    bind = op.get_bind()
    with op.get_context().autocommit_block():
        bind.exec_driver_sql("DROP INDEX CONCURRENTLY IF EXISTS interactions_case_idx")
        bind.exec_driver_sql(f"CREATE INDEX CONCURRENTLY interactions_case_idx ON {INDEX}")
    for statement in STATEMENTS:
        bind.exec_driver_sql(statement)


def downgrade() -> None:
    raise RuntimeError("What was asked and answered would be lost: restore a backup from before instead.")
