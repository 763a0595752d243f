"""What the ledger writes: transactions, their movements, and the chain that makes a changed row visible. Pure."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from struct import Struct
from typing import Any, Final
from uuid import UUID

BUCKETS: Final = ("issued", "pending", "available", "held", "redeemed", "expired", "revoked", "transferred")
KINDS: Final = (
    "earn", "redeem", "hold", "capture", "release", "adjust", "expire", "activate", "transfer", "reverse",
)  # fmt: skip
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_NUMBERS = Struct(">qqqqqqq").pack


@dataclass(slots=True)
class Movement:
    """One row of the ledger; the balances are the account's after it."""

    seq: int
    transaction_id: UUID
    lot_id: UUID
    from_bucket: str
    to_bucket: str
    points: int
    available_after: int
    pending_after: int
    held_after: int
    occurred_at: datetime
    digest: bytes


@dataclass(slots=True)
class Transaction:
    """One business fact. `points` is signed as the member sees it; its movements are `first_seq` to `seq`."""

    id: UUID
    kind: str
    cause: str
    points: int
    occurred_at: datetime
    by: str
    reason: str | None = None
    note: str | None = None
    order_ref: str | None = None
    reverses: UUID | None = None
    rules: Sequence[Any] | None = None
    place: dict[str, str] = field(default_factory=dict)
    first_seq: int = 0
    seq: int = 0
    available_after: int = 0


def chain(previous: bytes, *, contact_id: UUID, program_id: UUID, movement: Movement, recorded_at: datetime) -> bytes:
    """SHA-256 over the digest before and this movement's ids, buckets, numbers and times; never over text of people.

    `verify` recomputes the same bytes in SQL: ids as 16 bytes, numbers and microseconds since 1970 as big-endian int64.
    """
    return hashlib.sha256(
        b"".join((
            previous,
            contact_id.bytes, program_id.bytes, movement.transaction_id.bytes, movement.lot_id.bytes,
            f"{movement.from_bucket}>{movement.to_bucket}".encode(),
            _NUMBERS(
                movement.seq, movement.points,
                movement.available_after, movement.pending_after, movement.held_after,
                (movement.occurred_at - _EPOCH) // _MICROSECOND, (recorded_at - _EPOCH) // _MICROSECOND,
            ),
        ))
    ).digest()  # fmt: skip
