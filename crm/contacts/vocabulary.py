"""What conditions about contacts can ask, and from where they are asked: told by the packages above."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import tzinfo
from typing import Any, TypeAlias
from uuid import UUID

from crm.contacts import conditions, contributions, definitions
from crm.contacts.conditions import Condition
from crm.contacts.contributions import Contribution
from crm.contacts.fields import Fields
from crm.db.session import Session


@dataclass(frozen=True, slots=True)
class Frame:
    """What contributions ask for, such as the program, and the zone whose calendar says what today is."""

    asked: Mapping[str, Any]
    zone: tzinfo


FrameOf: TypeAlias = Callable[[Session, UUID | None], Awaitable[Frame]]
"""The frame of a program; without one, that of the default program if there is any."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Fields of contacts by who contributes them, and those of the interactions in histories."""

    contributions: tuple[Contribution, ...]
    interactions: Fields
    frame: FrameOf

    @property
    def fields(self) -> Fields:
        """All that can be asked about a contact."""
        return contributions.fields_of(self.contributions)

    async def typed_condition_of(self, session: Session, document: Any, *, pointer: str = "") -> Condition:
        """The same, with attributes compared as what they are defined as now. Raises InvalidCondition."""
        return self.condition_of(await definitions.typed(session, document), pointer=pointer)

    def condition_of(self, document: Any, *, pointer: str = "") -> Condition:
        """A condition from JSON; `pointer` is where it stands in the body. Raises InvalidCondition."""
        return conditions.parse(document, fields=self.fields, interactions=self.interactions, pointer=pointer)
