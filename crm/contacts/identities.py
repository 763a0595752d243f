"""Whose an address is. One row of the directory for each address, over all contacts: that of its one owner.

A contact may show an address without owning it: a disputed one, which finds nobody and is never written to.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Boolean, Column, SmallInteger, Table, Text, Uuid

from crm.contacts.addresses import Address, account_of, address
from crm.db.session import Session
from crm.db.tables import Instant, metadata
from crm.db.writes import Insert, Update
from crm.errors import Conflict, NotFound

COUNT_MAX = 50
"""How many identities one contact may have."""
COUNT_MAX_PER_KIND = 10
"""How many of one kind: who has more is no person but a till, a switchboard, or a mistake."""

contact_identities = Table(
    "contact_identities",
    metadata,
    Column("contact_id", Uuid, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("account", Text, primary_key=True),
    Column("value", Text, primary_key=True),
    Column("raw", Text, nullable=False),
    Column("verified", Boolean, nullable=False),
    Column("disputed", Boolean, nullable=False),
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

# The update changes nothing; without it the statement would neither lock nor return the rows that were there.
CLAIM: Final = """
    INSERT INTO identity_directory AS d (value, kind, account, contact_id)
    SELECT v.value, v.kind, v.account, v.contact_id
    FROM unnest($1::text[], $2::text[], $3::text[], $4::uuid[]) WITH ORDINALITY
        AS v (value, kind, account, contact_id, number)
    WHERE NOT EXISTS (SELECT FROM blocked_identities b WHERE b.value = v.value AND b.kind = v.kind)
    ORDER BY v.number
    ON CONFLICT (value, kind, account) DO UPDATE SET contact_id = d.contact_id
    RETURNING d.value, d.kind, d.account, d.contact_id
"""
"""Takes the addresses that are free and not blocked, and returns who has each; `claiming` makes its arguments."""


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
    """One address of a contact: `value` in canonical form, `raw` as given.

    It is `verified` where somebody has proven that it is the contact's, and `disputed` where it is another's by now, or
    nobody's: then nobody is found by it or written to.
    """

    kind: str
    account: str
    value: str
    raw: str
    verified: bool
    disputed: bool = False

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
    """Each address once, as first given: verified where any mention of it was, disputed where every one was."""
    kept: dict[Address, Identity] = {}
    for identity in identities:
        first = kept.get(identity.address)
        kept[identity.address] = identity if first is None else _as_one(first, identity)
    return list(kept.values())


def disputed(identity: Identity) -> Identity:
    """The same identity, which the contact does not own."""
    return replace(identity, disputed=True)


def new(before: Iterable[Identity], after: Iterable[Identity]) -> list[Identity]:
    """The identities of `after` whose address is not among those of `before`."""
    known = {identity.address for identity in before}
    return [identity for identity in after if identity.address not in known]


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


async def owners(session: Session, *, addresses: Sequence[Address]) -> dict[Address, UUID]:
    """Whose each of these addresses is, of those that belong to somebody, in one query."""
    rows = await session.fetch(
        """
        SELECT d.value, d.kind, d.account, d.contact_id
        FROM unnest($1::text[], $2::text[], $3::text[]) AS v (value, kind, account)
        JOIN identity_directory d ON d.value = v.value AND d.kind = v.kind AND d.account = v.account
        """,
        [key.value for key in addresses],
        [key.kind for key in addresses],
        [key.account for key in addresses],
    )
    return {Address(row["value"], row["kind"], row["account"]): row["contact_id"] for row in rows}


async def claim(session: Session, *, wanted: Mapping[Address, UUID]) -> dict[Address, UUID]:
    """Take each address for a contact where it is free, and lock it; who has each of them now.

    A blocked address is left out: nobody can have it. Waits for whoever is claiming the same at the same time: the
    answer stays true until the end of the transaction.
    """
    if not wanted:
        return {}
    rows = await session.fetch(CLAIM, *claiming(wanted))
    return {Address(row["value"], row["kind"], row["account"]): row["contact_id"] for row in rows}


def claiming(wanted: Mapping[Address, UUID]) -> tuple[list[Any], ...]:
    """The arguments of `CLAIM`."""
    addresses = sorted(wanted)  # everybody locks in one order, or two batches could wait for each other
    return (
        [key.value for key in addresses],
        [key.kind for key in addresses],
        [key.account for key in addresses],
        [wanted[key] for key in addresses],
    )


async def shown(session: Session, *, holders: Mapping[Address, UUID]) -> dict[Address, Identity]:
    """How contacts show these addresses of theirs."""
    rows = await session.fetch(
        """
        SELECT i.kind, i.account, i.value, i.raw, i.verified, i.disputed
        FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) AS v (contact_id, kind, account, value)
        JOIN contact_identities i ON i.contact_id = v.contact_id AND i.kind = v.kind AND i.account = v.account
            AND i.value = v.value
        """,
        list(holders.values()),
        [key.kind for key in holders],
        [key.account for key in holders],
        [key.value for key in holders],
    )
    found = [Identity(*row) for row in rows]
    return {identity.address: identity for identity in found}


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
    """Take addresses from a contact, and free those that it owns."""
    await session.execute(
        """
        WITH gone AS (
            DELETE FROM contact_identities i
            USING unnest($2::text[], $3::text[], $4::text[]) AS v (value, kind, account)
            WHERE i.contact_id = $1 AND i.value = v.value AND i.kind = v.kind AND i.account = v.account
            RETURNING i.value, i.kind, i.account
        )
        DELETE FROM identity_directory d USING gone
        WHERE d.value = gone.value AND d.kind = gone.kind AND d.account = gone.account AND d.contact_id = $1
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
    """The part of a write that gives contacts identities, in this order after those they have.

    Those that are not disputed were claimed before.
    """
    return Insert(
        contact_identities,
        ("contact_id", "kind", "account", "value", "raw", "verified", "disputed", "position", "created_at"),
        [
            (contact_id, i.kind, i.account, i.value, i.raw, i.verified, i.disputed, position, now)
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


def marked(owned: Iterable[tuple[UUID, Identity]]) -> Update:
    """The part of a write that makes identities of contacts verified and disputed as they are here, or not."""
    return Update(
        contact_identities,
        ("contact_id", "kind", "account", "value", "verified", "disputed"),
        [(contact_id, i.kind, i.account, i.value, i.verified, i.disputed) for contact_id, i in owned],
        4,
    )


def _as_one(first: Identity, other: Identity) -> Identity:
    if first.disputed != other.disputed:
        owned = other if first.disputed else first
        return replace(first, verified=owned.verified, disputed=False)
    return replace(first, verified=first.verified or other.verified)


def _only(accounts: Mapping[str, UUID]) -> UUID | IdentityAmbiguous | None:
    owners = set(accounts.values())
    if len(owners) > 1:
        return IdentityAmbiguous(
            "Name the account too.",
            candidates=[{"contact_id": str(owner), "account": account} for account, owner in accounts.items()],
        )
    return owners.pop() if owners else None
