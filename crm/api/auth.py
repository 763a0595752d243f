"""Who calls: integration keys, hashed, with scopes, and members. A route without declared scopes does not start."""

import hashlib
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from litestar.connection import ASGIConnection

from crm.api import tokens
from crm.db.ids import uuid7
from crm.db.session import Database, Session
from crm.errors import Forbidden, Invalid, NotFound, Unauthenticated

SCOPES: Final = frozenset({
    *(f"{area}:{verb}" for area in ("contacts", "interactions", "loyalty", "programs", "care", "channels", "insights",
                             "playbooks")
      for verb in ("read", "write")),
    "loyalty:award", "loyalty:adjust", "loyalty:redeem",
    "members:issue", "keys:manage", "staff:manage", "events:read", "*",
})  # fmt: skip
PUBLIC: Final[frozenset[str]] = frozenset()
"""The scopes of a route that anybody may call."""
MEMBER: Final = frozenset({"me"})
"""The scope of a route under `/v1/me`. It can't be granted, and `*` does not hold it: only a member's token does."""

_PREFIX = "setia_"
_CACHE_SECONDS = 5.0
_CACHE_MAX = 10_000
_USED_RESOLUTION = timedelta(minutes=1)

_COLUMNS = "id, name, prefix, scopes, created_at, created_by, expires_at, revoked_at, last_used_at"


class KeyNotFound(NotFound):
    code = "key_not_found"
    title = "There is no such key"


class UnknownScope(Invalid):
    code = "unknown_scope"
    title = "There is no such scope"


class ScopeMissing(Forbidden):
    code = "scope_missing"
    title = "The caller may not do that"


class MemberTokenNeeded(Forbidden):
    code = "member_token_needed"
    title = "This is for members"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is behind a request; `name` is what the ledger and the timeline say about who did it.

    A member has a `contact_id`, which is their `id` too: their Idempotency-Keys outlive the token.
    """

    id: UUID
    name: str
    scopes: frozenset[str]
    expires_at: datetime | None = None
    contact_id: UUID | None = None

    def may(self, scopes: frozenset[str]) -> bool:
        """Whether every one of `scopes` was granted."""
        return scopes <= self.scopes or ("*" in self.scopes and scopes <= SCOPES)


@dataclass(frozen=True, slots=True)
class Key:
    """An integration key as it can be read back: never the secret, only its first characters."""

    id: UUID
    name: str
    prefix: str
    scopes: list[str]
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A new key; `key` is shown this once and kept only as a hash, so a repeated request gets null."""

    id: UUID
    name: str
    key: str | None
    prefix: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None


async def issue(
    session: Session,
    *,
    name: str,
    scopes: list[str],
    by: str,
    maker: "Principal | None" = None,
    expires_at: datetime | None = None,
    now: datetime,
) -> IssuedKey:
    """Make a key; `maker` can't grant what it may not do itself. Raises UnknownScope, ScopeMissing."""
    if unknown := sorted(set(scopes) - SCOPES):
        raise UnknownScope(f"Unknown: {', '.join(unknown)}. The scopes are {', '.join(sorted(SCOPES))}.")
    if maker is not None and not maker.may(frozenset(scopes)):
        raise ScopeMissing("A key can't grant scopes that its maker lacks.")
    secret = _PREFIX + secrets.token_urlsafe(32)
    issued = IssuedKey(uuid7(), name, secret, secret[:12], sorted(set(scopes)), now, expires_at)
    await session.execute(
        """
        INSERT INTO api_keys (id, name, prefix, hash, scopes, created_at, created_by, expires_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        """,
        issued.id, name, issued.prefix, _hash(secret), issued.scopes, now, by, expires_at,
    )  # fmt: skip
    return issued


async def revoke(session: Session, *, key_id: UUID, now: datetime) -> None:
    """End a key; within seconds no process lets it in any more. Ending it twice changes nothing. Raises KeyNotFound."""
    if not await session.execute(
        "UPDATE api_keys SET revoked_at = coalesce(revoked_at, $2) WHERE id = $1", key_id, now
    ):
        raise KeyNotFound("No key has this id.")


