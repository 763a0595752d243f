"""Segments and who is in them, and the indexes that conditions about contacts are answered by."""

from alembic import op

revision = "20261126_0002"
down_revision = "20261126_0001"
branch_labels = None
depends_on = None

# Built beside the writes that go on. One that broke off has left an index that nothing uses.
INDEXES = {
    "contacts_created_at_id_idx": "contacts (created_at, id)",
    "contacts_updated_at_id_idx": "contacts (updated_at, id)",
    "contacts_name_folded_id_idx": 'contacts (name_folded COLLATE "C", id)',
    "contacts_birthday_idx": "contacts ((extract(month FROM birth_on) * 100 + extract(day FROM birth_on)))",
    "contacts_attributes_idx": "contacts USING gin (attributes jsonb_path_ops)",
}

# What a statement needs that tells of more contacts than should pass through the application.
IDS = (
    """
    CREATE FUNCTION new_uuid7() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE AS $$
        SELECT encode(set_bit(set_bit(overlay(
            uuid_send(gen_random_uuid())
            PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3) FROM 1 FOR 6
        ), 52, 1), 53, 1), 'hex')::uuid
    $$
    """,
)

SEGMENTS = (
    """
    CREATE TABLE segments (
        id uuid PRIMARY KEY,
        name text NOT NULL,
        description text,
        condition jsonb NOT NULL,
        program_id uuid REFERENCES programs,
        refresh text NOT NULL CHECK (refresh IN ('hourly', 'daily', 'manual')),
        version bigint NOT NULL,
        by text NOT NULL,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        requested_at timestamptz,
        archived_at timestamptz
    )
    """,
    "CREATE UNIQUE INDEX segments_name_key ON segments (name) WHERE archived_at IS NULL",
    # Locked by whoever changes who is in the segment. `position` is the last contact that was looked at, and `version`
    # that of the segment which is, or was last, evaluated.
    """
    CREATE TABLE segment_evaluations (
        segment_id uuid PRIMARY KEY REFERENCES segments,
        version bigint NOT NULL,
        members_count bigint NOT NULL DEFAULT 0,
        contacts_count bigint NOT NULL DEFAULT 0,
        position uuid,
        started_at timestamptz,
        evaluated_at timestamptz
    ) WITH (fillfactor = 50)
    """,
    """
    CREATE TABLE segment_members (
        contact_id uuid NOT NULL,
        segment_id uuid NOT NULL,
        entered_at timestamptz NOT NULL,
        PRIMARY KEY (contact_id, segment_id)
    )
    """,
    "CREATE INDEX segment_members_segment_id_contact_id_idx ON segment_members (segment_id, contact_id)",
    # A function, because the planner asks it, and so knows how many members there are; dear, so that it is asked once.
    """
    CREATE FUNCTION segment_ids(p_values text[]) RETURNS uuid[] LANGUAGE sql STABLE PARALLEL SAFE COST 10000 AS $$
        SELECT ARRAY(
            SELECT s.id FROM segments s
            WHERE s.archived_at IS NULL AND (s.name = ANY (p_values) OR s.id::text = ANY (p_values))
        )
    $$
    """,
    # How far somebody has read the timelines of all contacts.
    """
    CREATE TABLE timeline_cursors (
        name text PRIMARY KEY,
        xid xid8 NOT NULL,
        interaction_id uuid NOT NULL
    )
    """,
)


def upgrade() -> None:
    with op.get_context().autocommit_block():
        for name, definition in INDEXES.items():
            op.get_bind().exec_driver_sql(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.get_bind().exec_driver_sql(f"CREATE INDEX CONCURRENTLY {name} ON {definition}")
    for statement in (*IDS, *SEGMENTS):
        op.get_bind().exec_driver_sql(statement)


def downgrade() -> None:
    raise RuntimeError("Segments that people defined would be lost: restore a backup from before instead.")
