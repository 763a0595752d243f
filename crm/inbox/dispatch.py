"""Sending what is due: each message at most once, whatever breaks off in between.

A message is marked as being sent, and that is committed, before its provider hears of it. Where a process then dies or
no answer comes, nobody knows whether it went: it is `unknown` and never sent again by itself, but for providers who
know a repetition by its key. What such a provider tells later settles it.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import structlog
from asyncpg import Record

from crm.contacts import aliases
from crm.contacts.addresses import Address
from crm.db import writes
from crm.db.session import Database, Session
from crm.db.vault import SecretsUnreadable, Vault
from crm.db.writes import Update
from crm.errors import CrmError
from crm.inbox import accounts, clearance, heard, outbound, providers
from crm.inbox.accounts import Opened
from crm.inbox.clearance import Cleared, Postponed, Wish
from crm.inbox.couriers import TOTAL, Couriers
from crm.inbox.house import House
from crm.inbox.outbound import outbound_messages
from crm.interactions import changes, timeline
from crm.interactions.changes import Change
from crm.interactions.channels.outgoing import DETAIL_MAX, Later, Outcome, Outgoing, ProviderTemplate, Sent, Unclear

BATCH: Final = 20
"""How many are claimed at once."""
AT_ONCE_MAX: Final = 40
"""How many are on their way at once."""
OF_ACCOUNT_MAX: Final = 10
"""From how many on their way on, no more of the same account are claimed."""
ATTEMPTS_MAX: Final = 8
RETRY_DELAY: Final = timedelta(seconds=15)
RETRY_DELAY_MAX: Final = timedelta(hours=1)
LOST_AFTER: Final = TOTAL * 5
"""After how long nobody can be sending a message any more who began to."""

Clock = Callable[[], datetime]
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Claimed:
    """A message that this process has to send, with what it needs for that."""

    contact_id: UUID
    id: UUID
    attempts: int
    claimed_at: datetime
    account: Opened
    outgoing: Outgoing

    @property
    def pair(self) -> tuple[str, str]:
        """Under what its interaction is known here."""
        return self.account.source, str(self.id)


async def work_off(database: Database, *, couriers: Couriers, vault: Vault, house: House, clock: Clock) -> int:
    """Send what is due, until nothing is left that nobody else has; how many went or were judged.

    An account whose provider is slow has a few messages on their way and no more, and one that was told to wait none:
    neither keeps the others back.
    """
    async with database.begin() as session:
        await recover(session, now=clock())
    done = 0
    on_their_way: dict[asyncio.Task[Outcome], UUID] = {}
    asked_to_wait: set[UUID] = set()
    try:
        while True:
            busy = {each for each, count in Counter(on_their_way.values()).items() if count >= OF_ACCOUNT_MAX}
            room = AT_ONCE_MAX - len(on_their_way)
            count, claimed = 0, list[Claimed]()
            if room > 0:
                async with database.begin() as session:
                    count, claimed = await claim(
                        session, vault=vault, house=house, count_max=min(room, BATCH), not_of=busy | asked_to_wait,
                        now=clock(),
                    )  # fmt: skip
            done += count
            on_their_way |= {
                asyncio.create_task(_send(database, couriers, each, clock)): each.account.id for each in claimed
            }
            if not count:
                if not on_their_way:
                    return done
                finished, _ = await asyncio.wait(on_their_way, return_when=asyncio.FIRST_COMPLETED)
                for task in finished:
                    account_id, outcome = on_their_way.pop(task), task.result()
                    if isinstance(outcome, Later) and outcome.after is not None:
                        asked_to_wait.add(account_id)
    finally:
        # Whatever was handed over is written down, also when something else went wrong.
        await asyncio.gather(*on_their_way, return_exceptions=True)


async def claim(
    session: Session,
    *,
    vault: Vault,
    house: House,
    count_max: int = BATCH,
    not_of: Collection[UUID] = (),
    now: datetime,
) -> tuple[int, list[Claimed]]:
    """Take messages that are due, but `not_of` some accounts: how many, and those among them that may go now.

    What may not go any more fails here, and what may go later waits.
    """
    rows = await session.fetch(_DUE, now, count_max, list(not_of))
    if not rows:
        return 0, []
    opened = await accounts.open_all(session, ids={row["account_id"] for row in rows}, vault=vault)
    people = await aliases.people(session, ids={row["contact_id"] for row in rows})
    wishes = {row["id"]: _wish(row, opened.get(row["account_id"]), people[row["contact_id"]][0], house) for row in rows}
    judged = {message_id: wish for message_id, wish in wishes.items() if isinstance(wish, Wish)}
    verdicts = await clearance.judge(session, wishes=list(judged.values()), house=house, at=now)
    found = dict(zip(judged, verdicts, strict=True))
    claimed: list[Claimed] = []
    updates: list[dict[str, Any]] = []
    failures: list[Change] = []
    for row in rows:
        wish = wishes[row["id"]]
        verdict = found[row["id"]] if isinstance(wish, Wish) else wish
        match verdict:
            case Cleared():
                account = opened[row["account_id"]]
                outgoing = _outgoing(row, verdict, account)
                claimed.append(Claimed(row["contact_id"], row["id"], row["attempts"] + 1, now, account, outgoing))
                updates.append(_update(row, now, status="sending", attempts=row["attempts"] + 1, to=verdict.to))
            case Postponed():
                reason = _reason(verdict.code, clearance.WAITS[verdict.code], verdict.until)
                updates.append(_update(row, now, status="queued", due_at=verdict.until, error=reason))
            case CrmError():
                reason = _reason(verdict.code, verdict.detail)
                updates.append(_update(row, now, status="failed", error=reason))
                failures.append(_became((row["source"], str(row["id"])), changes.FAILED, reason, now))
    await writes.write(session, [Update(outbound_messages, _UPDATED, [tuple(each.values()) for each in updates], 2)])
    await changes.apply_all(session, changes=failures, now=now)
    return len(rows), claimed


async def finish(session: Session, *, claimed: Claimed, outcome: Outcome, now: datetime) -> None:
    """Write down what came of sending a message. What was settled meanwhile by what its provider told stays so."""
    again = isinstance(outcome, Later) or (
        isinstance(outcome, Unclear) and providers.SENDERS[claimed.account.provider].REPEATABLE
    )
    row = await session.fetchrow(_HELD, claimed.contact_id, claimed.id)
    if row is None or row["status"] not in {"sending", "unknown"}:
        return
    if row["sent_to"] is None:
        # Whoever it went to was forgotten meanwhile, and so is what is said of it.
        status = "sent" if isinstance(outcome, Sent) else changes.FAILED
        await _set(session, claimed, status, None, now)
        return
    if isinstance(outcome, Sent):
        # It counts from before it was handed over: what its provider tells can't be older.
        await settle(
            session, account=claimed.account, contact_id=claimed.contact_id, message_id=claimed.id,
            external_id=outcome.external_id, sent_at=claimed.claimed_at, now=now,
        )  # fmt: skip
    elif again and claimed.attempts < ATTEMPTS_MAX:
        wait = min(RETRY_DELAY * 2 ** (claimed.attempts - 1), RETRY_DELAY_MAX)
        asked = outcome.after if isinstance(outcome, Later) else None
        due_at = now + max(wait, asked or timedelta(0))
        await _set(session, claimed, "queued", _reason(outcome.code, outcome.detail, due_at), now, due_at=due_at)
    else:
        status = "unknown" if isinstance(outcome, Unclear) else changes.FAILED
        reason = _reason(outcome.code, outcome.detail)
        await _set(session, claimed, status, reason, now)
        await changes.apply_all(session, changes=[_became(claimed.pair, status, reason, now)], now=now)


async def settle(
    session: Session,
    *,
    account: Opened,
    contact_id: UUID,
    message_id: UUID,
    external_id: str | None,
    sent_at: datetime,
    now: datetime,
) -> None:
    """Write down that a message, whose row is locked, went, and by what name its provider knows it.

    From then on what the provider tells under that name is of this message; what it told before is applied.
    """
    known = None if external_id is None else heard.pair(account, heard.clean(external_id))
    await session.execute(
        """
        UPDATE outbound_messages SET status = 'sent', sent_at = coalesce(sent_at, $3), external_id = $4, error = NULL,
            updated_at = $5
        WHERE contact_id = $1 AND id = $2
        """,
        contact_id, message_id, sent_at, None if known is None else known[1], now,
    )  # fmt: skip
    pair = (account.source, str(message_id))
    await changes.apply_all(session, changes=[changes.state(pair, "sent", occurred_at=sent_at)], now=now)
    if known is not None:
        await timeline.call_also(session, contact_id=contact_id, interaction_id=message_id, pair=known)
        await changes.catch_up(session, messages=[known], now=now)


async def recover(session: Session, *, now: datetime) -> int:
    """Give up on messages whose sender has died; how many. A provider who knows repetitions is asked once more."""
    rows = await session.fetch(_LOST, now - LOST_AFTER)
    lost = [row for row in rows if row["provider"] not in _repeatable()]
    reason = _reason("interrupted", "Whoever was sending it broke off: it may have gone, or not.")
    await session.execute(
        """
        UPDATE outbound_messages m SET status = v.status, due_at = $4, error = v.error, updated_at = $4
        FROM unnest($1::uuid[], $2::uuid[], $3::boolean[]) AS g (contact_id, id, again)
        CROSS JOIN LATERAL (
            SELECT CASE WHEN g.again THEN 'queued' ELSE 'unknown' END AS status,
                CASE WHEN NOT g.again THEN $5::jsonb END AS error
        ) v
        WHERE m.contact_id = g.contact_id AND m.id = g.id
        """,
        [row["contact_id"] for row in rows], [row["id"] for row in rows],
        [row["provider"] in _repeatable() for row in rows], now, reason,
    )  # fmt: skip
    told = [_became((row["source"], str(row["id"])), "unknown", reason, now) for row in lost]
    await changes.apply_all(session, changes=told, now=now)
    return len(rows)


async def due(session: Session, *, now: datetime) -> bool:
    """Whether anything is to be sent, or given up."""
    return bool(
        await session.fetchval(
            """
            SELECT EXISTS (SELECT FROM outbound_messages WHERE status = 'queued' AND due_at <= $1)
                OR EXISTS (SELECT FROM outbound_messages WHERE status = 'sending' AND claimed_at < $2)
            """,
            now, now - LOST_AFTER,
        )
    )  # fmt: skip


async def _send(database: Database, couriers: Couriers, claimed: Claimed, clock: Clock) -> Outcome:
    outcome = await couriers.carry(claimed.account.provider, claimed.outgoing, claimed.account.at_provider)
    async with database.begin() as session:
        await finish(session, claimed=claimed, outcome=outcome, now=clock())
    if not isinstance(outcome, Sent):
        _log.warning(
            "message_not_sent", message_id=claimed.id, account_id=claimed.account.id, provider=claimed.account.provider,
            outcome=type(outcome).__name__.lower(), code=outcome.code, attempts=claimed.attempts,
        )  # fmt: skip
    return outcome


def _wish(row: Record, account: Opened | None, contact_id: UUID, house: House) -> Wish | CrmError:
    if account is None:
        return accounts.AccountNotFound("Its channel account is gone.")
    if account.sealed:
        return SecretsUnreadable("The secrets of its channel account can't be read.")
    if row["body"] is None and row["provider_template"] is None:
        return outbound.NothingToSay("Its content was deleted.")
    wanted = outbound.address_of(outbound.reached(row["identity"]), region=house.region)
    return Wish(
        contact_id=contact_id, account_id=row["account_id"], ref=account.at_provider.ref, channel=row["channel"],
        purpose=row["purpose"], wanted=wanted, templated=row["provider_template"] is not None, human=row["human"],
    )  # fmt: skip


def _outgoing(row: Record, cleared: Cleared, account: Opened) -> Outgoing:
    template = row["provider_template"]
    # What the person wrote for is answered in plain words as long as that is allowed.
    templated = template is not None and (cleared.late or row["body"] is None)
    return Outgoing(
        reference=str(row["id"]), channel=row["channel"], to=cleared.to, text=row["body"], subject=row["subject"],
        template=ProviderTemplate(**template) if templated else None, late=cleared.late,
        told_to=_told_to(row["id"], account), began_with=_began_with(row),
    )  # fmt: skip


def _began_with(row: Record) -> str | None:
    """The mail with which its thread began, if that is another one."""
    local, _, domain = (row["hint"] or "").rpartition("@")
    return row["hint"] if domain and local and local != str(row["id"]) else None


def _told_to(message_id: UUID, account: Opened) -> str | None:
    """Where a provider that asks for it may tell what became of a message, if we know how we are reached."""
    public = account.at_provider.settings.get(accounts.PUBLIC_URL)
    endpoint = accounts.endpoint(account.provider, account.id)
    return f"{public.rstrip('/')}{endpoint}?reference={message_id}" if public else None


def _update(
    row: Record, now: datetime, *, status: str, due_at: datetime | None = None, attempts: int | None = None,
    to: Address | None = None, error: dict[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The values of `_UPDATED`."""
    return {
        "contact_id": row["contact_id"], "id": row["id"], "status": status, "due_at": due_at or row["due_at"],
        "attempts": row["attempts"] if attempts is None else attempts,
        "claimed_at": now if status == "sending" else row["claimed_at"],
        "sent_to": row["sent_to"] if to is None else {"kind": to.kind, "value": to.value, "account": to.account},
        "error": error, "updated_at": now,
    }  # fmt: skip


