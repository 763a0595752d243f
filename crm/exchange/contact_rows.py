"""Rows that are contacts: what a row says, and what that comes to beside who is there."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Final
from uuid import UUID

from crm.contacts import blocked_identities, contacts, drafts, filling, identities
from crm.contacts.addresses import Address
from crm.contacts.attributes import Attribute
from crm.contacts.claims import IdentityBlocked
from crm.contacts.contacts import Contact
from crm.contacts.definitions import AttributeDefinition
from crm.contacts.drafts import Draft, InvalidContact, NewIdentity
from crm.db.session import Session
from crm.errors import FieldError, Unavailable
from crm.exchange import cells
from crm.exchange.cells import BadCell
from crm.exchange.mappings import ATTRIBUTE, IDENTITY, ColumnMapping
from crm.exchange.outcomes import ERASED_BEFORE, OnDuplicate, Outcome, RowError, failed, refused
from crm.exchange.sheets import Row
from crm.interactions import people

SOMEBODY: Final = UUID(int=0)
"""Whoever an earlier row of the file would become, when a file is only tried."""


@dataclass(frozen=True, slots=True)
class Said:
    """A row's contact; `named` is whether the row has a name, or it is only called by what it is known by."""

    contact: Contact
    named: bool


class Reader:
    """Turns rows into contacts. Knows nobody, so it can work while others are being stored."""

    def __init__(
        self,
        mapping: ColumnMapping,
        columns: Sequence[str],
        *,
        region: str,
        defined: Mapping[str, AttributeDefinition],
        now: datetime,
    ) -> None:
        self._places = list(mapping.places(columns))
        self._columns = columns
        self._constants = mapping.constants
        self._order = mapping.date_order
        self._region = region
        self._defined = defined
        self._now = now

    def read(self, row: Row) -> tuple[Said | None, list[RowError]]:
        """What a row says, or everything that is wrong with it."""
        if any(cell.strip() for cell in row.cells[len(self._columns) :]):
            return None, [refused("too_many_cells", "The row has more cells than the header.")]
        given = _Given()
        errors: list[RowError] = []
        for field, text in self._constants.items():
            self._take(given, field, None, text, errors)
        for position, field in self._places:
            if row.cells[position]:
                self._take(given, field, self._columns[position], row.cells[position], errors)
        if not given.identities and not errors:
            errors.append(
                refused("identity_missing", "The row has no identity: nothing tells who it is the next time.")
            )
        if errors:
            return None, errors
        try:
            return self._said(given), []
        except InvalidContact as error:
            return None, [given.located(each) for each in error.errors]

    def _take(self, given: "_Given", field: str, column: str | None, cell: str, errors: list[RowError]) -> None:
        try:
            text = cells.plain(cell)
            if not text:
                return
            if field.startswith(IDENTITY):
                kind = field.removeprefix(IDENTITY)
                given.identities.extend(
                    (column, NewIdentity(kind=kind, value=value)) for value in cells.identities(text)
                )
                return
            if field == "attributes":
                given.attributes |= cells.json_object(text)
            elif field == "tags":
                given.tags.extend(cells.several(text))
            elif field == "birth_on":
                given.birth_on = cells.day(text, order=self._order)
            elif field == "verified":
                given.verified = cells.truth(text)
            elif field.startswith(ATTRIBUTE):
                name = field.removeprefix(ATTRIBUTE)
                kind = self._defined[name].type if name in self._defined else "text"
                given.attributes[name] = cells.attribute(text, kind=kind, order=self._order)
            else:
                given.values[field] = text
            given.columns[field] = column
        except BadCell as bad:
            errors.append(RowError(field, column, bad.code, bad.message))

    def _said(self, given: "_Given") -> Said:
        values = given.values
        name = values.get("name") or " ".join(
            part for part in (values.get("given_name"), values.get("family_name")) if part
        )
        draft = Draft(
            name=name or given.identities[0][1].value[: drafts.LINE_LENGTH_MAX],
            given_name=values.get("given_name"), family_name=values.get("family_name"), locale=values.get("locale"),
            time_zone=values.get("time_zone"), birth_on=given.birth_on, tags=given.tags, attributes=given.attributes,
            identities=[replace(identity, verified=given.verified) for _, identity in given.identities],
        )  # fmt: skip
        contact = drafts.contact_of(draft, region=self._region, defined=self._defined, now=self._now)
        return Said(contact, named=bool(name))


