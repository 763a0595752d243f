"""What a contact gains when somebody says more of the same person. Nothing is taken away. Pure."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from crm.contacts import drafts
from crm.contacts.contacts import Contact

_FIELDS: Final = ("name", "given_name", "family_name", "locale", "time_zone", "birth_on")


def filled(contact: Contact, said: Contact, *, named: bool, overwrite: bool, now: datetime) -> Contact:
    """The contact with what `said` has and it lacks; with `overwrite` also what both have, as `said` has it.

    `named` is whether somebody gave that name, or it only stands where one must. A contact whose name is an address of
    theirs has none yet. Raises InvalidContact.
    """
    nameless = contact.name in {text for identity in contact.identities for text in (identity.raw, identity.value)}
    changes: dict[str, Any] = {}
    for name in _FIELDS:
        value = getattr(said, name)
        lacking = getattr(contact, name) is None or (name == "name" and nameless)
        if value is not None and (lacking or overwrite) and (name != "name" or named):
            changes[name] = value
    attributes: Mapping[str, Any] = {
        name: value for name, value in said.attributes.items() if overwrite or name not in contact.attributes
    }
    if attributes:
        changes["attributes"] = attributes
    if not set(said.tags) <= set(contact.tags):
        changes["tags"] = [*contact.tags, *said.tags]
    after = drafts.merged(contact, changes, now=now)
    owned = {known.address: known for known in contact.identities}
    for identity in said.identities:
        known = owned.get(identity.address)
        # What the contact does not own is not given to it by saying it once more.
        if known is None or (identity.verified and not known.verified and not known.disputed):
            after = drafts.identified(after, identity)
    return after
