"""What reports find a period by, and the rules that say in which stage a customer is."""

from alembic import op

revision = "20261126_0018"
down_revision = "20261126_0017"
branch_labels = None
depends_on = None

# Summaries of a megabyte each, where rows lie in the order in which they were recorded and nearly all are recorded when
# they occur: a write pays with a look at two pages. Threads change, invitations are few.
INDEXES = {
    "interactions_occurred_at_idx": "interactions USING brin (occurred_at) WITH (autosummarize = on)",
    "purchases_occurred_at_idx": "purchases USING brin (occurred_at) WITH (autosummarize = on)",
    "redemptions_occurred_at_idx": "redemptions USING brin (occurred_at) WITH (autosummarize = on)",
    "threads_opened_at_idx": "threads USING brin (opened_at) WITH (autosummarize = on)",
    "interactions_tier_idx": "interactions (contact_id, occurred_at) WHERE kind IN ('tier.changed', 'tier.pinned')",
    "cases_created_at_idx": "cases (created_at)",
    "survey_invitations_created_at_idx": "survey_invitations (created_at)",
}

STATEMENTS = (
    # A version is never changed: what a report said by it can be asked for again.
    """
    CREATE TABLE IF NOT EXISTS journey_rules (
        version bigint PRIMARY KEY CHECK (version > 0),
        rules jsonb NOT NULL,
        created_at timestamptz NOT NULL,
        by text NOT NULL
    )
    """,
)


def upgrade() -> None:
    bind = op.get_bind()
    with op.get_context().autocommit_block():
        for name, definition in INDEXES.items():
            bind.exec_driver_sql(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            bind.exec_driver_sql(f"CREATE INDEX CONCURRENTLY {name} ON {definition}")
    for statement in STATEMENTS:
        bind.exec_driver_sql(statement)


def downgrade() -> None:
    bind = op.get_bind()
    bind.exec_driver_sql("DROP TABLE journey_rules")
    for name in INDEXES:
        bind.exec_driver_sql(f"DROP INDEX {name}")
