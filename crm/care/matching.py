"""Conditions about a case, or about the message that may become one, and the contact whose it is."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from crm.care.contribution import CONTRIBUTION
from crm.contacts import conditions, contributions, definitions
from crm.contacts.conditions import Condition, Facts
from crm.contacts.contributions import Contribution
from crm.contacts.fields import Field, Fields
from crm.contacts.vocabulary import Vocabulary
from crm.db.session import Session
from crm.interactions import histories

# Known to whoever asks, and so read from nowhere.
CASE: Final = tuple(
    Field(f"case.{name}", "list" if name == "tags" else "text", "")
    for name in ("priority", "category", "channel", "subject", "tags")
)
MESSAGE: Final = (
    *(Field(f"message.{name}", "text", "") for name in ("channel", "account_id", "subject", "body")),
    Field("message.new_thread", "boolean", ""),
)
_OWN: Final = frozenset(field.name for field in (*CASE, *MESSAGE))


def condition_of(vocabulary: Vocabulary, document: Any, *, own: Iterable[Field], pointer: str = "") -> Condition:
    """A condition about `own` fields and those of contacts, from JSON. Raises InvalidCondition."""
    fields = Fields([*own, *(field for each in _known(vocabulary) for field in each.fields)])
    return conditions.parse(document, fields=fields, interactions=vocabulary.interactions, pointer=pointer)


async def to_keep(
    session: Session, vocabulary: Vocabulary, document: Any, *, own: Iterable[Field], pointer: str = "/condition"
) -> Any:
    """A condition as it is to be kept, in JSON; None is none. Raises InvalidCondition."""
    if document is None:
        return None
    kept = await definitions.typed(session, document)
    condition_of(vocabulary, kept, own=own, pointer=pointer)
    return kept


async def people(
    session: Session,
    *,
    vocabulary: Vocabulary,
    asked: Collection[Condition],
    contact_ids: Collection[UUID],
    now: datetime,
) -> dict[UUID, Facts]:
    """What these conditions ask about contacts, and no more: a query for all fields, and one for all histories."""
    everybody = list(dict.fromkeys(contact_ids))
    fields = [
        field
        for field in dict.fromkeys(field for condition in asked for field in conditions.fields_of(condition))
        if field.name not in _OWN
    ]
    counted = list(dict.fromkeys(each for condition in asked for each in conditions.histories_of(condition)))
    if not everybody or not (fields or counted):
        return {contact_id: Facts() for contact_id in everybody}
    frame = await vocabulary.frame(session, None)
    values: Mapping[UUID, Mapping[str, Any]] = {}
    if fields:
        values = await contributions.read(
            session, contributions=_known(vocabulary), fields=fields, contact_ids=everybody, asked=frame.asked
        )
    moments = [(contact_id, now) for contact_id in everybody]
    counts = await histories.count(session, histories=counted, moments=moments, zone=frame.zone)
    return {one: Facts(values.get(one, {}), counts[one, now]) for one in everybody}


def _known(vocabulary: Vocabulary) -> list[Contribution]:
    """What is contributed, care's own part included, once."""
    return [CONTRIBUTION, *(each for each in vocabulary.contributions if each is not CONTRIBUTION)]


def holds(condition: Condition | None, person: Facts, own: Mapping[str, Any], *, now: datetime) -> bool:
    """Whether a condition holds of a contact and of what is `own` beside; none always does."""
    return condition is None or conditions.holds(condition, Facts({**person.values, **own}, person.counts), now=now)
