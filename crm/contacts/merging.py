"""Making one contact of two, and two of one again: their own fields, identities and tags.

Of each field the survivor's value is kept, the other's where the survivor has none or where that is asked for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias
from uuid import UUID

import msgspec

from crm.contacts import aliases, attributes, contacts, drafts, identities, tags
from crm.contacts.contacts import Contact, ContactNotFound
from crm.db import writes
from crm.db.session import Session
from crm.db.writes import Insert, Update
from crm.errors import FieldError, Invalid

Side: TypeAlias = Literal["survivor", "other"]

FIELDS: Final = ("name", "given_name", "family_name", "locale", "time_zone", "birth_on")
ATTRIBUTE: Final = "attributes."
"""How the name of an attribute begins where fields and attributes stand side by side."""


class MergeWithSelf(Invalid):
    code = "merge_with_self"
    title = "A contact can't be merged with itself"


@dataclass(frozen=True, slots=True)
class Merging:
    """A merge that is carried out, or undone, at `now`: all of `other_id` goes to `contact_id`, or comes back."""

    id: UUID
    contact_id: UUID
    other_id: UUID
    by: str
    now: datetime


@dataclass(frozen=True, slots=True)
class Moved:
    """What a package moved: `shown` says it to people, `memory` is what undoing it takes, both as JSON."""

    shown: Mapping[str, Any]
    memory: Mapping[str, Any]


@dataclass(slots=True)
class NotUndone:
    """What stays as it is when a merge is undone, and why."""

    code: str
    text: str


def combined(survivor: Contact, other: Contact, *, keep: Mapping[str, Side]) -> Contact:
    """The contact that two become; `keep` names fields, and attributes as `attributes.NAME`. Raises InvalidContact."""
    errors = [
        FieldError(f"/keep/{name}", "unknown_field", f"must be one of {', '.join(FIELDS)} or {ATTRIBUTE}NAME")
        for name in keep
        if name not in FIELDS and not name.startswith(ATTRIBUTE)
    ]
    values: dict[str, Any] = {}
    for name in FIELDS:
        own, theirs = getattr(survivor, name), getattr(other, name)
        values[name] = theirs if theirs is not None and (own is None or keep.get(name) == "other") else own
    chosen = {
        name: value
        for name, value in other.attributes.items()
        if name not in survivor.attributes or keep.get(ATTRIBUTE + name) == "other"
    }
    merged = replace(
        survivor,
        **values,
        attributes={**survivor.attributes, **chosen},
        tags=sorted({*survivor.tags, *other.tags}),
        identities=identities.unique([*survivor.identities, *other.identities]),
    )
    return drafts.checked(merged, errors)


async def lock(session: Session, *, contact_ids: Sequence[UUID]) -> dict[UUID, Contact]:
    """Both contacts as they are, with everybody else kept from them. Raises ContactNotFound."""
    found = await session.fetch("SELECT id FROM contacts WHERE id = ANY ($1) ORDER BY id FOR UPDATE", list(contact_ids))
    if len(found) < len(set(contact_ids)):
        raise ContactNotFound("No contact has this id.")
    return {contact_id: await contacts.get(session, contact_id=contact_id) for contact_id in contact_ids}


async def merge(session: Session, *, merging: Merging, keep: Mapping[str, Side]) -> tuple[Contact, Contact, Moved]:
    """Let one contact take up the other; it before and after, and what undoing takes.

    Raises ContactNotFound, MergeWithSelf, InvalidContact.
    """
    contact_id, other_id, now = merging.contact_id, merging.other_id, merging.now
    if contact_id == other_id:
        raise MergeWithSelf(
            "Name two contacts.", errors=[FieldError("/other_contact_id", "same_contact", "is the survivor")]
        )
    both = await lock(session, contact_ids=[contact_id, other_id])
    before, other = both[contact_id], both[other_id]
    after = replace(combined(before, other, keep=keep), version=before.version + 1, updated_at=now)
    former = await aliases.of(session, contact_id=other_id)
    await identities.give(
        session, before=other_id, after=contact_id, addresses=[one.address for one in other.identities]
    )
    await contacts.delete(session, contact_id=other_id)
    await aliases.hand_over(session, alias_ids=former, before=other_id, after=contact_id)
    await writes.write(
        session,
        [
            contacts.updated(after),
            tags.added([(contact_id, [tag for tag in after.tags if tag not in before.tags])], now=now),
            Insert(aliases.contact_aliases, ("contact_id", "alias_id", "created_at"), [(contact_id, other_id, now)]),
            Insert(aliases.contact_alias_directory, ("alias_id", "contact_id"), [(other_id, contact_id)]),
        ],
    )
    memory = {
        "before": msgspec.to_builtins(before), "other": msgspec.to_builtins(other), "after": msgspec.to_builtins(after),
        "aliases": [str(alias) for alias in former],
    }  # fmt: skip
    return before, after, Moved({}, memory)


async def undo(session: Session, *, merging: Merging, memory: Mapping[str, Any]) -> list[NotUndone]:
    """Put both contacts back as they were; what was changed since stays as it is. Raises ContactNotFound."""
    contact_id, other_id, now = merging.contact_id, merging.other_id, merging.now
    before, other, after = (msgspec.convert(memory[name], Contact) for name in ("before", "other", "after"))
    current = (await lock(session, contact_ids=[contact_id]))[contact_id]
    left: list[NotUndone] = []
    back = [one for one in other.identities if one.address in {known.address for known in current.identities}]
    left += [
        NotUndone("identity_gone", f"The {one.kind} {one.value} is not the contact's any more.")
        for one in other.identities
        if one not in back
    ]
    restored = replace(
        _unfilled(current, before, after, left),
        tags=[tag for tag in current.tags if tag not in other.tags or tag in before.tags],
        version=current.version + 1,
        updated_at=now,
    )
    await tags.remove(session, contact_id=contact_id, tags=[tag for tag in current.tags if tag not in restored.tags])
    await aliases.remove(session, contact_id=contact_id, alias_id=other_id)
    parts: list[Insert | Update] = [
        contacts.updated(restored),
        *contacts.created([replace(other, identities=[], version=other.version + 1, updated_at=now)], now=now),
    ]
    await writes.write(session, parts)
    await identities.give(session, before=contact_id, after=other_id, addresses=[one.address for one in back])
    await aliases.hand_over(
        session, alias_ids=[UUID(alias) for alias in memory["aliases"]], before=contact_id, after=other_id
    )
    return left


def _unfilled(current: Contact, before: Contact, after: Contact, left: list[NotUndone]) -> Contact:
    """The survivor with its own values again, wherever the merge changed one and nobody has since."""
    values: dict[str, Any] = {}
    for name in FIELDS:
        if getattr(after, name) != getattr(before, name):
            if getattr(current, name) == getattr(after, name):
                values[name] = getattr(before, name)
            else:
                left.append(NotUndone("changed_since", f"{name} was changed after the merge."))
    kept = dict(current.attributes)
    for name in attributes.unlike(after.attributes, before.attributes):
        if name in kept and not attributes.unlike({name: kept[name]}, after.attributes):
            del kept[name]
            if name in before.attributes:
                kept[name] = before.attributes[name]
        else:
            left.append(NotUndone("changed_since", f"{ATTRIBUTE}{name} was changed after the merge."))
    return replace(current, **values, attributes=kept)
