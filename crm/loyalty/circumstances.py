"""What a program's conditions are about: its members, each at the moment of a fact and as they were before it."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from crm.contacts import conditions, contributions
from crm.contacts.conditions import Condition, Facts
from crm.db.session import Session
from crm.interactions import histories
from crm.interactions.histories import Moment
from crm.interactions.timeline import Interaction
from crm.loyalty import contribution, multipliers
from crm.loyalty.books import Book
from crm.loyalty.earning import Rule
from crm.loyalty.multipliers import Holding
from crm.loyalty.programs import Program


async def facts_for(
    session: Session,
    *,
    program: Program,
    asked: Iterable[Condition],
    moments: Collection[Moment],
    known: Mapping[UUID, Mapping[str, Any]] | None = None,
) -> dict[Moment, Facts]:
    """What these conditions ask about contacts, and no more: one query for all fields, and one for all histories.

    Fields are as they are now, histories as they were at each moment. `known` are fields that the caller knows better,
    such as those `of_book`; where it knows them of everybody, they are not read.
    """
    asked = list(asked)
    people = list({contact_id for contact_id, _ in moments})
    known = known or {}
    fields = dict.fromkeys(field for condition in asked for field in conditions.fields_of(condition))
    unknown = [field for field in fields if any(field.name not in known.get(contact_id, ()) for contact_id in people)]
    values: Mapping[UUID, Mapping[str, Any]] = {}
    if unknown:
        values = await contributions.read(
            session,
            contributions=contribution.KNOWN,
            fields=unknown,
            contact_ids=people,
            asked={"program_id": program.id},
        )
    counts = await histories.count(
        session,
        histories=dict.fromkeys(history for condition in asked for history in conditions.histories_of(condition)),
        moments=moments,
        zone=program.terms.zone,
    )
    return {
        (contact_id, at): Facts({**values.get(contact_id, {}), **known.get(contact_id, {})}, counts[contact_id, at])
        for contact_id, at in moments
    }


async def facts_of_member(
    session: Session, *, program: Program, book: Book, asked: Iterable[Condition | None], now: datetime
) -> Facts:
    """What these conditions, where there are any, ask about the member of a settled book at `now`."""
    conditions_asked = [condition for condition in asked if condition is not None]
    if not conditions_asked:
        return Facts()
    moment = (book.contact_id, now)
    known = {book.contact_id: of_book(book)}
    found = await facts_for(session, program=program, asked=conditions_asked, moments=[moment], known=known)
    return found[moment]


def of_book(book: Book) -> dict[str, Any]:
    """The fields of a member that a settled book knows of this moment."""
    current = book.standing().current
    return {
        "tier": None if current is None else current.name,
        "points.available": book.available,
        "points.lifetime_earned": book.lifetime_earned,
        "enrolled_at": book.enrolled_at,
    }


class Circumstances:
    """Says which rules there are for members whose books are locked, and whether the conditions of these hold."""

    def __init__(self, program: Program, facts: dict[Moment, Facts], held: frozenset[Holding] = frozenset()) -> None:
        self._program = program
        self._facts = facts
        self._held = held
        self._counted: dict[UUID, list[datetime]] = {}
        for (contact_id, at), known in facts.items():
            if known.counts:
                self._counted.setdefault(contact_id, []).append(at)

    @classmethod
    async def read(
        cls,
        session: Session,
        *,
        program: Program,
        books: Mapping[UUID, Book],
        moments: Iterable[Moment],
        rules: Iterable[Rule] | None = None,
    ) -> "Circumstances":
        """What has to be known before facts of those contacts and times are planned: nothing where no rule asks.

        `rules` are those that may ask, where it is not all that are active.
        """
        if rules is None:
            rules = (rule for rule in program.rules if rule.status == "active")
        asked = [rule.condition for rule in rules if rule.condition is not None]
        asked += [one.condition for one in program.multipliers if one.condition is not None]
        moments = {(contact_id, at) for contact_id, at in moments if contact_id in books}
        held = await multipliers.held(
            session, multipliers=program.multipliers, contact_ids={contact_id for contact_id, _ in moments}
        )
        if not asked:
            return cls(program, {}, held)
        facts = await facts_for(
            session,
            program=program,
            asked=asked,
            moments=moments,
            known={contact_id: of_book(book) for contact_id, book in books.items()},
        )
        return cls(program, facts, held)

    def rules(self, book: Book, at: datetime) -> Sequence[Rule]:
        """The program's rules and, behind them, the offers that multiply what this member does at that time.

        Nothing is there of an offer that is not theirs: nobody else shall hear of it.
        """
        if not self._program.multipliers:
            return self._program.rules
        known = self._facts.get((book.contact_id, at), Facts())
        facts = Facts({**known.values, **of_book(book)}, known.counts)
        return (
            *self._program.rules,
            *(one.rule for one in self._program.multipliers if one.is_for(book, at=at, held=self._held, facts=facts)),
        )

    def conditions_hold(self, book: Book, at: datetime) -> Callable[[Rule], bool]:
        """For `Member.condition_holds`: by the book as it is when asked, and by what had happened at that time.

        Of whom nothing was read, nothing holds.
        """

        def holds(rule: Rule) -> bool:
            assert rule.condition is not None, "only a rule with a condition is asked about"
            known = self._facts.get((book.contact_id, at))
            if known is None:
                return False
            facts = Facts({**known.values, **of_book(book)}, known.counts)
            return conditions.holds(rule.condition, facts, now=at.astimezone(self._program.terms.zone))

        return holds

    def happened(self, interaction: Interaction) -> None:
        """Count an interaction that is planned, for what is planned after it, as if it were on the timeline."""
        contact_id, zone = interaction.contact_id, self._program.terms.zone
        for at in self._counted.get(contact_id, ()):
            known = self._facts[contact_id, at]
            counts = {
                history: number + histories.would_count(history, interaction, at=at, zone=zone)
                for history, number in known.counts.items()
            }
            self._facts[contact_id, at] = replace(known, counts=counts)
