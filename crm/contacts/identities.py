"""Whose an address is. One row of the directory for each address, over all contacts, whoever asks first owns it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Boolean, Column, SmallInteger, Table, Text, Uuid

from crm.contacts.addresses import Address, account_of, address
from crm.db.session import Session
from crm.db.tables import Instant, metadata
from crm.db.writes import Insert, Update
from crm.errors import Conflict, NotFound

COUNT_MAX = 50
"""How many identities one contact may have."""

contact_identities = Table(
    "contact_identities",
    metadata,
    Column("contact_id", Uuid, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("account", Text, primary_key=True),
    Column("value", Text, primary_key=True),
    Column("raw", Text, nullable=False),
    Column("verified", Boolean, nullable=False),
    Column("position", SmallInteger, nullable=False),
    Column("created_at", Instant, nullable=False),
)
identity_directory = Table(
    "identity_directory",
    metadata,
    Column("value", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("account", Text, primary_key=True),
    Column("contact_id", Uuid, nullable=False),
)


class IdentityTaken(Conflict):
    code = "identity_taken"
    title = "This identity belongs to another contact"


class IdentityAmbiguous(Conflict):
    code = "identity_ambiguous"
    title = "More than one contact has this identity"


class IdentityNotFound(NotFound):
    code = "identity_not_found"
    title = "This contact has no such identity"


@dataclass(frozen=True, slots=True)
class Identity:
    """One address of a contact: `value` in canonical form, `raw` as given."""

    kind: str
    account: str
    value: str
    raw: str
    verified: bool

    @classmethod
    def of(cls, *, kind: str, value: str, account: str = "", verified: bool = False, region: str) -> "Identity":
        """The identity behind what somebody typed. Raises InvalidIdentity."""
        found = address(kind=kind, value=value, account=account, region=region)
        return cls(found.kind, found.account, found.value, value, verified)

    @property
    def address(self) -> Address:
        """What the directory knows it by."""
        return Address(self.value, self.kind, self.account)


@dataclass(frozen=True, slots=True)
class Lookup:
    """An address to find the owner of; without an account, whichever account it belongs to."""

    kind: str
    value: str
    account: str | None

    @classmethod
    def of(cls, *, kind: str, value: str, account: str | None = None, region: str) -> "Lookup":
        """The look-up for what somebody typed. Raises InvalidIdentity."""
        found = address(kind=kind, value=value, region=region)
        return cls(kind, found.value, account_of(kind, account))


def unique(identities: Iterable[Identity]) -> list[Identity]:
    """Each address once, as first given, and verified where any mention of it was."""
    kept: dict[Address, Identity] = {}
    for identity in identities:
        first = kept.get(identity.address)
        if first is None or (identity.verified and not first.verified):
            kept[identity.address] = identity if first is None else verified(first)
    return list(kept.values())


def verified(identity: Identity) -> Identity:
    """The same identity, known to be the contact's own."""
    return Identity(identity.kind, identity.account, identity.value, identity.raw, verified=True)


async def resolve(session: Session, *, kind: str, value: str, account: str | None = None, region: str) -> UUID | None:
    """The contact behind an address, in whatever form it is typed. Raises InvalidIdentity, IdentityAmbiguous."""
    found = (await resolve_all(session, lookups=[Lookup.of(kind=kind, value=value, account=account, region=region)]))[0]
    if isinstance(found, IdentityAmbiguous):
        raise found
    return found


async def resolve_all(session: Session, *, lookups: Sequence[Lookup]) -> list[UUID | IdentityAmbiguous | None]:
    """The contacts behind many addresses, in their order, in one query."""
    rows = await session.fetch(
        """
        SELECT v.number, d.account, d.contact_id
        FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS v (kind, value, account, number)
        JOIN identity_directory d
            ON d.value = v.value AND d.kind = v.kind AND (v.account IS NULL OR d.account = v.account)
        ORDER BY d.account
        """,
        [lookup.kind for lookup in lookups],
        [lookup.value for lookup in lookups],
        [lookup.account for lookup in lookups],
    )
    owners: list[dict[str, UUID]] = [{} for _ in lookups]
    for row in rows:
        owners[row["number"] - 1][row["account"]] = row["contact_id"]
    return [_only(accounts) for accounts in owners]


