"""What deliveries tell of a person, and how it goes."""

from typing import Final

from crm.contacts.keeping import PersonalData, Section

PERSONAL_DATA: Final = PersonalData(
    tells=(
        Section(
            "deliveries",
            """
            SELECT jsonb_build_object('id', d.id, 'account_id', d.account_id, 'received_at', d.received_at,
                'body', encode(d.body, 'escape'))
            FROM inbox_deliveries d WHERE d.contact_ids && $1 AND d.body IS NOT NULL ORDER BY d.id
            """,
        ),
    ),
    erases=(
        # The outcomes too: ids of other systems, and what was said of an error, may hold an address.
        Section(
            "deliveries",
            """
            UPDATE inbox_deliveries SET body = NULL, headers = '{}', query = '{}', url = '', events = NULL,
                error = NULL, contact_ids = NULL, purged_at = coalesce(purged_at, now())
            WHERE contact_ids && $1
            """,
        ),
        Section(
            "privacy_requests",
            """
            UPDATE privacy_requests r SET identities = '[]', data = '{}'
            WHERE EXISTS (
                SELECT FROM jsonb_array_elements(r.identities) e
                JOIN contact_identities i ON i.contact_id = ANY ($1) AND i.kind = e ->> 'kind'
                    AND e ->> 'value' IN (i.value, i.raw)
            )
            """,
        ),
    ),
)
