"""Deliveries as providers make them, for the tests of their adapters."""

import base64
import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from crm.interactions.channels.deliveries import ChannelAccount, Delivery
from crm.interactions.channels.events import Event

NOW = datetime(2026, 11, 26, 9, 0, tzinfo=UTC)
SAMPLES = Path(__file__).parents[4] / "shared" / "payloads"


def account(ref: str = "shop.example", settings: Mapping[str, str] | None = None, **secrets: str) -> ChannelAccount:
    return ChannelAccount(channel="shop", ref=ref, settings=settings or {}, secrets=secrets)


def parcel(
    body: Any = b"", headers: Mapping[str, str] | None = None, *, method: str = "POST", received_at: datetime = NOW
) -> Delivery:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Delivery(
        method=method, url="https://crm.example/v1/inbox/x/1", headers=headers or {}, query={}, body=raw,
        received_at=received_at,
    )  # fmt: skip


def form(fields: Mapping[str, Any], files: Iterable[tuple[str, str, str, bytes]] = ()) -> Delivery:
    """A multipart form; files are (field, name, content type, content)."""
    parts = [
        f'Content-Disposition: form-data; name="{name}"\r\n\r\n'.encode() + _bytes(value)
        for name, value in fields.items()
    ]
    parts += [
        f'Content-Disposition: form-data; name="{name}"; filename="{file}"\r\nContent-Type: {kind}\r\n\r\n'.encode()
        + content
        for name, file, kind, content in files
    ]
    body = b"".join(b"--xYz\r\n" + part + b"\r\n" for part in parts) + b"--xYz--\r\n"
    return parcel(body, {"content-type": "multipart/form-data; boundary=xYz"})


def told(adapter: ModuleType, delivery: Delivery, of: ChannelAccount | None = None) -> list[Event]:
    return list(adapter.events(delivery, of or account()))


def one(adapter: ModuleType, delivery: Delivery, of: ChannelAccount | None = None) -> Any:
    [event] = told(adapter, delivery, of)
    return event


def basic(credentials: str) -> dict[str, str]:
    return {"authorization": f"Basic {base64.b64encode(credentials.encode()).decode()}"}


def sha256(secret: str, body: bytes) -> bytes:
    return hmac.digest(secret.encode(), body, hashlib.sha256)


def sample(name: str) -> Any:
    """A payload that a provider documents; the test is skipped where these are not at hand."""
    file = SAMPLES / f"{name}.json"
    if not file.is_file():
        pytest.skip("The providers' sample payloads are not at hand.")
    return json.loads(file.read_bytes())


def vector(provider: str) -> dict[str, Any]:
    """A signature that is known to be right."""
    return next(each for each in sample("signature_vectors") if each["provider"] == provider)


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()
