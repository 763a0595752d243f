"""Carrying out what people want done with their data.

Who a request is about is what the provider vouches for. Somebody who is found only by what was typed at a checkout may
be somebody else: then a person decides, and a task says so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from asyncpg import Record

from crm.care import tasks
from crm.contacts import contacts, identities
from crm.contacts.addresses import InvalidIdentity
from crm.contacts.identities import Identity
from crm.contacts.keeping import Keeper
from crm.db import queue
from crm.db.session import Session
from crm.errors import Conflict, CrmError
from crm.inbox import deliveries, privacy
from crm.inbox.privacy import PrivacyRequest
from crm.interactions import erasures

BY: Final = "system"
DAYS_TO_ANSWER: Final = timedelta(days=30)
"""By when somebody must have an answer to what they asked about their data."""
AT_ONCE: Final = 100

NOT_VOUCHED: Final = "not_vouched"
SEVERAL_CONTACTS: Final = "several_contacts"
CONTACTS_KEPT: Final = "contacts_kept"
_TITLES: Final[Mapping[str, str]] = {
    "export": "Send this person all that is kept of them",
    "erasure": "Decide whether this is who wants to be forgotten",
}
_LINKS: Final[Mapping[str, str]] = {
    "export": "GET /v1/contacts/{contact_id}/personal-data.html is what to send. ",
    "erasure": "",
}
_REASONS: Final[Mapping[str, str]] = {
    NOT_VOUCHED: "Only an address that somebody typed leads here: make sure that it is their own. ",
    SEVERAL_CONTACTS: "The addresses lead to several contacts, and this is one of them. ",
}


class PrivacyRequestDone(Conflict):
    code = "privacy_request_done"
    title = "This request has been carried out, or is about to be"


@dataclass(frozen=True, slots=True)
class _Found:
    """Whose request it is; where that is not sure, who it may be, and why it is not."""

    contact_id: UUID | None
    why_not: str | None = None


async def pending(session: Session) -> list[UUID]:
    """Requests that wait to be carried out, the oldest first; some of them where there are many."""
    rows = await session.fetch("SELECT id FROM privacy_requests WHERE status = 'pending' ORDER BY id LIMIT $1", AT_ONCE)
    return [row["id"] for row in rows]


async def carry_out(
    session: Session, *, request_id: UUID, keepers: Sequence[Keeper], region: str, now: datetime
) -> bool:
    """Do what somebody wants, as far as it is sure who; whether there is more to do for this request.

    Who wants to be told is told by somebody, who has a task; who wants to be forgotten is erased, with a certificate.
    Of a shop that is given up, all that it delivered goes, and the contacts stay, who are the business's own.
    """
    row = await session.fetchrow(
        f"SELECT {privacy.COLUMNS} FROM privacy_requests WHERE id = $1 AND status = 'pending' FOR UPDATE SKIP LOCKED",
        request_id,
    )
    if row is None:
        return False
    if row["topic"] == "shop_erasure":
        if await deliveries.purge_account(session, account_id=row["account_id"], now=now):
            return True
        await _end(session, request_id, "done", reason=CONTACTS_KEPT, now=now)
        return False
    found = await _find(session, row, region)
    if found.contact_id is None:
        await _end(session, request_id, "nobody_known", now=now)
        return False
    try:
        async with session.savepoint():
            await _fulfil(session, row, found, keepers, now)
    except CrmError as refusal:
        await _end(session, request_id, "refused", contact_id=found.contact_id, reason=refusal.code, now=now)
    return False


async def ask_again(session: Session, *, request_id: UUID, contact_id: UUID | None, by: str) -> PrivacyRequest:
    """Have a request carried out that waits for a decision or came to nothing, for this contact where one is named.

    Raises PrivacyRequestNotFound, PrivacyRequestDone, ContactNotFound.
    """
    if contact_id is not None:
        await contacts.get(session, contact_id=contact_id)
    if not await session.execute(
        """
        UPDATE privacy_requests SET status = 'pending', contact_id = $2, decided_by = $3, reason = NULL, done_at = NULL
        WHERE id = $1 AND status IN ('waiting', 'refused', 'nobody_known')
        """,
        request_id, contact_id, by,
    ):  # fmt: skip
        found = await privacy.get(session, request_id=request_id)
        raise PrivacyRequestDone(f"It is {found.status}.", status_now=found.status)
    await queue.enqueue(session, name=privacy.JOB, payload={})
    return await privacy.get(session, request_id=request_id)


async def forget(session: Session, *, ended_before: datetime) -> int:
    """Keep no longer who asked for what was ended so long ago; how many requests."""
    return await session.execute(
        """
        UPDATE privacy_requests SET identities = '[]', data = '{}'
        WHERE status IN ('done', 'nobody_known') AND done_at < $1 AND identities <> '[]'
        """,
        ended_before,
    )


async def _find(session: Session, row: Record, region: str) -> _Found:
    if row["decided_by"] is not None and row["contact_id"] is not None:
        return _Found(row["contact_id"])
    known: dict[Identity, UUID] = {}
    asked = [one for each in row["identities"] if (one := _identity(each, region)) is not None]
    owners = await identities.owners(session, addresses=[one.address for one in asked])
    for one in asked:
        if one.address in owners:
            known[one] = owners[one.address]
    vouched = {owner for one, owner in known.items() if one.verified}
    if len(vouched) == 1:
        return _Found(vouched.pop())
    people = sorted(vouched) or sorted(set(known.values()))
    if not people:
        return _Found(None)
    return _Found(people[0], SEVERAL_CONTACTS if len(people) > 1 else NOT_VOUCHED)


def _identity(given: Mapping[str, Any], region: str) -> Identity | None:
    try:
        return Identity.of(
            kind=given["kind"], value=given["value"], account=given["account"],
            verified=bool(given.get("verified")), region=region,
        )  # fmt: skip
    except InvalidIdentity:
        return None


async def _fulfil(session: Session, row: Record, found: _Found, keepers: Sequence[Keeper], now: datetime) -> None:
    contact_id, topic, by = found.contact_id, row["topic"], row["decided_by"] or BY
    assert contact_id is not None, "nobody is asked about nobody"
    # So that an erasure finds what the provider delivered, whoever carries it out.
    await deliveries.attribute(
        session, account_id=row["account_id"], event="privacy_requested", external_id=row["external_id"],
        contact_id=contact_id,
    )  # fmt: skip
    if topic == "erasure" and found.why_not is None:
        erasure = await erasures.erase(
            session, contact_id=contact_id, reason="privacy_request", keepers=keepers, by=by, now=now
        )
        await _end(session, row["id"], "done", contact_id=contact_id, erasure_id=erasure.id, now=now)
        return
    doubt = "" if found.why_not is None else _REASONS[found.why_not]
    task, _ = await tasks.create(
        session, contact_id=contact_id, title=_TITLES[topic],
        note=f"{_LINKS[topic].format(contact_id=contact_id)}{doubt}It came as GET /v1/privacy-requests/{row['id']}.",
        due_at=row["occurred_at"] + DAYS_TO_ANSWER, natural_key=f"privacy_request:{row['id']}:{found.why_not}", by=by,
        now=now,
    )  # fmt: skip
    status = "done" if found.why_not is None else "waiting"
    await _end(session, row["id"], status, contact_id=contact_id, task_id=task.id, reason=found.why_not, now=now)


async def _end(
    session: Session, request_id: UUID, status: str, *, contact_id: UUID | None = None, erasure_id: UUID | None = None,
    task_id: UUID | None = None, reason: str | None = None, now: datetime,
) -> None:  # fmt: skip
    await session.execute(
        """
        UPDATE privacy_requests SET status = $2, contact_id = $3, erasure_id = $4, task_id = coalesce($5, task_id),
            reason = $6, done_at = CASE WHEN $2 = 'waiting' THEN NULL ELSE $7::timestamptz END
        WHERE id = $1
        """,
        request_id, status, contact_id, erasure_id, task_id, reason, now,
    )  # fmt: skip
