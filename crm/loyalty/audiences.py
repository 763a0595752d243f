"""Whom an offer is for: everybody, or those under a condition, from a tier up, or named one by one. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self
from uuid import UUID

from crm.contacts import conditions
from crm.contacts.conditions import Condition, Facts
from crm.loyalty import contribution
from crm.loyalty.books import Book
from crm.loyalty.earning import Window, window_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Audience:
    """All that is asked has to hold; where nothing is, everybody is meant."""

    condition: Condition | None = None
    tier_id: UUID | None = None
    named: bool = False

    @classmethod
    def of(cls, document: Mapping[str, Any] | None, *, named: bool) -> Self:
        """The audience that a JSON definition of the API describes; `named` says that it names people besides."""
        given = document or {}
        condition, tier_id = given.get("condition"), given.get("tier_id")
        return cls(
            condition=None if condition is None else contribution.condition_of(condition),
            tier_id=None if tier_id is None else UUID(tier_id),
            named=named,
        )

    def includes(self, book: Book, *, at: datetime, facts: Facts, named: bool) -> bool:
        """Whether the member of a settled book is meant; `facts` are what the condition asks, `named`: is one of them.

        What the condition says relative to today is meant of `at`, by the program's calendar.
        """
        if self.named and not named:
            return False
        if self.tier_id is not None and not _stands_in(book, self.tier_id):
            return False
        return self.condition is None or conditions.holds(self.condition, facts, now=at.astimezone(book.ladder.zone))


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What an offer gives, to whom, when and how often. Only one that is `active` is anybody's.

    With `auto` it holds without being claimed. `categories` and `skus` say what it is about.
    """

    id: UUID
    program_id: UUID
    version: int
    name: str
    status: str
    benefit: Mapping[str, Any]
    audience: Audience
    window: Window | None
    claims_max: int | None
    claims_max_per_member: int
    personal_code: bool
    auto: bool
    categories: frozenset[str]
    skus: frozenset[str]

    @classmethod
    def of(cls, definition: Mapping[str, Any], *, named: bool, **facts: Any) -> Self:
        """The offer that a JSON definition of the API describes; ids, version and status are among the `facts`."""
        return cls(
            name=definition["name"],
            benefit=definition["benefit"],
            audience=Audience.of(definition.get("audience"), named=named),
            window=window_in(definition),
            claims_max=definition.get("claims_max"),
            claims_max_per_member=definition.get("claims_max_per_member", 1),
            personal_code=definition.get("personal_code", False),
            auto=definition.get("auto", False),
            categories=frozenset(definition.get("categories") or ()),
            skus=frozenset(definition.get("skus") or ()),
            **facts,
        )


def window_in(definition: Mapping[str, Any]) -> Window | None:
    """The window of a JSON definition, if it has one that excludes anything."""
    given = {name: value for name, value in (definition.get("window") or {}).items() if value}
    return window_of(given) if given else None


def _stands_in(book: Book, tier_id: UUID) -> bool:
    """Whether the member stands in that tier, or above it."""
    needed, current = book.ladder.tier(tier_id), book.standing().current
    return needed is not None and current is not None and current.threshold >= needed.threshold
