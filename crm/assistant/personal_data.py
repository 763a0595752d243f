"""What the bot's replies tell of a person, and how it goes. What was said is the timeline's."""

from typing import Final

from crm.contacts.keeping import PersonalData, Section

PERSONAL_DATA: Final = PersonalData(
    tells=(
        Section(
            "assistant_replies",
            """
            SELECT to_jsonb(r) - 'contact_id' FROM assistant_replies r
            WHERE r.contact_id = ANY ($1) ORDER BY r.created_at, r.id
            """,
        ),
    ),
    # That there was a question, and whether it was answered, stays to be counted; figures and times of theirs go.
    erases=(
        Section(
            "assistant_replies",
            "UPDATE assistant_replies SET sources = '[]', thread_id = NULL WHERE contact_id = ANY ($1)",
        ),
    ),
    keeps=(Section("assistant_replies", "SELECT count(*) FROM assistant_replies WHERE contact_id = ANY ($1)"),),
)