class _Given:
    """What a row has in its fields, and in which columns it has it."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.birth_on: date | None = None
        self.identities: list[tuple[str | None, NewIdentity]] = []
        self.tags: list[str] = []
        self.attributes: dict[str, Attribute] = {}
        self.columns: dict[str, str | None] = {}
        self.verified = False

    def located(self, error: FieldError) -> RowError:
        """What is wrong with a contact, as what is wrong with a row."""
        _, name, *rest = error.pointer.split("/")
        if name == "identities" and rest:
            column, identity = self.identities[int(rest[0])]
            return RowError(f"{IDENTITY}{identity.kind}", column, error.code, error.message)
        field = f"{ATTRIBUTE}{rest[0]}" if name == "attributes" and rest else name
        return RowError(field, self.columns.get(field), error.code, error.message)


async def store(
    session: Session, *, said: Sequence[Said], on_duplicate: OnDuplicate, import_id: UUID, by: str, now: datetime
) -> list[Outcome]:
    """Store new contacts and what known ones gain, in order; the outcome of each.

    Raises Unavailable where somebody else stored one of them at the same moment: tried again, it is known.
    """
    plan = await _planned(session, said, on_duplicate, frozenset(), now, lock=True)
    returned = await people.store_all(
        session, made=list(plan.made.values()), changed=plan.changes(), by=by, data={"import_id": import_id}, now=now
    )
    return [
        replace(outcome, note=ERASED_BEFORE)
        if outcome.result == "created" and outcome.contact_id in returned
        else outcome
        for outcome in plan.final()
    ]


async def foresee(
    session: Session, *, said: Sequence[Said], on_duplicate: OnDuplicate, seen: AbstractSet[int], now: datetime
) -> list[Outcome]:
    """What `store` would answer. Writes nothing; `seen` are the `marks` of what came earlier in the file."""
    plan = await _planned(session, said, on_duplicate, seen, now, lock=False)
    return plan.final()


def marks(said: Sequence[Said]) -> set[int]:
    """A number for each address in these rows, because a file may have millions."""
    return {hash(identity.address) for each in said for identity in each.contact.identities}


async def _planned(
    session: Session,
    said: Sequence[Said],
    on_duplicate: OnDuplicate,
    seen: AbstractSet[int],
    now: datetime,
    *,
    lock: bool,
) -> "_Plan":
    addresses = list({identity.address: None for each in said for identity in each.contact.identities})
    owners = {address: SOMEBODY for address in addresses if hash(address) in seen}
    owners |= await identities.owners(session, addresses=addresses)
    blocked = await blocked_identities.among(session, addresses=addresses)
    present: dict[UUID, Contact] = {}
    if on_duplicate in ("fill", "update") and (known := sorted(set(owners.values()) - {SOMEBODY})):
        if lock:
            await contacts.lock_all(session, contact_ids=known)
        present = await contacts.find_all(session, contact_ids=known)
        if len(present) < len(known):
            raise Unavailable("One of these contacts was deleted at this moment. Send the request again.")
    plan = _Plan(owners, blocked, present, on_duplicate, now)
    for each in said:
        plan.add(each)
    return plan


class _Plan:
    """Rows in their order, each beside what those before it have left."""

    def __init__(
        self,
        owners: dict[Address, UUID],
        blocked: AbstractSet[Address],
        present: Mapping[UUID, Contact],
        on_duplicate: OnDuplicate,
        now: datetime,
    ) -> None:
        self.made: dict[UUID, Contact] = {}
        self._owners = owners
        self._blocked = blocked
        self._before = present
        self._after: dict[UUID, Contact] = {}
        self._on_duplicate = on_duplicate
        self._now = now
        self._outcomes: list[Outcome] = []

    def add(self, said: Said) -> None:
        """Decide about one row."""
        if nobody := next((one for one in said.contact.identities if one.address in self._blocked), None):
            refusal = IdentityBlocked.of(nobody, pointer="")
            self._outcomes.append(failed(refusal, field=f"{IDENTITY}{nobody.kind}"))
            return
        found = list(dict.fromkeys(
            self._owners[identity.address] for identity in said.contact.identities if identity.address in self._owners
        ))  # fmt: skip
        self._outcomes.append(self._met(said, found) if found else self._new(said.contact))

    def changes(self) -> list[tuple[Contact, Contact]]:
        """The contacts that were there, as they were and as they shall be."""
        return [(self._before[contact_id], after) for contact_id, after in self._after.items()]

    def final(self) -> list[Outcome]:
        """The outcomes, with the versions in which the contacts are left."""
        last = {**self.made, **self._after}
        return [
            replace(outcome, version=last[outcome.contact_id].version) if outcome.contact_id in last else outcome
            for outcome in self._outcomes
        ]

    def _new(self, contact: Contact) -> Outcome:
        self.made[contact.id] = contact
        self._own(contact)
        return Outcome("created", contact.id)

    def _met(self, said: Said, found: Sequence[UUID]) -> Outcome:
        if self._on_duplicate == "skip":
            return Outcome("skipped", found[0])
        if len(found) > 1:
            known = ", ".join(str(contact_id) for contact_id in found if contact_id != SOMEBODY)
            return Outcome(
                "failed",
                errors=[
                    refused("several_contacts", f"The identities of this row belong to different contacts: {known}.")
                ],
            )
        return self._extended(said, found[0])

    def _extended(self, said: Said, contact_id: UUID) -> Outcome:
        if contact_id == SOMEBODY:
            return Outcome("updated")
        contact = self.made.get(contact_id) or self._after.get(contact_id) or self._before[contact_id]
        try:
            after = filling.filled(
                contact, said.contact, named=said.named, overwrite=self._on_duplicate == "update", now=self._now
            )
        except InvalidContact as error:
            return Outcome("failed", errors=[refused(each.code, each.message) for each in error.errors])
        if after == contact:
            return Outcome("skipped", contact_id)
        if contact_id in self.made:
            self.made[contact_id] = after
        else:
            self._after[contact_id] = replace(after, version=self._before[contact_id].version + 1, updated_at=self._now)
        self._own(after)
        return Outcome("updated", contact_id)

    def _own(self, contact: Contact) -> None:
        self._owners.update((identity.address, contact.id) for identity in contact.identities)


def duplicate(contact: Contact, owners: Mapping[Address, UUID]) -> Outcome:
    """The refusal of a row whose person is somebody else's by one of these `owners`."""
    known = next(identity for identity in contact.identities if identity.address in owners)
    owner = owners[known.address]
    who = "an earlier row" if owner == SOMEBODY else f"the contact {owner}"
    field = f"{IDENTITY}{known.kind}"
    return Outcome("failed", errors=[RowError(field, None, "duplicate", f"'{known.raw}' belongs to {who} already.")])
