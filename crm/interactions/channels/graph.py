"""What Meta's webhooks have in common: how they are set up, signed, and packed into entries."""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Final

import msgspec

from crm.interactions.channels import payloads, signatures
from crm.interactions.channels.deliveries import ChannelAccount, Delivery, Reply, SignatureInvalid
from crm.interactions.channels.events import Event
from crm.interactions.channels.payloads import Json

SECRETS: tuple[str, ...] = ("app_secret", "verify_token")
SIGNATURE: Final = "x-hub-signature-256"


def handshake(delivery: Delivery, account: ChannelAccount) -> Reply | None:
    """The challenge, for whoever knows the token. Raises SignatureInvalid."""
    if delivery.method != "GET":
        return None
    if delivery.query.get("hub.mode") != "subscribe":
        raise SignatureInvalid("Deliveries are sent with POST; a GET is for subscribing.")
    signatures.check(delivery.query.get("hub.verify_token"), [signatures.secret(account, "verify_token")])
    return Reply(body=delivery.query.get("hub.challenge", "").encode())


def verify(delivery: Delivery, account: ChannelAccount) -> None:
    """Raises SignatureInvalid."""
    signatures.check(delivery.headers.get(SIGNATURE), [_signature(account, delivery.body)])


def key(delivery: Delivery) -> str | None:
    """Meta sends a delivery again without saying so."""
    return None


def sample(account: ChannelAccount, payload: Json, *, url: str, now: datetime) -> Delivery:
    """A payload as it would be delivered. Raises SignatureInvalid without a secret."""
    body = msgspec.json.encode(payload)
    headers = {SIGNATURE: _signature(account, body).decode()}
    return Delivery(method="POST", url=url, headers=headers, query={}, body=body, received_at=now)


def entries(body: bytes, read: Callable[[Json], Iterable[Event]]) -> Iterator[Event]:
    """What `read` makes of each entry, in order."""
    return payloads.events(body, lambda found: payloads.each(payloads.parts(found, "entry"), read, kind="entry"))


def _signature(account: ChannelAccount, body: bytes) -> bytes:
    return b"sha256=" + signatures.sha256_hex(signatures.secret(account, "app_secret"), body)
