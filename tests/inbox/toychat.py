"""A provider for tests: its adapter, and what says things the way it does.

Its deliveries are a JSON list of events, each with the name of one of ours and its fields; signed with HMAC-SHA256.
"""

import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from crm.interactions.channels import events
from crm.interactions.channels.deliveries import ChannelAccount, Delivery, Reply, SignatureInvalid
from crm.interactions.channels.events import Address, Attachment, Event, Line, Person, Unknown

NAME = "toychat"
SIGNATURE = "x-toy-signature"
DELIVERY = "x-toy-delivery"


@dataclass
class ToyChat:
    """The adapter."""

    CHANNEL: str = "chat"
    SECRETS: tuple[str, ...] = ("app_secret", "verify_token")
    REQUIRED: tuple[str, ...] = ("app_secret",)

    def handshake(self, delivery: Delivery, account: ChannelAccount) -> Reply | None:
        if delivery.method != "GET":
            return None
        if delivery.query.get("hub.verify_token") != account.secrets.get("verify_token"):
            raise SignatureInvalid("The token is another.")
        return Reply(body=delivery.query["hub.challenge"].encode())

    def verify(self, delivery: Delivery, account: ChannelAccount) -> None:
        wanted = signature(delivery.body, account.secrets["app_secret"])
        if not hmac.compare_digest(wanted, delivery.headers.get(SIGNATURE, "")):
            raise SignatureInvalid("The signature does not match.")

    def key(self, delivery: Delivery) -> str | None:
        return delivery.headers.get(DELIVERY)

    def events(self, delivery: Delivery, account: ChannelAccount) -> Iterable[Event]:
        for item in json.loads(delivery.body):
            yield event(item)

    def sample(self, account: ChannelAccount, *, url: str, now: datetime) -> Delivery:
        body = said(message("sample", "Hello?", at=now, who=phone("+628120000001", verified=True)))
        headers = {SIGNATURE: signature(body, account.secrets.get("app_secret", ""))}
        return Delivery(method="POST", url=url, headers=headers, query={}, body=body, received_at=now)


def signature(body: bytes, secret: str) -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def event(item: dict[str, Any]) -> Event:
    """The event in an item; what nobody knows is an Unknown."""
    if item["event"] == "Crash":
        raise RuntimeError("the adapter stumbles")
    kind = getattr(events, item["event"], None)
    if kind is None:
        return Unknown(
            external_id=item["external_id"], kind=item["event"], occurred_at=None, raw=item,
            person=_person(item.get("person")),
        )  # fmt: skip
    values = {name: value for name, value in item.items() if name != "event"}
    return kind(**{each.name: _value(each.name, values[each.name]) for each in fields(kind) if each.name in values})


def _value(name: str, value: Any) -> Any:
    match name:
        case "occurred_at" | "until":
            return None if value is None else datetime.fromisoformat(value)
        case "person":
            return _person(value)
        case "replaces":
            return [Address(**each) for each in value]
        case "attachments":
            return [Attachment(**each) for each in value]
        case "amount" | "total" | "shipping" | "shipping_tax":
            return None if value is None else Decimal(value)
        case "lines" if value and isinstance(value[0], Mapping):
            return [Line(**{**each, "quantity": Decimal(each["quantity"]), "unit_price": Decimal(each["unit_price"])})
                    for each in value]  # fmt: skip
        case "lines" | "items":
            return [(line, Decimal(quantity)) for line, quantity in value]
    return value


def _person(value: Any) -> Person | None:
    if value is None:
        return None
    return Person(
        addresses=[Address(**each) for each in value["addresses"]], name=value.get("name"), locale=value.get("locale")
    )


def said(*items: dict[str, Any]) -> bytes:
    """The body of a delivery."""
    return json.dumps(items).encode()


def toy(user: str) -> dict[str, Any]:
    """An address that the provider vouches for."""
    return {"kind": "toychat", "value": user, "account": "T1", "verified": True}


def phone(number: str, *, verified: bool = False) -> dict[str, Any]:
    return {"kind": "phone", "value": number, "verified": verified}


def email(value: str, *, verified: bool = False) -> dict[str, Any]:
    return {"kind": "email", "value": value, "verified": verified}


def person(*addresses: dict[str, Any], name: str | None = "Sari", **more: Any) -> dict[str, Any]:
    return {"addresses": list(addresses), "name": name, **more}


def at(seconds: float = 0) -> str:
    """An instant, counted from a morning in November."""
    return datetime.fromtimestamp(datetime(2026, 11, 1, 9, 30, tzinfo=UTC).timestamp() + seconds, UTC).isoformat()


def message(
    external_id: str, text: str | None, *, at: datetime | str | None = None, who: Any = None, **more: Any
) -> dict[str, Any]:
    when = at if at is not None else datetime(2026, 11, 1, 9, 30, tzinfo=UTC)
    return {
        "event": "Message", "external_id": external_id, "text": text, "person": person(who or toy("sari")),
        "occurred_at": when if isinstance(when, str) else when.isoformat(), **more,
    }  # fmt: skip


def state(external_id: str, name: str, *, at: str, **more: Any) -> dict[str, Any]:
    return {"event": "StateChanged", "external_id": external_id, "state": name, "occurred_at": at, **more}