async def _set(
    session: Session, claimed: Claimed, status: str, reason: dict[str, Any] | None, now: datetime,
    *, due_at: datetime | None = None,
) -> None:  # fmt: skip
    await session.execute(
        """
        UPDATE outbound_messages SET status = $3, error = $4, due_at = coalesce($5, due_at), updated_at = $6
        WHERE contact_id = $1 AND id = $2
        """,
        claimed.contact_id, claimed.id, status, reason, due_at, now,
    )  # fmt: skip


def _reason(code: str, detail: str, until: datetime | None = None) -> dict[str, Any]:
    at = {} if until is None else {"until": until.isoformat()}
    return heard.clean({"code": code[:100], "detail": detail[:DETAIL_MAX], **at})  # type: ignore[no-any-return]


def _became(pair: tuple[str, str], status: str, reason: dict[str, Any], now: datetime) -> Change:
    error = {"code": reason["code"], "message": reason["detail"]}
    return changes.state(pair, status, data={"error": error}, occurred_at=now)


def _repeatable() -> frozenset[str]:
    return frozenset(name for name, sender in providers.SENDERS.items() if sender.REPEATABLE)


_UPDATED: Final = (
    "contact_id", "id", "status", "due_at", "attempts", "claimed_at", "sent_to", "error", "updated_at"
)  # fmt: skip