async def get(session: Session, *, key_id: UUID) -> Key:
    """One key. Raises KeyNotFound."""
    row = await session.fetchrow(f"SELECT {_COLUMNS} FROM api_keys WHERE id = $1", key_id)
    if row is None:
        raise KeyNotFound("No key has this id.")
    return Key(**dict(row))


async def page(session: Session, *, before: UUID | None, limit: int) -> list[Key]:
    """Keys, newest first, older than `before`."""
    rows = await session.fetch(
        f"SELECT {_COLUMNS} FROM api_keys WHERE $1::uuid IS NULL OR id < $1 ORDER BY id DESC LIMIT $2", before, limit
    )
    return [Key(**dict(row)) for row in rows]


async def exists(session: Session) -> bool:
    """Whether anybody could sign in at all."""
    return bool(await session.fetchval("SELECT EXISTS (SELECT 1 FROM api_keys)"))


class Authenticator:
    """Looks keys up, remembering each answer for a few seconds: the hash is of a random key, so it may be fast."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._tokens = tokens.Reader(database)
        self._known: dict[bytes, tuple[float, Principal | None]] = {}

    async def principal(self, token: str) -> Principal | None:
        """Who holds this key or member's token; None for an unknown, expired or revoked one."""
        if "." in token:  # no key has one
            contact_id = await self._tokens.holder(token)
            return None if contact_id is None else Principal(contact_id, "member", MEMBER, contact_id=contact_id)
        digest = _hash(token)
        now = time.monotonic()
        known = self._known.get(digest)
        if known is None or known[0] < now:
            if len(self._known) >= _CACHE_MAX:
                self._known.clear()
            known = (now + _CACHE_SECONDS, await self._look_up(digest))
            self._known[digest] = known
        principal = known[1]
        if principal is not None and principal.expires_at is not None and principal.expires_at <= datetime.now(UTC):
            return None
        return principal

    def forget(self) -> None:
        """Let a revoked key be refused at once in this process."""
        self._known.clear()

    async def _look_up(self, digest: bytes) -> Principal | None:
        now = datetime.now(UTC)
        async with self._database.reading() as session:
            row = await session.fetchrow(
                """
                SELECT id, name, scopes, expires_at, last_used_at FROM api_keys
                WHERE hash = $1 AND revoked_at IS NULL
                """,
                digest,
            )
            if row is None:
                return None
            if row["last_used_at"] is None or row["last_used_at"] < now - _USED_RESOLUTION:
                await session.execute("UPDATE api_keys SET last_used_at = $2 WHERE id = $1", row["id"], now)
        return Principal(row["id"], f"key:{row['name']}", frozenset(row["scopes"]), row["expires_at"])


async def authorize(connection: ASGIConnection[Any, Any, Any, Any]) -> None:
    """Make sure that the caller is known and may. Sets `scope["auth"]`.

    Raises Unauthenticated, ScopeMissing, MemberTokenNeeded.
    """
    required: frozenset[str] = connection.route_handler.opt["scopes"]
    if required == PUBLIC:
        return
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("Send 'Authorization: Bearer' with a key, or with a member's token.")
    authenticator: Authenticator = connection.app.state.authenticator
    principal = await authenticator.principal(token.strip())
    if principal is None:
        raise Unauthenticated("This key or token is unknown, expired or revoked.")
    if not principal.may(required):
        raise _refusal(principal, required)
    connection.scope["auth"] = principal


def _refusal(principal: Principal, required: frozenset[str]) -> Forbidden:
    if required == MEMBER:
        return MemberTokenNeeded(
            "No key opens this. Ask for a token with POST /v1/contacts/{contact_id}/member-tokens and send that."
        )
    if principal.contact_id is not None:
        return ScopeMissing("A member's token opens only what lies under /v1/me.")
    return ScopeMissing(f"This key lacks {', '.join(sorted(required - principal.scopes))}.")


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
