"""What a member's account contributes, as it was last written down; whoever holds its book knows it of this moment."""

from typing import Any, Final

from crm.contacts import conditions, contribution, contributions, definitions
from crm.contacts.conditions import Condition
from crm.contacts.contributions import Contribution
from crm.contacts.fields import Field
from crm.db.session import Session
from crm.interactions.contribution import INTERACTIONS

CONTRIBUTION: Final = Contribution(
    fields=(
        Field(
            "tier",
            "text",
            "(SELECT t.name FROM tiers t WHERE t.program_id = a.program_id AND t.id = a.tier_id)",
            among="""a.tier_id = ANY (ARRAY(
                SELECT t.id FROM tiers t WHERE t.program_id = asked.program_id AND t.name = ANY ({values})
            ))""",
        ),
        Field("points.available", "number", "coalesce(a.available, 0)"),
        Field("points.lifetime_earned", "number", "coalesce(a.lifetime_earned, 0)"),
        Field("enrolled_at", "instant", "a.enrolled_at"),
    ),
    joins="LEFT JOIN loyalty_accounts a ON a.contact_id = c.id AND a.program_id = asked.program_id",
    asks=(("program_id", "uuid"),),
)

KNOWN: Final = (contribution.CONTRIBUTION, CONTRIBUTION)
"""All that the conditions of a program can ask about, besides histories."""
FIELDS: Final = contributions.fields_of(KNOWN)


def condition_of(document: Any, *, pointer: str = "") -> Condition:
    """A program's condition, from JSON; `pointer` is where it stands in the body. Raises InvalidCondition."""
    return conditions.parse(document, fields=FIELDS, interactions=INTERACTIONS, pointer=pointer)


async def condition_to_keep(session: Session, document: Any, *, before: Any = None, pointer: str) -> Any:
    """A program's condition as it is to be kept, in JSON, with the types of the attributes it asks about.

    What is as it was `before` keeps the types from then; None is none. Raises InvalidCondition.
    """
    if document is None or document == before:
        return document
    kept = await definitions.typed(session, document)
    condition_of(kept, pointer=pointer)
    return kept
