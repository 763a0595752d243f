"""Members: a customer signs in with a token that an integration asks for."""

from datetime import datetime, timedelta
from typing import Annotated

from litestar.params import FromPath
from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from crm.api import tokens
from crm.api.routes import ContactId, post
from crm.api.schemas import Body, Duration
from crm.api.tokens import MemberToken
from crm.contacts.contacts import ContactNotFound
from crm.db import idempotency
from crm.db.session import Session


def _short(value: timedelta) -> timedelta:
    if not timedelta(0) < value <= tokens.EXPIRES_IN_MAX:
        raise PydanticCustomError("duration_out_of_range", "must be longer than nothing and at most P1D")
    return value


class NewMemberToken(Body):
    """For how long a member is signed in: an hour, unless it says otherwise, and a day at most."""

    expires_in: Annotated[Duration, AfterValidator(_short)] = tokens.EXPIRES_IN


@post("/contacts/{contact_id:uuid}/member-tokens", scopes={"members:issue"}, problems=(ContactNotFound,))
async def issue_member_token(
    session: Session, contact_id: FromPath[ContactId], data: NewMemberToken, now: datetime,
    once: idempotency.Request | None,
) -> MemberToken:  # fmt: skip
    """Issue a token that signs a contact in.

    Whoever holds it is the contact to `/v1/me`, and nobody anywhere else. It can't be read again or revoked alone: it
    is kept nowhere, and ends by itself. A repeated Idempotency-Key answers the same token, signed anew.
    """
    return await tokens.issue(session, contact_id=contact_id, expires_in=data.expires_in, once=once, now=now)


handlers = [issue_member_token]
