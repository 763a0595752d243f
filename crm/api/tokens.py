"""Members' tokens: short-lived, signed, and kept nowhere.

A token ends at its `exp` by the clock of whoever reads it, without leeway. `iat` is not compared with that clock: the
process that issued the token may run a little ahead.
"""

import re
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import jwt
import msgspec
from asyncpg import Record

from crm.contacts.contacts import ContactNotFound
from crm.db import idempotency
from crm.db.ids import uuid7
from crm.db.session import Database, Session

AUDIENCE: Final = "setia/v1/me"
EXPIRES_IN: Final = timedelta(hours=1)
EXPIRES_IN_MAX: Final = timedelta(days=1)

_ALGORITHM: Final = "HS256"
_SECRET_BYTES: Final = 32
_CLAIMS: Final = ("aud", "sub", "jti", "iat", "exp")
_SHAPE: Final = re.compile(r"(?=.{1,1000}\Z)[\w-]+\.[\w-]+\.[\w-]+\Z", re.ASCII)
"""What is not even written as a token, or is three times as long as ours are, is not read at all."""


@dataclass(frozen=True, slots=True)
class MemberToken:
    """A token that opens `/v1/me` for one contact, until `expires_at`."""

    token: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says of its holder; times are seconds since 1970. Without the secret it opens nothing."""

    sub: UUID
    jti: UUID
    iat: int
    exp: int


@dataclass(frozen=True, slots=True)
class _Secret:
    id: UUID
    value: bytes = field(repr=False)


async def issue(
    session: Session, *, contact_id: UUID, expires_in: timedelta, once: idempotency.Request | None, now: datetime
) -> MemberToken:
    """Sign a token for a contact.

    Of an answer only the claims are kept: a repeated request gets the same token because they are signed again.
    Raises ContactNotFound, Replay, IdempotencyKeyReused.
    """
    try:
        await idempotency.begin(session, request=once)
    except idempotency.Replay as first:
        again = await _signed(session, msgspec.json.decode(first.body, type=Claims), now=now)
        raise idempotency.Replay(first.status, msgspec.json.encode(again)) from None
    issued_at = int(now.timestamp())
    claims = Claims(contact_id, uuid7(), issued_at, issued_at + int(expires_in.total_seconds()))
    token = await _signed(session, claims, now=now)
    await idempotency.keep(session, request=once, contact_id=contact_id, result=claims, now=now)
    return token


async def rotate(session: Session, *, now: datetime) -> None:
    """Sign with a new secret from now on. Every token issued before ends at once, in every process."""
    await session.execute(
        """
        INSERT INTO member_token_secrets (id, secret, created_at) VALUES ($1, $2, $3)
        ON CONFLICT (single) DO UPDATE
            SET id = excluded.id, secret = excluded.secret, created_at = excluded.created_at
        """,
        uuid7(), secrets.token_bytes(_SECRET_BYTES), now,
    )  # fmt: skip


class Reader:
    """Tells whose a token is.

    The secret is remembered, so that a forgery in its name costs no query. That it is still in use is asked together
    with whether there is such a contact, each time: a rotation and a deletion hold at once.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._secret: _Secret | None = None

    async def holder(self, token: str) -> UUID | None:
        """The contact whose token this is; None for whatever is not signed by us, expired, or of nobody any more."""
        if not _SHAPE.match(token):
            return None
        try:
            signed_by = jwt.get_unverified_header(token).get("kid")
        except jwt.InvalidTokenError:
            return None
        if self._secret is None or str(self._secret.id) != signed_by:
            self._secret = await self._load()
        if self._secret is None:
            return None
        secret = self._secret
        contact_id = _subject(token, secret)
        if contact_id is None:
            return None
        async with self._database.reading() as session:
            good = await session.fetchval(_STILL_GOOD, contact_id, secret.id)
        return contact_id if good else None

    async def _load(self) -> _Secret | None:
        async with self._database.reading() as session:
            return _secret(await session.fetchrow(_IN_USE))


def _subject(token: str, secret: _Secret) -> UUID | None:
    try:
        claims = jwt.decode(
            token,
            secret.value,
            algorithms=[_ALGORITHM],
            audience=AUDIENCE,
            options={"require": [*_CLAIMS], "strict_aud": True, "verify_iat": False},
        )
    except jwt.InvalidTokenError:
        return None
    return UUID(claims["sub"])


async def _signed(session: Session, claims: Claims, *, now: datetime) -> MemberToken:
    row = await session.fetchrow(_FOR_CONTACT, claims.sub)
    if row is None:
        raise ContactNotFound("No contact has this id.")
    secret = _secret(row) or await _first_secret(session, now=now)
    token = jwt.encode(
        {"aud": AUDIENCE, **msgspec.to_builtins(claims)},
        secret.value,
        algorithm=_ALGORITHM,
        headers={"kid": str(secret.id)},
    )
    return MemberToken(token, datetime.fromtimestamp(claims.exp, UTC))


async def _first_secret(session: Session, *, now: datetime) -> _Secret:
    # Where another process makes it at the same moment, the insert waits for that one's commit and the select finds it.
    await session.execute(
        "INSERT INTO member_token_secrets (id, secret, created_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        uuid7(), secrets.token_bytes(_SECRET_BYTES), now,
    )  # fmt: skip
    made = _secret(await session.fetchrow(_IN_USE))
    assert made is not None, "it is replaced, never deleted"
    return made


def _secret(row: Record | None) -> _Secret | None:
    return None if row is None or row["id"] is None else _Secret(row["id"], row["secret"])


_IN_USE: Final = "SELECT id, secret FROM member_token_secrets"
_FOR_CONTACT: Final = """
    SELECT s.id, s.secret FROM contacts c LEFT JOIN member_token_secrets s ON true WHERE c.id = $1
"""
_STILL_GOOD: Final = """
    SELECT EXISTS (SELECT FROM contacts WHERE id = $1) AND EXISTS (SELECT FROM member_token_secrets WHERE id = $2)
"""
