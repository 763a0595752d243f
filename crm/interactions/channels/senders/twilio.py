"""Twilio: SMS, and WhatsApp by Twilio."""

import base64
from typing import Final
from urllib.parse import urlencode

import msgspec

from crm.interactions.channels import outgoing
from crm.interactions.channels.deliveries import ChannelAccount
from crm.interactions.channels.outgoing import Answer, Outcome, Outgoing, Request, Sent
from crm.interactions.channels.payloads import kept, text

CHANNELS: tuple[str, ...] = ("sms", "whatsapp")
SECRETS: tuple[str, ...] = ("auth_token",)
SETTINGS: tuple[str, ...] = ("account_sid",)
REPEATABLE = False

BASE_URL: Final = "https://api.twilio.com"
VERSION: Final = "2010-04-01"


def request(message: Outgoing, account: ChannelAccount) -> Request:
    """From the account's number: its setting `from`, by default its reference; or by a `messaging_service_sid`.

    A template is a content of theirs by its sid. Raises AccountIncomplete.
    """
    sid = outgoing.setting(account, "account_sid")
    service = account.settings.get("messaging_service_sid")
    prefix = "whatsapp:" if message.channel == "whatsapp" else ""
    number = message.to.value if message.to.value.startswith("+") or not prefix else f"+{message.to.value}"
    form = kept(
        To=f"{prefix}{number}", MessagingServiceSid=service, StatusCallback=message.told_to,
        From=None if service else f"{prefix}{outgoing.setting(account, 'from', account.ref).removeprefix(prefix)}",
    )  # fmt: skip
    if message.template is not None:
        places = {str(place): value for place, value in enumerate(message.template.parameters, 1)}
        form |= {"ContentSid": message.template.name, "ContentVariables": msgspec.json.encode(places).decode()}
    else:
        form |= {"Body": message.text or ""}
    asked = base64.b64encode(f"{sid}:{outgoing.secret(account, 'auth_token')}".encode()).decode()
    return Request(
        url=outgoing.url(account, BASE_URL, VERSION, "Accounts", sid, "Messages.json"),
        headers={"authorization": f"Basic {asked}", "content-type": "application/x-www-form-urlencoded"},
        body=urlencode(form).encode(),
    )  # fmt: skip


def outcome(answer: Answer) -> Outcome:
    """The sid of the message."""
    said = outgoing.said(answer)
    if answer.status // 100 != 2:
        return outgoing.not_taken(answer, code=text(said, "code"), detail=text(said, "message"))
    return Sent(text(said, "sid"))
