"""What the timeline tells of a person, and how its content goes."""

from typing import Final

from crm.contacts.keeping import PersonalData, Section

PERSONAL_DATA: Final = PersonalData(
    tells=(
        Section(
            "timeline",
            """
            SELECT to_jsonb(i) - 'xid' FROM interactions i WHERE i.contact_id = ANY ($1) ORDER BY i.occurred_at, i.id
            """,
        ),
        Section(
            "message_changes",
            """
            SELECT to_jsonb(h) - 'contact_id' - 'key' FROM interaction_changes h
            WHERE h.contact_id = ANY ($1) ORDER BY h.occurred_at, h.interaction_id, h.seq
            """,
        ),
        Section(
            "threads",
            "SELECT to_jsonb(t) - 'contact_id' FROM threads t WHERE t.contact_id = ANY ($1) ORDER BY t.opened_at, t.id",
        ),
        Section(
            "merges",
            """
            SELECT jsonb_build_object('id', m.id, 'contact_id', m.contact_id, 'other_contact_id', m.other_id,
                'status', m.status, 'created_at', m.created_at, 'undone_at', m.undone_at)
            FROM merges m WHERE m.contact_id = ANY ($1) OR m.other_id = ANY ($1) ORDER BY m.id
            """,
        ),
    ),
    erases=(
        Section("interactions", "SELECT FROM generate_series(1, empty_interactions($1::uuid[], NULL))"),
        Section("threads", "DELETE FROM threads WHERE contact_id = ANY ($1)"),
        Section("message_watermarks", "DELETE FROM message_watermarks WHERE contact_id = ANY ($1)"),
        # It held both contacts whole.
        Section(
            "merges",
            """
            UPDATE merges SET memory = '{}', not_undone = CASE WHEN not_undone IS NOT NULL THEN '[]'::jsonb END
            WHERE contact_id = ANY ($1) OR other_id = ANY ($1)
            """,
        ),
    ),
    keeps=(Section("interactions", "SELECT count(*) FROM interactions WHERE contact_id = ANY ($1)"),),
)
