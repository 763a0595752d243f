"""Deliveries as providers send them, for the tests of adapters."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from crm.interactions.channels.adapters import ADAPTERS
from crm.interactions.channels.deliveries import ChannelAccount, Delivery
from crm.interactions.channels.events import Event

NOW = datetime(2026, 11, 25, 9, 30, tzinfo=UTC)
URL = "https://crm.example.com/v1/inbox/one"


def delivery(body: Any = b"", **fields: Any) -> Delivery:
    """A POST of now; what is not bytes is sent as JSON."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Delivery(**{
        "method": "POST", "url": URL, "headers": {}, "query": {}, "body": raw, "received_at": NOW, **fields,
    })  # fmt: skip


def form(fields: Mapping[str, str], **others: Any) -> Delivery:
    """A POST of a form."""
    return delivery(urlencode(fields, errors="surrogatepass").encode(), **others)


def account(secrets: Mapping[str, str] | None = None, **settings: str) -> ChannelAccount:
    return ChannelAccount(channel="any", ref="one", secrets=secrets or {}, settings=settings)


def said(provider: str, sent: Any) -> list[Event]:
    """What an adapter makes of a delivery, or of a body."""
    given = sent if isinstance(sent, Delivery) else delivery(sent)
    return list(ADAPTERS[provider].events(given, account()))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)
