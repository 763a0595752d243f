"""Addresses of people who were erased, as keyed hashes: who comes back is known again, and nothing says who that was.

The key is not in the database. Without it, whoever has a dump could try all phone numbers there are.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import Column, LargeBinary, Table

from crm.contacts.addresses import Address
from crm.contacts.contacts import Contact
from crm.db.session import Session
from crm.db.tables import Instant, metadata

erased_addresses = Table(
    "erased_addresses",
    metadata,
    Column("hash", LargeBinary, primary_key=True),
    Column("erased_at", Instant, nullable=False),
)

PURPOSE: Final = "addresses of erased people"
"""What the key is for: hashes of other things are others."""
_NUMBERS: Final = ("phone", "whatsapp")


async def remember(session: Session, *, contact_ids: Collection[UUID], now: datetime) -> int:
    """Keep the hashes of what these contacts are known by, before that goes; how many. None without a key.

    Raises SecretsUnreadable where no key can be kept.
    """
    if session.vault is None:
        return 0
    rows = await session.fetch(
        "SELECT value, kind, account FROM contact_identities WHERE contact_id = ANY ($1) AND NOT disputed",
        list(contact_ids),
    )
    hashes = {session.vault.digest(_text(Address(*row)), purpose=PURPOSE) for row in rows}
    return await session.execute(
        """
        INSERT INTO erased_addresses (hash, erased_at) SELECT h, $2 FROM unnest($1::bytea[]) h ORDER BY h
        ON CONFLICT (hash) DO UPDATE SET erased_at = excluded.erased_at
        """,
        list(hashes), now,
    )  # fmt: skip


async def returned(session: Session, *, contacts: Sequence[Contact]) -> set[UUID]:
    """Those of these contacts who are known by an address of somebody who was erased, in one query."""
    if session.vault is None or not session.vault.has_key:
        return set()
    hashes: dict[bytes, set[UUID]] = {}
    for contact in contacts:
        for text in _texts(contact):
            hashes.setdefault(session.vault.digest(text, purpose=PURPOSE), set()).add(contact.id)
    if not hashes:
        return set()
    rows = await session.fetch("SELECT hash FROM erased_addresses WHERE hash = ANY ($1)", list(hashes))
    return set[UUID]().union(*(hashes[row["hash"]] for row in rows))


def _texts(contact: Contact) -> Iterable[str]:
    return {_text(identity.address) for identity in contact.identities if not identity.disputed}


def _text(address: Address) -> str:
    """The same for a number and for the WhatsApp that it has."""
    if address.kind in _NUMBERS:
        return f"number {address.value.removeprefix('+')}"
    return f"{address.kind} {address.account} {address.value}"
