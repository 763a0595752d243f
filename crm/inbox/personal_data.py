"""What deliveries tell of a person, and how it goes."""

from typing import Final

from crm.contacts.keeping import Erasing, PersonalData, Section
from crm.db.session import Session


async def _settle(session: Session, *, erasing: Erasing) -> None:
    """Let nothing go any more to who is being forgotten."""
    await session.execute(
        """
        UPDATE outbound_messages SET status = 'cancelled', updated_at = $2
        WHERE contact_id = ANY ($1) AND status = 'queued'
        """,
        list(erasing.contact_ids), erasing.now,
    )  # fmt: skip


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
        Section(
            "sent_messages",
            "SELECT to_jsonb(m) - 'contact_id' FROM outbound_messages m WHERE m.contact_id = ANY ($1) ORDER BY m.id",
        ),
    ),
    settle=_settle,
    erases=(
        # What their provider calls them; the name that is ours goes with the interactions.
        Section(
            "message_names",
            """
            DELETE FROM interaction_directory d USING outbound_messages m, interactions i
            WHERE m.contact_id = ANY ($1) AND m.external_id IS NOT NULL AND i.contact_id = m.contact_id
                AND i.id = m.id AND d.source = i.source AND d.external_id = m.external_id
            """,
        ),
        Section(
            "sent_messages",
            """
            UPDATE outbound_messages SET identity = NULL, sent_to = NULL, provider_template = NULL, error = NULL,
                external_id = NULL, natural_key = NULL
            WHERE contact_id = ANY ($1)
            """,
        ),
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
    keeps=(Section("sent_messages", "SELECT count(*) FROM outbound_messages WHERE contact_id = ANY ($1)"),),
)
