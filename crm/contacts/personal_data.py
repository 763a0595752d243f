"""What a contact's own rows tell of a person, and how they go."""

from typing import Final

from crm.contacts import contacts
from crm.contacts.contacts import UNSEGMENTED
from crm.contacts.keeping import Erasing, PersonalData, Section
from crm.db.session import Session


async def settle(session: Session, *, erasing: Erasing) -> None:
    """Let nobody count meanwhile who is in the segments that are left."""
    await contacts.lock_segments(session, contact_ids=list(erasing.contact_ids))


PERSONAL_DATA: Final = PersonalData(
    settle=settle,
    tells=(
        Section("contact", "SELECT to_jsonb(c) - 'name_folded' FROM contacts c WHERE c.id = ANY ($1)"),
        Section(
            "identities",
            """
            SELECT to_jsonb(i) - 'contact_id' - 'position' FROM contact_identities i WHERE i.contact_id = ANY ($1)
            ORDER BY i.created_at, i.position, i.kind, i.value
            """,
        ),
        Section(
            "tags",
            """
            SELECT to_jsonb(t) - 'contact_id' FROM contact_tags t WHERE t.contact_id = ANY ($1)
            ORDER BY t.created_at, t.tag
            """,
        ),
        Section(
            "segments",
            """
            SELECT jsonb_build_object('segment_id', s.id, 'name', s.name, 'entered_at', m.entered_at)
            FROM segment_members m JOIN segments s ON s.id = m.segment_id
            WHERE m.contact_id = ANY ($1) AND s.archived_at IS NULL ORDER BY m.entered_at, s.id
            """,
        ),
        Section(
            "consents",
            """
            SELECT to_jsonb(n) - 'contact_id' FROM consents n WHERE n.contact_id = ANY ($1)
            ORDER BY n.occurred_at, n.id
            """,
        ),
        Section(
            "aliases",
            """
            SELECT to_jsonb(a) - 'contact_id' FROM contact_aliases a WHERE a.contact_id = ANY ($1)
            ORDER BY a.created_at, a.alias_id
            """,
        ),
        # Not whom: that is another person's, unless the two are one.
        Section(
            "duplicates",
            """
            SELECT to_jsonb(p) - 'contact_id' - 'other_id' - 'decided_by' FROM duplicate_pairs p
            WHERE p.contact_id = ANY ($1) OR p.other_id = ANY ($1) ORDER BY p.found_at, p.contact_id, p.other_id
            """,
        ),
    ),
    erases=(
        # Answers to batches and uploads belong to nobody in particular, but may tell of the person.
        Section(
            "idempotency_keys",
            """
            WITH known AS (
                SELECT id::text AS text FROM unnest($1::uuid[]) AS g (id)
                UNION SELECT value FROM contact_identities WHERE contact_id = ANY ($1)
                UNION SELECT raw FROM contact_identities WHERE contact_id = ANY ($1)
                UNION SELECT name FROM contacts WHERE id = ANY ($1)
            )
            DELETE FROM idempotency_keys k WHERE k.contact_id = ANY ($1) OR k.contact_id IS NULL AND EXISTS (
                SELECT FROM known WHERE position(convert_to(known.text, 'UTF8') IN k.body) > 0
            )
            """,
        ),
        # What was allowed and when stays, without what was shown and said.
        Section("consents", "SELECT FROM generate_series(1, empty_consents($1::uuid[]))"),
        Section("duplicates", "DELETE FROM duplicate_pairs WHERE contact_id = ANY ($1) OR other_id = ANY ($1)"),
        Section("tags", "DELETE FROM contact_tags WHERE contact_id = ANY ($1)"),
        Section("segments", f"WITH {UNSEGMENTED} SELECT FROM unsegmented"),
        Section(
            "identities",
            """
            WITH gone AS (DELETE FROM contact_identities WHERE contact_id = ANY ($1) RETURNING 1), freed AS (
                DELETE FROM identity_directory WHERE (value, kind, account) IN (
                    SELECT value, kind, account FROM contact_identities WHERE contact_id = ANY ($1)
                ) AND contact_id = ANY ($1)
            )
            SELECT FROM gone
            """,
        ),
        Section("contact", "DELETE FROM contacts WHERE id = ANY ($1)"),
    ),
    keeps=(Section("consents", "SELECT count(*) FROM consents WHERE contact_id = ANY ($1)"),),
)
