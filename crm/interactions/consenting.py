"""Taking down what people allow and forbid, with its proof, and telling their timelines."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from crm.contacts import consents
from crm.contacts.consents import ALL, COLUMNS, Consent, Status
from crm.contacts.contacts import ContactNotFound
from crm.db import idempotency, writes
from crm.db.ids import uuid7
from crm.db.session import Session
from crm.db.writes import Insert
from crm.errors import CrmError, FieldError, Unavailable
from crm.interactions import timeline
from crm.interactions.timeline import AHEAD_MAX, ExternalIdTaken, InTheFuture

GRANTED: Final = "consent.granted"
DENIED: Final = "consent.denied"

Recorded = tuple[Consent, bool]
"""The consent, and whether it is new."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """What somebody said. With an `external_id` it is taken down once for each `source`, or for each channel.

    The id of a message may stand here, and on the timeline for the message too.
    """

    channel: str
    purpose: str
    status: Status
    occurred_at: datetime
    legal_basis: str | None = None
    source: str | None = None
    external_id: str | None = None
    evidence: dict[str, Any] | str | None = None


async def record(
    session: Session,
    *,
    contact_id: UUID,
    declaration: Declaration,
    by: str,
    once: idempotency.Request | None = None,
    now: datetime,
) -> Recorded:
    """Take down a consent, or find it under its external id.

    Raises ContactNotFound, ExternalIdTaken, InTheFuture.
    """
    await idempotency.begin(session, request=once)
    result = (await record_all(session, declarations=[(contact_id, declaration)], by=by, now=now))[0]
    if isinstance(result, CrmError):
        raise result
    consent, is_new = result
    await idempotency.keep(
        session, request=once, contact_id=contact_id, result=consent, status=201 if is_new else 200, now=now
    )
    return result


async def record_all(
    session: Session, *, declarations: Sequence[tuple[UUID, Declaration]], by: str, now: datetime
) -> list[Recorded | CrmError]:
    """`record` for many: in order, and for each what `record` would have answered or raised.

    Two statements, and a third where something was there already.
    """
    results: dict[int, Recorded | CrmError] = {}
    made: dict[int, Consent] = {}
    for number, (contact_id, said) in enumerate(declarations):
        if said.occurred_at > now + AHEAD_MAX:
            results[number] = InTheFuture(
                "A consent was given already; its time may be a day ahead at most.",
                errors=[FieldError("/occurred_at", "in_the_future", "lies in the future")],
            )
        else:
            made[number] = _consent(contact_id, said, by, now)
    repeated = []
    for number, is_known, is_new in await _claimed(session, made):
        if not is_known:
            results[number] = ContactNotFound("No contact has this id.")
        elif is_new:
            results[number] = made[number], True
        else:
            repeated.append(number)
    new = [result[0] for result in results.values() if not isinstance(result, CrmError)]
    await writes.write(
        session,
        [
            part(new),
            timeline.part(told(new)),
        ],
    )
    stored = await consents.find(session, pairs=[_pair(made[number]) for number in repeated])
    for number in repeated:
        results[number] = _again(stored.get(_pair(made[number])), made[number])
    return [results[number] for number in range(len(declarations))]


def denied(contact_ids: Iterable[UUID], *, purpose: str, source: str, by: str, now: datetime) -> list[Consent]:
    """Denials on every channel of contacts who are being made, for `part` and `told`."""
    said = Declaration(channel=ALL, purpose=purpose, status="denied", source=source, occurred_at=now)
    return [_consent(contact_id, said, by, now) for contact_id in contact_ids]


def part(taken_down: Iterable[Consent]) -> Insert:
    """The part of a write that keeps consents of contacts whom nobody can merge or erase meanwhile."""
    return Insert(consents.consents, COLUMNS, [tuple(getattr(one, name) for name in COLUMNS) for one in taken_down])


def told(taken_down: Iterable[Consent]) -> list[tuple[Any, ...]]:
    """What the timelines say of consents."""
    return [_entry(one) for one in taken_down]


def _consent(contact_id: UUID, said: Declaration, by: str, now: datetime) -> Consent:
    source = said.source or (said.channel if said.external_id is not None else None)
    return Consent(
        contact_id, uuid7(), said.channel, said.purpose, said.status, said.legal_basis, source, said.external_id,
        said.evidence, said.occurred_at, now, by,
    )  # fmt: skip


async def _claimed(session: Session, made: dict[int, Consent]) -> list[Any]:
    """For each, by its number, whether there is the contact, and whether its external id is new."""
    if not made:
        return []
    columns = [(number, one.contact_id, one.id, one.source, one.external_id) for number, one in made.items()]
    return await session.fetch(_CLAIM, *zip(*columns, strict=True))


def _again(stored: tuple[Consent, UUID] | None, asked: Consent) -> Recorded | CrmError:
    if stored is None:
        return Unavailable("It was recorded and removed again at this moment. Send the request again.")
    consent, contact_id = stored
    if contact_id == asked.contact_id:
        return consent, False
    return ExternalIdTaken(
        f"'{asked.external_id}' of '{asked.source}' is a consent of another contact.", contact_id=str(contact_id)
    )


def _pair(consent: Consent) -> tuple[str, str]:
    assert consent.source is not None and consent.external_id is not None, "only these can be there already"  # noqa: PT018
    return consent.source, consent.external_id


def _entry(consent: Consent) -> tuple[Any, ...]:
    """Without the external id: under it there may be the message that says it."""
    return timeline.entry(
        consent.contact_id, channel=consent.channel, kind=GRANTED if consent.status == "granted" else DENIED,
        occurred_at=consent.occurred_at, recorded_at=consent.recorded_at, by=consent.by, source=consent.source,
        data={"consent_id": consent.id, "purpose": consent.purpose, "legal_basis": consent.legal_basis},
    )  # fmt: skip


# The lock on the contact keeps it from being deleted or merged meanwhile. Of two with the same external id the second
# waits here for the first, and all take them in one order.
_CLAIM: Final = """
    WITH given AS MATERIALIZED (
        SELECT * FROM unnest($1::int[], $2::uuid[], $3::uuid[], $4::text[], $5::text[])
            AS g (number, contact_id, id, source, external_id)
    ), people AS (
        SELECT c.id FROM contacts c WHERE c.id = ANY ($2) ORDER BY c.id FOR KEY SHARE
    ), listed AS (
        INSERT INTO consent_directory (source, external_id, contact_id, consent_id)
        SELECT g.source, g.external_id, g.contact_id, g.id FROM given g JOIN people p ON p.id = g.contact_id
        WHERE g.external_id IS NOT NULL
        ORDER BY g.source, g.external_id, g.number
        ON CONFLICT DO NOTHING
        RETURNING consent_id
    )
    SELECT g.number, p.id IS NOT NULL, g.external_id IS NULL OR g.id IN (SELECT consent_id FROM listed)
    FROM given g LEFT JOIN people p ON p.id = g.contact_id
"""
