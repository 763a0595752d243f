"""What a contact's own rows tell of a person, and how they go."""

from typing import Final

from crm.contacts.keeping import PersonalData, Section

PERSONAL_DATA: Final = PersonalData(
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
            "aliases",
            """
            SELECT to_jsonb(a) - 'contact_id' FROM contact_aliases a WHERE a.contact_id = ANY ($1)
            ORDER BY a.created_at, a.alias_id
            """,
        ),
    ),
    erases=(
        # Answers to batches belong to nobody in particular, but may tell of the person.
        Section(
            "idempotency_keys",
            """
            DELETE FROM idempotency_keys k WHERE k.contact_id = ANY ($1) OR k.contact_id IS NULL AND EXISTS (
                SELECT FROM unnest($1::uuid[]) AS g (id) WHERE position(convert_to(g.id::text, 'UTF8') IN k.body) > 0
            )
            """,
        ),
        Section("tags", "DELETE FROM contact_tags WHERE contact_id = ANY ($1)"),
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
)
