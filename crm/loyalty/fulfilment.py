"""Handing rewards over: what a member asked for lies ready, and is taken away."""

from datetime import datetime
from typing import Final, Literal
from uuid import UUID

from crm.db.session import Session
from crm.db.writes import Update
from crm.errors import Conflict
from crm.loyalty import journal, redemptions
from crm.loyalty.redemptions import RedemptionView

STATES: Final = ("requested", "ready", "fulfilled")
"""Of a reward that somebody hands over, in their order."""


class NotToFulfil(Conflict):
    code = "not_to_fulfil"
    title = "This redemption can't get into that state"


async def advance(
    session: Session,
    *,
    contact_id: UUID,
    redemption_id: UUID,
    status: Literal["ready", "fulfilled"],
    by: str,
    now: datetime,
) -> RedemptionView:
    """Note that a reward lies ready, or was handed over; said again it changes nothing.

    Raises RedemptionNotFound, NotToFulfil where it is not a reward to hand over, or is beyond that state already.
    """
    known = await redemptions.get(session, contact_id=contact_id, redemption_id=redemption_id)
    if known.reward is None:
        raise NotToFulfil("Points were redeemed for money, not for a reward.", status_now=known.status)
    locked = await journal.lock(session, program_id=known.program_id, contact_ids=[contact_id], now=now)
    row = await redemptions.rewarded(session, contact_id=contact_id, redemption_id=redemption_id)
    current = row["status"]
    if current != status:
        if current not in STATES or STATES.index(current) > STATES.index(status):
            raise NotToFulfil(f"It is {current} and can't become {status}.", status_now=current)
        await journal.write_down(
            session,
            locked,
            facts=[
                Update(
                    redemptions.redemptions, ("contact_id", "id", "status"), [(contact_id, redemption_id, status)], 2
                )
            ],
            entries=[redemptions.entry(row, contact_id, redemption_id, kind=f"reward.{status}", by=by, now=now)],
        )
    return await redemptions.get(session, contact_id=contact_id, redemption_id=redemption_id)