_DUE: Final = """
    SELECT m.contact_id, m.id, m.account_id, m.channel, m.purpose, m.identity, m.sent_to, m.provider_template, m.human,
        m.due_at, m.attempts, m.claimed_at, i.subject, i.body, i.source, (
            SELECT t.hint FROM threads t WHERE t.contact_id = m.contact_id AND t.id = i.thread_id
        ) AS hint
    FROM outbound_messages m JOIN interactions i ON i.contact_id = m.contact_id AND i.id = m.id
    WHERE m.status = 'queued' AND m.due_at <= $1 AND m.account_id <> ALL ($3::uuid[])
    ORDER BY m.due_at, m.id LIMIT $2
    FOR UPDATE OF m SKIP LOCKED
"""
_HELD: Final = "SELECT status, sent_to FROM outbound_messages WHERE contact_id = $1 AND id = $2 FOR UPDATE"
_LOST: Final = """
    SELECT m.contact_id, m.id, i.source, split_part(i.source, ':', 1) AS provider
    FROM outbound_messages m JOIN interactions i ON i.contact_id = m.contact_id AND i.id = m.id
    WHERE m.status = 'sending' AND m.claimed_at < $1
    ORDER BY m.contact_id, m.id LIMIT 1000
    FOR UPDATE OF m SKIP LOCKED
"""
