"""Whether a message may go now, and to which address: asked when it is accepted, and again when it goes.

One question for many messages, in as many queries as for one.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeAlias
from uuid import UUID

from crm.contacts import aliases, consents
from crm.contacts.addresses import Address
from crm.contacts.consents import ADDRESSES, SERVICE, Permission
from crm.contacts.contacts import ContactNotFound
from crm.db.session import Session
from crm.errors import Conflict, CrmError
from crm.inbox.house import House


class MayNotSend(Conflict):
    """Why nothing goes to this person on this channel; `until`, if there is one, says when to ask again."""

    code = "may_not_send"
    title = "This message may not be sent"


class ConsentDenied(MayNotSend):
    code = "consent_denied"
    title = "They do not want to be written to"


class ConsentMissing(MayNotSend):
    code = "no_consent"
    title = "They have not allowed it"


class NoAddress(MayNotSend):
    code = "no_address"
    title = "They have no address on this channel"


class WindowClosed(MayNotSend):
    code = "window_closed"
    title = "Too much time has passed since they wrote"


@dataclass(frozen=True, slots=True)
class Window:
    """For how long after somebody has written the channel lets us write.

    A person of ours may for `human`, and what the provider has approved may always go where there are `templates`.
    """

    plain: timedelta
    human: timedelta | None = None
    templates: bool = False


WINDOWS: Final[Mapping[str, Window]] = {
    "whatsapp": Window(timedelta(hours=24), templates=True),
    "messenger": Window(timedelta(hours=24), human=timedelta(days=7)),
    "instagram": Window(timedelta(hours=24), human=timedelta(days=7)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A message that somebody wants to send; `ref` is the account's name at its provider.

    `wanted` is the address that was chosen for it. `templated` says that a text of the provider's is at hand, `human`
    that a person wrote it.
    """

    contact_id: UUID
    account_id: UUID
    ref: str
    channel: str
    purpose: str
    wanted: Address | None = None
    templated: bool = False
    human: bool = False


@dataclass(frozen=True, slots=True)
class Cleared:
    """It may go to this address. `late` is outside of the time for plain answers."""

    to: Address
    late: bool


@dataclass(frozen=True, slots=True)
class Postponed:
    """It may go, and later."""

    code: str
    until: datetime


Verdict: TypeAlias = Cleared | Postponed | CrmError

QUIET_HOURS: Final = "quiet_hours"
SEND_AT: Final = "send_at"
WAITS: Final[Mapping[str, str]] = {
    QUIET_HOURS: "It waits until it is no longer quiet for them.",
    SEND_AT: "It waits for its time. They have to write before that, for it to go.",
}
"""What is said of a message that waits."""


async def judge(session: Session, *, wishes: Sequence[Wish], house: House, at: datetime) -> list[Verdict]:
    """What holds of each message if it goes at that time, in their order; a refusal is the error to raise."""
    if not wishes:
        return []
    permissions = await _permissions(session, wishes)
    reached = await _addresses(session, wishes)
    written = await _written(session, wishes)
    zones = await _zones(session, wishes)
    verdicts: list[Verdict] = []
    for wish in wishes:
        permission = permissions[wish.contact_id, wish.channel, wish.purpose]
        to = _chosen(wish, reached.get(wish.contact_id, ()))
        verdicts.append(
            _refusal(permission, wish)
            or _verdict(wish, to, written.get((wish.contact_id, wish.account_id)), zones[wish.contact_id], house, at)
        )
    return verdicts


def _verdict(
    wish: Wish, to: Address | None, written_at: datetime | None, zone: str | None, house: House, at: datetime
) -> Verdict:
    if to is None:
        return NoAddress(_no_address(wish))
    if wish.purpose != SERVICE and (until := house.quiet.over_at(at, zone=zone)) > at:
        return Postponed(QUIET_HOURS, until)
    window = WINDOWS.get(wish.channel)
    if window is None or (written_at is not None and at < written_at + window.plain):
        return Cleared(to, late=False)
    if window.templates and wish.templated:
        return Cleared(to, late=True)
    if window.human and wish.human and written_at is not None and at < written_at + window.human:
        return Cleared(to, late=True)
    return _closed(wish, window, written_at)


