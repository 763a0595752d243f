"""Blocking an address: from then on it is nobody's, also not whose it was."""

from datetime import datetime
from typing import Final
from uuid import UUID

from crm.contacts import blocked_identities, identities
from crm.contacts.addresses import Address, address
from crm.contacts.blocked_identities import BlockedIdentity
from crm.contacts.claims import Loss
from crm.db import idempotency, writes
from crm.db.ids import uuid7
from crm.db.session import Session
from crm.errors import Unavailable
from crm.interactions import disputes, timeline

ATTEMPTS_MAX: Final = 5


async def block(
    session: Session,
    *,
    kind: str,
    value: str,
    reason: str | None,
    region: str,
    by: str,
    once: idempotency.Request | None,
    now: datetime,
) -> tuple[BlockedIdentity, bool]:
    """Block an address, and whether it was not before. Whoever has it goes on showing it as disputed.

    Raises InvalidIdentity, Unavailable.
    """
    wanted = address(kind=kind, value=value, region=region)
    for _ in range(ATTEMPTS_MAX):
        await idempotency.begin(session, request=once)
        if await _held(session, wanted):
            break
        await session.start_over()
    else:
        raise Unavailable("Contacts get this address at this moment. Send the request again.")
    row = await session.fetchrow(
        f"""
        INSERT INTO blocked_identities AS b (value, kind, id, reason, by, created_at) VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (value, kind) DO UPDATE SET value = b.value RETURNING {blocked_identities.SELECTED}
        """,
        wanted.value, wanted.kind, uuid7(), reason, by, now,
    )  # fmt: skip
    assert row is not None, "the statement returns what is there"
    blocked = BlockedIdentity(*row)
    is_new = blocked.created_at == now
    losses = await _taken(session, wanted)
    entries = await disputes.told(session, losses=losses, by=by, now=now)
    await writes.write(
        session,
        [
            identities.marked((loss.contact_id, identities.disputed(loss.identity)) for loss in losses),
            timeline.part(entries),
            *idempotency.answer(once, contact_id=None, result=blocked, status=201 if is_new else 200, now=now),
        ],
    )
    return blocked, is_new


async def _held(session: Session, wanted: Address) -> bool:
    """Keep everybody from claiming addresses, until this is known to all; False where somebody got it meanwhile.

    The contacts come before the addresses, as everywhere.
    """
    locked = await session.fetch(
        """
        SELECT id FROM contacts WHERE id = ANY (ARRAY(
            SELECT contact_id FROM identity_directory WHERE value = $1 AND kind = $2
        )) ORDER BY id FOR NO KEY UPDATE
        """,
        wanted.value, wanted.kind,
    )  # fmt: skip
    await session.execute("LOCK TABLE identity_directory IN SHARE ROW EXCLUSIVE MODE")
    holders = await session.fetch(
        "SELECT contact_id FROM identity_directory WHERE value = $1 AND kind = $2", wanted.value, wanted.kind
    )
    return {row["contact_id"] for row in holders} <= {row["id"] for row in locked}


async def _taken(session: Session, wanted: Address) -> list[Loss]:
    """Take the address from whoever has it, on any account."""
    rows = await session.fetch(
        "DELETE FROM identity_directory WHERE value = $1 AND kind = $2 RETURNING account, contact_id",
        wanted.value, wanted.kind,
    )  # fmt: skip
    holders: dict[Address, UUID] = {
        Address(wanted.value, wanted.kind, row["account"]): row["contact_id"] for row in rows
    }
    shown = await identities.shown(session, holders=holders) if holders else {}
    return [Loss(holders[key], identity, None) for key, identity in shown.items()]
