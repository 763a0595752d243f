"""Who is believed: each provider's signature, right and wrong in every way."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from crm.interactions.channels.adapters import ADAPTERS
from crm.interactions.channels.deliveries import Delivery, SignatureInvalid
from crm.interactions.channels.events import Message
from tests.interactions.channels.sent import NOW, URL, account, delivery, form

VECTORS = Path(__file__).parents[4] / "shared/payloads/signature_vectors.json"
BODY = b'{"name": "Sari \xe2\x98\x95", "id": 820982911946154508}'

SECRETS = {
    "custom": {"secret": "whsec_c2VjcmV0"},
    "instagram": {"app_secret": "app", "verify_token": "token"},
    "line": {"channel_secret": "channel"},
    "messenger": {"app_secret": "app", "verify_token": "token"},
    "telegram": {"secret_token": "A-Za-z0-9_"},
    "twilio": {"auth_token": "12345"},
    "whatsapp": {"app_secret": "app", "verify_token": "token"},
}


def meta(secrets: Mapping[str, str], sent: Delivery) -> dict[str, str]:
    summed = hmac.new(secrets["app_secret"].encode(), sent.body, hashlib.sha256).hexdigest()
    return {"x-hub-signature-256": f"sha256={summed}"}


def line(secrets: Mapping[str, str], sent: Delivery) -> dict[str, str]:
    summed = hmac.new(secrets["channel_secret"].encode(), sent.body, hashlib.sha256).digest()
    return {"x-line-signature": base64.b64encode(summed).decode()}


def telegram(secrets: Mapping[str, str], sent: Delivery) -> dict[str, str]:
    return {"x-telegram-bot-api-secret-token": secrets["secret_token"]}


def twilio(secrets: Mapping[str, str], sent: Delivery) -> dict[str, str]:
    summed = hmac.new(secrets["auth_token"].encode(), sent.url.encode(), hashlib.sha1).digest()
    return {"x-twilio-signature": base64.b64encode(summed).decode()}


def custom(secrets: Mapping[str, str], sent: Delivery) -> dict[str, str]:
    stamp = str(int(sent.received_at.timestamp()))
    secret = base64.b64decode(secrets["secret"].removeprefix("whsec_"))
    summed = hmac.new(secret, f"d1.{stamp}.".encode() + sent.body, hashlib.sha256).digest()
    return {
        "webhook-id": "d1", "webhook-timestamp": stamp, "webhook-signature": f"v1,{base64.b64encode(summed).decode()}",
    }  # fmt: skip


SIGNERS: Mapping[str, Callable[[Mapping[str, str], Delivery], dict[str, str]]] = {
    "custom": custom, "instagram": meta, "line": line, "messenger": meta, "telegram": telegram, "twilio": twilio,
    "whatsapp": meta,
}  # fmt: skip
PROVIDERS = sorted(SIGNERS)


def unsigned(provider: str) -> Delivery:
    url = f"{URL}?bodySHA256={hashlib.sha256(BODY).hexdigest()}" if provider == "twilio" else URL
    return delivery(BODY, url=url)


def signed(provider: str, secrets: Mapping[str, str] | None = None) -> Delivery:
    sent = unsigned(provider)
    return replace(sent, headers=SIGNERS[provider](secrets or SECRETS[provider], sent))


def refused(provider: str, sent: Delivery, secrets: Mapping[str, str]) -> str:
    with pytest.raises(SignatureInvalid) as caught:
        ADAPTERS[provider].verify(sent, account(secrets))
    return caught.value.detail


def test_every_adapter_keeps_the_contract() -> None:
    for name, adapter in ((name, ADAPTERS[name]) for name in SECRETS):
        assert adapter.CHANNEL
        assert set(adapter.REQUIRED) <= set(adapter.SECRETS), name
        assert adapter.REQUIRED, f"{name} would accept anything"


@pytest.mark.parametrize("provider", PROVIDERS)
def test_what_is_signed_with_the_accounts_secret_is_accepted(provider: str) -> None:
    ADAPTERS[provider].verify(signed(provider), account(SECRETS[provider]))


@pytest.mark.parametrize("provider", PROVIDERS)
def test_an_accounts_own_sample_is_accepted_and_is_one_message(provider: str) -> None:
    adapter: Any = ADAPTERS[provider]
    own = account(SECRETS[provider])
    sample = adapter.sample(own, url=URL, now=NOW)
    adapter.verify(sample, own)
    (event,) = adapter.events(sample, own)
    assert isinstance(event, Message)
    assert (event.text, event.occurred_at) == ("This is a test.", NOW)
    with pytest.raises(SignatureInvalid):
        adapter.sample(account(), url=URL, now=NOW)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_what_is_not_signed_is_refused(provider: str) -> None:
    refused(provider, unsigned(provider), SECRETS[provider])


@pytest.mark.parametrize("provider", PROVIDERS)
def test_what_is_signed_with_another_secret_is_refused(provider: str) -> None:
    others = {name: f"{value}YWJj" for name, value in SECRETS[provider].items()}
    refused(provider, signed(provider, others), SECRETS[provider])


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("value", [None, ""])
def test_without_a_secret_nothing_is_accepted(provider: str, value: str | None) -> None:
    # Also what is signed with an empty one.
    empty = dict.fromkeys(SECRETS[provider], "")
    secrets = {} if value is None else empty
    assert "secret" in refused(provider, signed(provider, empty), secrets)


@pytest.mark.parametrize("provider", [name for name in PROVIDERS if name != "telegram"])
def test_a_body_that_was_changed_on_the_way_is_refused(provider: str) -> None:
    sent = signed(provider)
    for body in (BODY + b" ", BODY.replace(b"Sari", b"Budi"), b""):
        refused(provider, replace(sent, body=body), SECRETS[provider])


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("given", ["", "sha256=", "\u00e9\u2615", "v1,", "=" * 100, "0" * 64])
def test_a_signature_that_is_none_is_refused(provider: str, given: str) -> None:
    sent = signed(provider)
    name = next(name for name in sent.headers if "signature" in name or "token" in name)
    refused(provider, replace(sent, headers={**sent.headers, name: given}), SECRETS[provider])


@pytest.mark.parametrize("provider", PROVIDERS)
def test_only_meta_asks_whether_somebody_is_there(provider: str) -> None:
    assert ADAPTERS[provider].handshake(signed(provider), account(SECRETS[provider])) is None


@pytest.mark.parametrize("provider", ["whatsapp", "messenger", "instagram"])
def test_meta_gets_its_challenge_back(provider: str) -> None:
    query = {"hub.mode": "subscribe", "hub.verify_token": "token", "hub.challenge": "1158201444"}
    reply = ADAPTERS[provider].handshake(delivery(method="GET", query=query), account(SECRETS[provider]))
    assert reply is not None
    assert (reply.status, reply.body, reply.content_type) == (200, b"1158201444", "text/plain")


@pytest.mark.parametrize(
    "changed",
    [{"hub.verify_token": "other"}, {"hub.verify_token": ""}, {"hub.mode": "unsubscribe"}, {"hub.mode": ""}],
)
@pytest.mark.parametrize("provider", ["whatsapp", "messenger", "instagram"])
def test_others_do_not_get_their_challenge_back(provider: str, changed: dict[str, str]) -> None:
    query = {"hub.mode": "subscribe", "hub.verify_token": "token", "hub.challenge": "1158201444", **changed}
    with pytest.raises(SignatureInvalid):
        ADAPTERS[provider].handshake(delivery(method="GET", query=query), account(SECRETS[provider]))


def test_without_a_verify_token_nobody_gets_a_challenge_back() -> None:
    query = {"hub.mode": "subscribe", "hub.verify_token": "", "hub.challenge": "1158201444"}
    with pytest.raises(SignatureInvalid):
        ADAPTERS["whatsapp"].handshake(delivery(method="GET", query=query), account({"app_secret": "app"}))


def test_lines_published_signature_is_accepted() -> None:
    headers = {"x-line-signature": "/gg9a+LvFevTH1sd7XCQycD7tsWclCsInj7MhBHxN7k="}
    secrets = {"channel_secret": "channel_secret"}
    ADAPTERS["line"].verify(delivery(b"bodybodybodybody", headers=headers), account(secrets))
    refused("line", delivery(b"bodybodybodybod", headers=headers), secrets)


STANDARD = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek", "webhook-timestamp": "1614265330",
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}  # fmt: skip
STANDARD_SECRET = {"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}


def standard(headers: Mapping[str, str], *, later: timedelta = timedelta(0)) -> Delivery:
    at = NOW.fromtimestamp(1614265330, NOW.tzinfo)
    return delivery(b'{"test": 2432232314}', headers={**STANDARD, **headers}, received_at=at + later)


@pytest.mark.parametrize("headers", [{}, {"webhook-signature": f"v1a,abc v1,xyz {STANDARD['webhook-signature']}"}])
@pytest.mark.parametrize("minutes", [-5, 0, 5])
def test_the_published_signature_of_standard_webhooks_is_accepted(headers: dict[str, str], minutes: int) -> None:
    ADAPTERS["custom"].verify(standard(headers, later=timedelta(minutes=minutes)), account(STANDARD_SECRET))


@pytest.mark.parametrize("seconds", [-301, 301, 86_400])
def test_what_is_not_of_these_minutes_is_refused(seconds: int) -> None:
    assert "older" in refused("custom", standard({}, later=timedelta(seconds=seconds)), STANDARD_SECRET)


@pytest.mark.parametrize(
    "headers",
    [
        {"webhook-id": ""}, {"webhook-id": "msg_other"}, {"webhook-timestamp": ""}, {"webhook-timestamp": "now"},
        {"webhook-timestamp": "-1"}, {"webhook-timestamp": "1614265331"}, {"webhook-timestamp": "1e9"},
        {"webhook-timestamp": "\u0661\u0666"}, {"webhook-timestamp": "9" * 400},
        {"webhook-signature": STANDARD["webhook-signature"].replace("v1", "v2")},
    ],
)  # fmt: skip
def test_a_custom_delivery_is_signed_with_its_id_and_time(headers: dict[str, str]) -> None:
    refused("custom", standard(headers), STANDARD_SECRET)


@pytest.mark.parametrize("secret", ["whsec_", "whsec_!!", "whsec_abc"])
def test_a_custom_secret_that_is_no_base64_opens_nothing(secret: str) -> None:
    assert "secret" in refused("custom", standard({}), {"secret": secret})


def test_a_custom_secret_may_be_any_text() -> None:
    sent = delivery(BODY)
    stamp = str(int(NOW.timestamp()))
    summed = hmac.new(b"any text", f"7.{stamp}.".encode() + BODY, hashlib.sha256).digest()
    headers = {
        "webhook-id": "7",
        "webhook-timestamp": stamp,
        "webhook-signature": f"v1,{base64.b64encode(summed).decode()}",
    }
    ADAPTERS["custom"].verify(replace(sent, headers=headers), account({"secret": "any text"}))


CALL = {
    "CallSid": "CA1234567890ABCDE", "Digits": "1234", "From": "+14158675309", "To": "+18005551212",
    "Caller": "+14158675309",
}  # fmt: skip
CALLED = "https://mycompany.com/myapp.php?foo=1&bar=2"
CALL_SIGNATURE = "RSOYDt4T1cUTdK1PDd93/VVr8B8="


@pytest.mark.parametrize(
    ("called", "public_url"),
    [
        (CALLED, ""),
        (CALLED.replace("com/", "com:443/"), ""),
        (CALLED.replace("com/", "com:8443/"), ""),
        ("http://127.0.0.1:8000/myapp.php?foo=1&bar=2", "https://mycompany.com"),
        ("http://127.0.0.1:8000/myapp.php?foo=1&bar=2", "https://mycompany.com/"),
        ("http://127.0.0.1:8000/myapp.php?foo=1&bar=2", "https://mycompany.com:8443/myapp.php"),
    ],
)
def test_twilios_published_signature_is_accepted_wherever_the_call_arrives(called: str, public_url: str) -> None:
    sent = form(CALL, url=called, headers={"x-twilio-signature": CALL_SIGNATURE})
    ADAPTERS["twilio"].verify(sent, account({"auth_token": "12345"}, public_url=public_url))


@pytest.mark.parametrize("port", [":443", ":8443"])
def test_twilio_may_sign_with_the_port(port: str) -> None:
    with_port = CALLED.replace("com/", f"com{port}/")
    signed_text = with_port + "".join(name + CALL[name] for name in sorted(CALL))
    summed = base64.b64encode(hmac.new(b"12345", signed_text.encode(), hashlib.sha1).digest()).decode()
    arrived = with_port if port == ":8443" else CALLED
    ADAPTERS["twilio"].verify(
        form(CALL, url=arrived, headers={"x-twilio-signature": summed}), account({"auth_token": "12345"})
    )


@pytest.mark.parametrize(
    ("url", "fields"),
    [
        (CALLED, {**CALL, "Digits": "1235"}),
        (CALLED, {**CALL, "More": ""}),
        (CALLED, {}),
        (CALLED.replace("bar=2", "bar=3"), CALL),
        (CALLED.replace("mycompany", "other"), CALL),
        (f"{CALLED}&bodySHA256=0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620", CALL),
        ("", CALL),
        ("http://[", CALL),
    ],
)
def test_twilios_signature_is_over_address_and_fields(url: str, fields: dict[str, str]) -> None:
    refused("twilio", form(fields, url=url, headers={"x-twilio-signature": CALL_SIGNATURE}), {"auth_token": "12345"})


def test_twilios_signature_holds_for_fields_of_any_text() -> None:
    fields = [("Body", "Kopi \u2615 & teh=1"), ("Empty", ""), ("Media", "b"), ("Media", "a"), ("Media", "b")]
    signed_text = f"{URL}BodyKopi \u2615 & teh=1EmptyMediaaMediab"
    summed = base64.b64encode(hmac.new(b"12345", signed_text.encode(), hashlib.sha1).digest()).decode()
    sent = form(dict(fields), headers={"x-twilio-signature": summed})
    body = b"Body=Kopi+%E2%98%95+%26+teh%3D1&Empty=&Media=b&Media=a&Media=b"
    ADAPTERS["twilio"].verify(replace(sent, body=body), account({"auth_token": "12345"}))


def test_a_form_of_too_many_fields_is_refused() -> None:
    sent = delivery(b"a=1&" * 2_000, headers={"x-twilio-signature": CALL_SIGNATURE})
    assert "form" in refused("twilio", sent, {"auth_token": "12345"})


@pytest.mark.parametrize(
    ("provider", "headers", "key"),
    [
        ("custom", {"webhook-id": "msg_1"}, "msg_1"),
        ("twilio", {"i-twilio-idempotency-token": "t-1"}, "t-1"),
        ("twilio", {}, None),
        ("telegram", {}, None),
        ("line", {}, None),
        ("whatsapp", {}, None),
    ],
)
def test_a_repeated_delivery_is_known_where_its_headers_say_so(
    provider: str, headers: dict[str, str], key: str | None
) -> None:
    assert ADAPTERS[provider].key(delivery(headers=headers)) == key


@pytest.mark.skipif(not VECTORS.exists(), reason="the vectors are not there")
def test_the_vectors_are_accepted() -> None:
    vectors: dict[str, Any] = {
        vector["provider"].partition(" ")[0]: vector for vector in json.loads(VECTORS.read_text())
    }
    meta_vector, line_vector = vectors["meta"], vectors["line"]
    headers = {meta_vector["header"].lower(): meta_vector["value"]}
    ADAPTERS["whatsapp"].verify(
        delivery(meta_vector["body"].encode(), headers=headers), account({"app_secret": meta_vector["secret"]})
    )
    ADAPTERS["line"].verify(
        delivery(line_vector["body"].encode(), headers={line_vector["header"]: line_vector["value"]}),
        account({"channel_secret": line_vector["secret"]}),
    )
    token = vectors["telegram"]
    ADAPTERS["telegram"].verify(
        delivery(headers={token["header"].lower(): token["value"]}), account({"secret_token": token["secret"]})
    )