def _closed(wish: Wish, window: Window, written_at: datetime | None) -> WindowClosed:
    hours = int(window.plain.total_seconds() // 3600)
    since = "They have never written" if written_at is None else f"They wrote last at {written_at:%Y-%m-%dT%H:%M:%SZ}"
    instead = (
        "only a template that the provider has approved may go"
        if window.templates
        else f"only what a person writes may go, for {window.human.days} days"
        if window.human
        else "nothing may go"
    )
    return WindowClosed(
        f"{since}; {hours} hours after that {instead}.",
        closed_at=None if written_at is None else f"{written_at + window.plain:%Y-%m-%dT%H:%M:%SZ}",
        template_needed=window.templates,
    )


def _refusal(permission: Permission, wish: Wish) -> CrmError | None:
    match permission.why_not:
        case None:
            return None
        case "unknown_contact":
            return ContactNotFound("No contact has this id.")
        case "no_address":
            return NoAddress(_no_address(wish))
        case "denied":
            return ConsentDenied(
                f"They have forbidden '{permission.purpose}' on {permission.channel}.",
                consent_id=str(permission.consent_id),
            )
        case "no_consent":
            return ConsentMissing(f"'{permission.purpose}' on {permission.channel} needs a consent that they gave.")


def _no_address(wish: Wish) -> str:
    if wish.wanted is not None:
        return f"The address chosen for it is not theirs, or somebody else's by now, or not of {wish.channel}."
    return f"They have no address that {wish.channel} reaches from this account, or one that is disputed."


def _chosen(wish: Wish, addresses: Iterable[Address]) -> Address | None:
    kinds = ADDRESSES.get(wish.channel, (wish.channel,))
    fitting = [each for each in addresses if each.kind in kinds and each.account in {"", wish.ref}]
    if wish.wanted is not None:
        return wish.wanted if wish.wanted in fitting else None
    return min(fitting, key=lambda each: kinds.index(each.kind), default=None)


async def _permissions(
    session: Session, wishes: Sequence[Wish]
) -> dict[tuple[UUID, str, str], Permission]:  # fmt: skip
    """One query for each channel and purpose, of which there are few."""
    groups: dict[tuple[str, str], set[UUID]] = {}
    for wish in wishes:
        groups.setdefault((wish.channel, wish.purpose), set()).add(wish.contact_id)
    found: dict[tuple[UUID, str, str], Permission] = {}
    for (channel, purpose), contact_ids in groups.items():
        answers = await consents.may_send_all(session, contact_ids=contact_ids, channel=channel, purpose=purpose)
        found |= {(contact_id, channel, purpose): answer for contact_id, answer in answers.items()}
    return found


async def _addresses(session: Session, wishes: Sequence[Wish]) -> dict[UUID, list[Address]]:
    """What reaches each contact: verified before others, and among those the first that was known."""
    rows = await session.fetch(
        """
        SELECT i.contact_id, i.value, i.kind, i.account FROM contact_identities i
        WHERE i.contact_id = ANY ($1) AND NOT i.disputed
        ORDER BY i.verified DESC, i.created_at, i.position, i.kind, i.account, i.value
        """,
        list({wish.contact_id for wish in wishes}),
    )
    found: dict[UUID, list[Address]] = {}
    for row in rows:
        found.setdefault(row["contact_id"], []).append(Address(row["value"], row["kind"], row["account"]))
    return found


async def _written(session: Session, wishes: Sequence[Wish]) -> dict[tuple[UUID, UUID], datetime]:
    """When contacts wrote last on an account, where its channel has a window."""
    pairs = {(wish.contact_id, wish.account_id) for wish in wishes if wish.channel in WINDOWS}
    if not pairs:
        return {}
    rows = await session.fetch(
        f"""
        SELECT g.contact_id, g.account_id, n.at
        FROM unnest($1::uuid[], $2::uuid[]) AS g (contact_id, account_id) CROSS JOIN LATERAL (
            SELECT max(t.last_inbound_at) AS at
            FROM {aliases.known_as("g.contact_id")} who
            JOIN threads t ON t.contact_id = who.id AND t.account_id = g.account_id
        ) n
        WHERE n.at IS NOT NULL
        """,
        *map(list, zip(*pairs, strict=True)),
    )
    return {(row["contact_id"], row["account_id"]): row["at"] for row in rows}


async def _zones(session: Session, wishes: Sequence[Wish]) -> dict[UUID, str | None]:
    ids = list({wish.contact_id for wish in wishes})
    rows = await session.fetch("SELECT id, time_zone FROM contacts WHERE id = ANY ($1)", ids)
    return dict.fromkeys(ids) | {row["id"]: row["time_zone"] for row in rows}
