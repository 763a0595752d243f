"""What a contact's own rows contribute."""

from typing import Final

from crm.contacts import consents
from crm.contacts.contributions import Contribution
from crm.contacts.fields import Field

_CONSENT: Final = consents.decisive("c.id", channel="split_part({key}, '.', 1)", purpose="split_part({key}, '.', 2)")

CONTRIBUTION: Final = Contribution(
    fields=(
        Field("name", "text", "c.name"),
        Field("given_name", "text", "c.given_name"),
        Field("family_name", "text", "c.family_name"),
        Field("locale", "text", "c.locale"),
        Field("time_zone", "text", "c.time_zone"),
        Field("birth_on", "date", "c.birth_on"),
        Field("created_at", "instant", "c.created_at"),
        Field(
            "tags",
            "list",
            "ARRAY(SELECT t.tag FROM contact_tags t WHERE t.contact_id = c.id)",
            among="EXISTS (SELECT FROM contact_tags t WHERE t.contact_id = c.id AND t.tag = ANY ({values}))",
        ),
        # The kinds of address that the contact can be reached or recognised by.
        Field(
            "identities",
            "list",
            "ARRAY(SELECT DISTINCT i.kind FROM contact_identities i WHERE i.contact_id = c.id AND NOT i.disputed)",
            among="""EXISTS (
                SELECT FROM contact_identities i
                WHERE i.contact_id = c.id AND NOT i.disputed AND i.kind = ANY ({values})
            )""",
        ),
        # By name or by id. In one that is archived nobody is any more.
        Field(
            "segments",
            "list",
            """ARRAY(
                SELECT unnest(ARRAY[s.name, s.id::text]) FROM segment_members m JOIN segments s ON s.id = m.segment_id
                WHERE m.contact_id = c.id AND s.archived_at IS NULL
            )""",
            among="""EXISTS (
                SELECT FROM segment_members m WHERE m.contact_id = c.id AND m.segment_id = ANY (segment_ids({values}))
            )""",
        ),
        Field("attributes.", "any", "c.attributes -> {key}", within="c.attributes", has_types=True),
        # What holds of a channel and a purpose, such as consents.whatsapp.marketing: `granted`, `denied` or nothing.
        Field(
            "consents.",
            "text",
            f"(SELECT d.status FROM ({_CONSENT}) d)",
            keys=consents.PAIR,
        ),
    )
)