async def claim(session: Session, *, wanted: Mapping[Address, UUID]) -> dict[Address, UUID]:
    """Take each address for a contact where it is free, and lock it; who has each of them now.

    Waits for whoever is claiming the same at the same time: the answer stays true until the end of the transaction.
    """
    if not wanted:
        return {}
    addresses = sorted(wanted)  # everybody locks in one order, or two batches could wait for each other
    # The update changes nothing; without it the statement would neither lock nor return the rows that were there.
    rows = await session.fetch(
        """
        INSERT INTO identity_directory AS d (value, kind, account, contact_id)
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::uuid[])
        ON CONFLICT (value, kind, account) DO UPDATE SET contact_id = d.contact_id
        RETURNING d.value, d.kind, d.account, d.contact_id
        """,
        [key.value for key in addresses],
        [key.kind for key in addresses],
        [key.account for key in addresses],
        [wanted[key] for key in addresses],
    )
    return {Address(row["value"], row["kind"], row["account"]): row["contact_id"] for row in rows}


async def release(session: Session, *, addresses: Sequence[Address]) -> None:
    """Free addresses that their claimant gives up again."""
    await session.execute(
        """
        DELETE FROM identity_directory d USING unnest($1::text[], $2::text[], $3::text[]) AS v (value, kind, account)
        WHERE d.value = v.value AND d.kind = v.kind AND d.account = v.account
        """,
        [key.value for key in addresses],
        [key.kind for key in addresses],
        [key.account for key in addresses],
    )


async def remove(session: Session, *, contact_id: UUID, addresses: Sequence[Address]) -> None:
    """Take addresses from a contact and free them."""
    await session.execute(
        """
        WITH gone AS (
            DELETE FROM contact_identities i
            USING unnest($2::text[], $3::text[], $4::text[]) AS v (value, kind, account)
            WHERE i.contact_id = $1 AND i.value = v.value AND i.kind = v.kind AND i.account = v.account
            RETURNING i.value, i.kind, i.account
        )
        DELETE FROM identity_directory d USING gone
        WHERE d.value = gone.value AND d.kind = gone.kind AND d.account = gone.account
        """,
        contact_id,
        [key.value for key in addresses],
        [key.kind for key in addresses],
        [key.account for key in addresses],
    )


async def give(session: Session, *, before: UUID, after: UUID, addresses: Sequence[Address]) -> None:
    """Let identities of one contact be those of another, as they are."""
    await session.execute(
        """
        WITH given AS (
            UPDATE contact_identities i SET contact_id = $2
            FROM unnest($3::text[], $4::text[], $5::text[]) AS v (value, kind, account)
            WHERE i.contact_id = $1 AND i.value = v.value AND i.kind = v.kind AND i.account = v.account
            RETURNING i.value, i.kind, i.account
        )
        UPDATE identity_directory d SET contact_id = $2 FROM given g
        WHERE d.value = g.value AND d.kind = g.kind AND d.account = g.account AND d.contact_id = $1
        """,
        before,
        after,
        [key.value for key in addresses],
        [key.kind for key in addresses],
        [key.account for key in addresses],
    )


def taken(identity: Identity, *, by: UUID) -> IdentityTaken:
    """The refusal of an identity that has another owner."""
    return IdentityTaken(
        f"The {identity.kind} '{identity.value}' belongs to another contact.",
        contact_id=str(by),
        identity={"kind": identity.kind, "account": identity.account, "value": identity.value},
    )


def added(owned: Iterable[tuple[UUID, Sequence[Identity]]], *, now: datetime) -> Insert:
    """The part of a write that gives contacts identities, claimed before, in this order after those they have."""
    return Insert(
        contact_identities,
        ("contact_id", "kind", "account", "value", "raw", "verified", "position", "created_at"),
        [
            (contact_id, i.kind, i.account, i.value, i.raw, i.verified, position, now)
            for contact_id, identities in owned
            for position, i in enumerate(identities)
        ],
    )


def moved(owners: Mapping[Address, UUID]) -> Update:
    """The part of a write that gives claimed addresses to other contacts."""
    return Update(
        identity_directory,
        ("value", "kind", "account", "contact_id"),
        [(key.value, key.kind, key.account, owner) for key, owner in owners.items()],
        3,
    )


def confirmed(contact_id: UUID, identities: Iterable[Identity]) -> Update:
    """The part of a write that marks a contact's identities as verified."""
    return Update(
        contact_identities,
        ("contact_id", "kind", "account", "value", "verified"),
        [(contact_id, i.kind, i.account, i.value, True) for i in identities],
        4,
    )


def _only(accounts: Mapping[str, UUID]) -> UUID | IdentityAmbiguous | None:
    owners = set(accounts.values())
    if len(owners) > 1:
        return IdentityAmbiguous(
            "Name the account too.",
            candidates=[{"contact_id": str(owner), "account": account} for account, owner in accounts.items()],
        )
    return owners.pop() if owners else None
