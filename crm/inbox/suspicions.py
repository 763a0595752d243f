"""Contacts who may be one person by what channels tell of them: suggested, and never taken for granted.

It is told on the timeline of the contact that was chosen, once, and stands among the duplicates until somebody decides.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from crm.contacts import likeness, lookalikes, suggestions
from crm.contacts.contacts import Contact
from crm.contacts.identities import Identity
from crm.contacts.likeness import DuplicateReason
from crm.contacts.suggestions import SHARED, SUGGESTED_MIN, Pair, Suggestion
from crm.db import writes
from crm.db.session import Session
from crm.interactions import timeline
from crm.interactions.people import CHANNEL
from crm.interactions.timeline import Report

SAME_SUSPECTED: Final = "contact.same_suspected"
SUSPECTED_BY: Final = "inbox"

VOUCHED_SCORE: Final = 90
TYPED_SCORE: Final = 70
MENTIONED_SCORE: Final = SUGGESTED_MIN
"""How likely two are one person, in percent, where one has an address for which the other's channel vouches, which the
other typed, or which the other told of in a message."""


@dataclass(frozen=True, slots=True)
class Clue:
    """An address of somebody else's that was told of a contact; `mentioned` in a message, or as theirs."""

    identity: Identity
    mentioned: bool = False

    @property
    def score(self) -> int:
        """How likely it makes two contacts one person."""
        if self.mentioned:
            return MENTIONED_SCORE
        return VOUCHED_SCORE if self.identity.verified else TYPED_SCORE

    def reason(self) -> DuplicateReason:
        """The same in words."""
        kind = self.identity.kind
        if self.mentioned:
            return DuplicateReason(SHARED, f"The {kind} of one was named in a message of the other.")
        said = "writes from" if self.identity.verified else "gave"
        return DuplicateReason(SHARED, f"One {said} the {kind} of the other.")


Clues = Mapping[tuple[UUID, UUID], Clue]
"""By who was chosen, and who may be the same."""


async def tell(session: Session, *, clues: Clues, settled: Collection[tuple[UUID, UUID]], now: datetime) -> None:
    """Say who may be whom. Of those that are `settled` the claims have suggested it."""
    if not clues:
        return
    ordered = sorted(clues.items(), key=lambda item: item[0])
    reports = [(contact_id, _report(contact_id, other_id, clue, now)) for (contact_id, other_id), clue in ordered]
    await timeline.record_all(session, reports=reports, by=SUSPECTED_BY, now=now, ours=True)
    found = [
        Suggestion(Pair.of(contact_id, other_id), clue.score, [clue.reason()])
        for (contact_id, other_id), clue in ordered
        if (contact_id, other_id) not in settled
    ]
    await writes.write(session, [suggestions.suggest(found, now=now)])


async def compare(session: Session, *, made: Sequence[Contact], now: datetime) -> None:
    """Suggest those who are there and resemble contacts that were just made."""
    people = [person for contact in made if lookalikes.recognisable(person := likeness.person_of(contact))]
    if not people:
        return
    near = await lookalikes.find(session, wanted={}, people=people)
    found = [
        Suggestion.of(person.id, other.id, alike)
        for person, others in zip(people, near.people, strict=True)
        for other, alike in lookalikes.likely(person, _others(person.id, others), least=SUGGESTED_MIN)
    ]
    await writes.write(session, [suggestions.suggest(found, now=now)])


def _others(own: UUID, people: Iterable[likeness.Person]) -> list[likeness.Person]:
    return [person for person in people if person.id != own]


def _report(contact_id: UUID, other_id: UUID, clue: Clue, now: datetime) -> Report:
    identity = clue.identity
    return Report(
        channel=CHANNEL, kind=SAME_SUSPECTED, occurred_at=now, source=SUSPECTED_BY,
        external_id=f"{contact_id}:{other_id}",
        data={
            "contact_id": str(other_id),
            "identity": {"kind": identity.kind, "account": identity.account, "value": identity.value},
            "verified": identity.verified,
        },
    )  # fmt: skip
