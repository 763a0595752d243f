"""Rows whose people are looked for by more than their addresses, as where one contact is made over the API.

Whoever resembles somebody who is there is refused, linked to them, or made all the same, and may be a suggestion then.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import datetime
from uuid import UUID, uuid4

from crm.contacts import filling
from crm.contacts.claims import IdentityBlocked
from crm.contacts.contacts import Contact
from crm.contacts.drafts import InvalidContact
from crm.contacts.identities import IdentityTaken
from crm.db.session import Session
from crm.errors import CrmError
from crm.exchange import contact_rows
from crm.exchange.contact_rows import Said
from crm.exchange.mappings import IDENTITY
from crm.exchange.outcomes import ERASED_BEFORE, Outcome, RowError, failed, refused
from crm.interactions import admissions, people
from crm.interactions.admissions import Admitted, Newcomer, PossibleDuplicate
from crm.interactions.admissions import OnDuplicate as Wish


class _Tried(Exception):
    """Takes back what a trial did."""


async def store(
    session: Session, *, said: Sequence[Said], wish: Wish, import_id: UUID, by: str, now: datetime
) -> list[Outcome]:
    """Make contacts, or find those who are there, in order; the outcome of each row.

    Who is linked gets the row's free addresses and what else is lacking. Raises Unavailable where somebody else changed
    one of them at the same moment.
    """
    data = {"import_id": import_id}
    results = await admissions.admit_all(
        session, newcomers=[Newcomer(each.contact, wish) for each in said], by=by, data=data, now=now
    )
    outcomes: list[Outcome] = []
    before: dict[UUID, Contact] = {}
    after: dict[UUID, Contact] = {}
    for each, result in zip(said, results, strict=True):
        if isinstance(result, CrmError):
            outcomes.append(_refusal(each, result))
        elif result.is_new:
            note = ERASED_BEFORE if result.was_erased else None
            outcomes.append(Outcome("created", result.contact.id, note=note))
        else:
            outcomes.append(_filled(each, result, before, after, now))
    changed = [(before[contact_id], contact) for contact_id, contact in after.items() if contact != before[contact_id]]
    await people.store_all(session, made=[], changed=changed, by=by, data=data, now=now)
    last = {result.contact.id: result.contact for result in results if isinstance(result, Admitted)} | after
    return [
        outcome if outcome.contact_id is None else replace(outcome, version=last[outcome.contact_id].version)
        for outcome in outcomes
    ]


async def foresee(
    session: Session, *, said: Sequence[Said], wish: Wish, seen: AbstractSet[int], now: datetime
) -> list[Outcome]:
    """What `store` would answer, by doing it and taking it back; `seen` are the `marks` of what came earlier."""
    met = [any(hash(one.address) in seen for one in each.contact.identities) for each in said]
    fresh = [each for each, known in zip(said, met, strict=True) if not known]
    judged: list[Outcome] = []
    try:
        async with session.savepoint():
            judged = await store(session, said=fresh, wish=wish, import_id=uuid4(), by="", now=now)
            raise _Tried  # noqa: TRY301 - it ends the savepoint
    except _Tried:
        rest = iter(judged)
    return [_again(each, wish) if known else next(rest) for each, known in zip(said, met, strict=True)]


def _again(said: Said, wish: Wish) -> Outcome:
    """What becomes of a row with an address of an earlier one."""
    match wish:
        case "reject":
            owners = {one.address: contact_rows.SOMEBODY for one in said.contact.identities}
            return contact_rows.duplicate(said.contact, owners)
        case "link":
            return Outcome("updated")
        case "create":
            return Outcome("created")


def _filled(
    said: Said, admitted: Admitted, before: dict[UUID, Contact], after: dict[UUID, Contact], now: datetime
) -> Outcome:
    contact_id = admitted.contact.id
    before.setdefault(contact_id, admitted.contact)
    contact = after.get(contact_id, admitted.contact)
    try:
        # Addresses are given by who may have them, and not here.
        more = filling.filled(
            contact, replace(said.contact, identities=[]), named=said.named, overwrite=False, now=now
        )  # fmt: skip
    except InvalidContact as error:
        return Outcome("failed", errors=[refused(each.code, each.message) for each in error.errors])
    if more == contact:
        return Outcome("updated" if admitted.has_more else "skipped", contact_id)
    after[contact_id] = replace(more, version=before[contact_id].version + 1, updated_at=now)
    return Outcome("updated", contact_id)


def _refusal(said: Said, error: CrmError) -> Outcome:
    match error:
        case IdentityTaken():
            owners = {
                one.address: UUID(error.members["contact_id"])
                for one in said.contact.identities
                if one.value == error.members["identity"]["value"] and one.kind == error.members["identity"]["kind"]
            }
            return contact_rows.duplicate(said.contact, owners)
        case IdentityBlocked():
            return failed(error, field=f"{IDENTITY}{error.members['identity']['kind']}")
        case PossibleDuplicate():
            listed = "; ".join(
                f"{one['contact_id']} ({', '.join(reason['text'] for reason in one['reasons'])})"
                for one in error.members["candidates"]
            )
            return Outcome("failed", errors=[RowError(None, None, error.code, f"This may be the contact {listed}.")])
        case _:
            return failed(error)
