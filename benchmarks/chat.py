"""A provider to be measured with: its adapter, and programs of ours that know it.

`python -m benchmarks.chat` is `crm worker` with it.
"""

import hashlib
import hmac
import importlib
import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from litestar.types import ASGIApp

from crm.inbox import providers
from crm.interactions.channels.deliveries import ChannelAccount, Delivery, Reply, SignatureInvalid
from crm.interactions.channels.events import Address, Event, Message, Person

PROVIDER = "benchchat"
SIGNATURE = "x-signature"


class Chat:
    """Each delivery is one message, signed with HMAC-SHA256, as most providers do."""

    CHANNEL = "chat"
    SECRETS = ("secret",)
    REQUIRED = ("secret",)

    def handshake(self, delivery: Delivery, account: ChannelAccount) -> Reply | None:
        """There is none."""
        return None

    def verify(self, delivery: Delivery, account: ChannelAccount) -> None:
        """Check the signature over the body."""
        wanted = signature(delivery.body, account.secrets["secret"])
        if not hmac.compare_digest(wanted, delivery.headers.get(SIGNATURE, "")):
            raise SignatureInvalid("The signature does not match.")

    def key(self, delivery: Delivery) -> str | None:
        """Repetitions are told by their message, which costs more."""
        return None

    def events(self, delivery: Delivery, account: ChannelAccount) -> Iterable[Event]:
        """The message."""
        said = json.loads(delivery.body)
        yield Message(
            external_id=said["id"],
            person=Person(addresses=[Address(kind="benchchat", value=said["from"], verified=True)], name=said["from"]),
            occurred_at=datetime.fromisoformat(said["at"]),
            text=said["text"],
        )

    def sample(self, account: ChannelAccount, *, url: str, now: datetime) -> Delivery:
        """A message of now."""
        body = json.dumps({"id": "test", "from": "test", "at": now.isoformat(), "text": "This is a test."}).encode()
        headers = {SIGNATURE: signature(body, account.secrets["secret"])}
        return Delivery(method="POST", url=url, headers=headers, query={}, body=body, received_at=now)


def signature(body: bytes, secret: str) -> str:
    """What the provider signs with."""
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def app_factory() -> ASGIApp:
    """Our application, which knows this provider."""
    providers.ADAPTERS[PROVIDER] = Chat()
    application: Any = importlib.import_module("crm.app")
    app: ASGIApp = application.app_factory()
    return app


def main() -> None:
    """The worker, which knows this provider."""
    providers.ADAPTERS[PROVIDER] = Chat()
    worker: Any = importlib.import_module("crm.cli.worker")  # `crm.cli` has a command of that name
    worker.worker()


if __name__ == "__main__":
    main()
