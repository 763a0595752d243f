"""What every channel's deliveries come down to, whoever sent them.

An adapter makes these of the bytes of a delivery. It is pure: it neither reads nor writes anything, and knows nothing
of contacts. Times are in UTC; ids are the provider's own, as text.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, TypeAlias

State: TypeAlias = Literal["queued", "sent", "delivered", "read", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """An address as the provider gives it, not in canonical form yet.

    `account` is the one at which the address is known, for kinds whose values mean nothing elsewhere. `verified` is
    said only of what the provider itself vouches for: whoever writes from there is its owner.
    """

    kind: str
    value: str
    account: str = ""
    verified: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody as a channel knows them: by at least one address, the best to find them by first."""

    addresses: Sequence[Address]
    name: str | None = None
    locale: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """A file or a place in a message. `reference` is by what the provider hands it out: a URL or a media id."""

    kind: str
    reference: str | None = None
    content_type: str | None = None
    name: str | None = None
    bytes_count: int | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message from a person, or one of ours that was sent elsewhere (`direction` outbound: an echo).

    `kind` is `message`, or another kind of interaction such as `call`, `comment` or `postback`. `thread_hint` is what
    ties it to a thread whatever the time between, such as the address that a reply to a case comes back to. `channel`
    is said only where it can be another than the account's.
    """

    external_id: str
    person: Person
    occurred_at: datetime
    direction: Literal["inbound", "outbound"] = "inbound"
    kind: str = "message"
    subject: str | None = None
    text: str | None = None
    attachments: Sequence[Attachment] = ()
    reply_to: str | None = None
    thread_hint: str | None = None
    channel: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attached:
    """Something that belongs to the message `to` came after it: a call's recording, or what was said in it."""

    external_id: str
    to: str
    occurred_at: datetime
    attachments: Sequence[Attachment]
    person: Person | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Edited:
    """A message has another text now."""

    external_id: str
    person: Person
    occurred_at: datetime
    text: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsent:
    """The sender took a message back: its content has to go."""

    external_id: str
    occurred_at: datetime
    person: Person | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChanged:
    """What became of a message of ours; `error` is the provider's code and words."""

    external_id: str
    state: State
    occurred_at: datetime
    person: Person | None = None
    error: Mapping[str, Any] | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watermark:
    """All messages of ours to a person up to a time reached a state."""

    person: Person
    state: Literal["delivered", "read"]
    until: datetime
    occurred_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaction:
    """A sign put on a message, or taken from it where `emoji` is None."""

    external_id: str
    to: str
    person: Person
    occurred_at: datetime
    emoji: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentChanged:
    """A person allowed or forbade to be written to; `channel` and `purpose` as in consents, `all` for every one."""

    external_id: str
    person: Person
    occurred_at: datetime
    granted: bool
    channel: str
    purpose: str
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identified:
    """A person told, or the provider vouches for, further addresses or facts of theirs.

    `replaces` are addresses that are theirs no longer, such as a number that was given up.
    """

    external_id: str
    person: Person
    occurred_at: datetime
    attributes: Mapping[str, Any] = field(default_factory=dict)
    replaces: Sequence[Address] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line of an order; `unit_price` includes tax, `tax` is what the whole line contains.

    `discount` is what comes off the whole line, of its own discounts and its share of the order's.
    """

    sku: str
    quantity: Decimal
    unit_price: Decimal
    tax: Decimal = Decimal(0)
    discount: Decimal = Decimal(0)
    category: str | None = None
    labels: Sequence[str] = ()
    external_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordered:
    """A paid order. `person` is None where the shop knows nobody: a guest without any address.

    `discounts` are those that no line bears. Lines less discounts, and `shipping`, add up to `total`.
    """

    external_id: str
    order_ref: str
    person: Person | None
    occurred_at: datetime
    currency: str
    lines: Sequence[Line] = ()
    discounts: Sequence[Decimal] = ()
    shipping: Decimal = Decimal(0)
    shipping_tax: Decimal = Decimal(0)
    total: Decimal | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refunded:
    """Money of an order given back: an amount, or quantities of its lines by their place.

    Where the shop names lines by its own ids, `items` are quantities by a line's `external_id`: who has the order knows
    their places, and then they say more than the `amount`. `occurred_at` is None where the shop does not say when.

    With `rest` it is all that is left of an order that came to nothing, where anything of it is known.
    """

    external_id: str
    order_ref: str
    refund_ref: str
    occurred_at: datetime | None
    amount: Decimal | None = None
    lines: Sequence[tuple[int, Decimal]] = ()
    items: Sequence[tuple[str, Decimal]] = ()
    rest: bool = False
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened:
    """Something else that happened with a person, for the timeline: a page view, an order that is not paid yet.

    `channel` is said only where it can be another than the account's.
    """

    external_id: str
    person: Person | None
    occurred_at: datetime
    kind: str
    subject: str | None = None
    text: str | None = None
    channel: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivacyRequested:
    """The provider passes on a person's wish to know, or to be forgotten, with what identifies them."""

    external_id: str
    topic: Literal["export", "erasure", "shop_erasure"]
    person: Person | None
    occurred_at: datetime
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """An event of a kind that nobody here knows, kept and shown as such; one that could not be read says why."""

    external_id: str
    kind: str
    occurred_at: datetime | None
    raw: Any
    person: Person | None = None
    reason: str | None = None


Event: TypeAlias = (
    Message | Attached | Edited | Unsent | StateChanged | Watermark | Reaction | ConsentChanged | Identified | Ordered
    | Refunded | Happened | PrivacyRequested | Unknown
)  # fmt: skip
