"""Mailgun. Our reference comes back among the `user-variables` of what becomes of the mail."""

import base64
from typing import Final
from urllib.parse import urlencode

from crm.interactions.channels import outgoing
from crm.interactions.channels.deliveries import ChannelAccount
from crm.interactions.channels.outgoing import Answer, Outcome, Outgoing, Request, Sent
from crm.interactions.channels.payloads import text
from crm.interactions.channels.senders import letters

CHANNELS: tuple[str, ...] = letters.CHANNELS
SECRETS: tuple[str, ...] = ("api_key",)
SETTINGS: tuple[str, ...] = ("domain",)
REPEATABLE = False

BASE_URL: Final = "https://api.mailgun.net"


def request(message: Outgoing, account: ChannelAccount) -> Request:
    """In the account's `domain`. Raises AccountIncomplete."""
    form = {
        "from": letters.sender(account), "to": message.to.value, "subject": letters.subject(message),
        "text": message.text or "", "v:reference": message.reference,
        **{f"h:{name}": value for name, value in letters.headers(message, account).items()},
    }  # fmt: skip
    asked = base64.b64encode(f"api:{outgoing.secret(account, 'api_key')}".encode()).decode()
    return Request(
        url=outgoing.url(account, BASE_URL, "v3", outgoing.setting(account, "domain"), "messages"),
        headers={"authorization": f"Basic {asked}", "content-type": "application/x-www-form-urlencoded"},
        body=urlencode(form).encode(),
    )  # fmt: skip


def outcome(answer: Answer) -> Outcome:
    """Its message id, without the brackets."""
    said = outgoing.said(answer)
    if answer.status // 100 != 2:
        return outgoing.not_taken(answer, detail=text(said, "message"))
    return Sent((text(said, "id") or "").strip("<> ") or None)
