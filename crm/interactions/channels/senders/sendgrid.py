"""SendGrid. Our reference comes back as a member of its events."""

from email.utils import parseaddr
from typing import Final

import msgspec

from crm.interactions.channels import outgoing
from crm.interactions.channels.deliveries import ChannelAccount
from crm.interactions.channels.outgoing import Answer, Outcome, Outgoing, Request, Sent
from crm.interactions.channels.payloads import kept, objects, text
from crm.interactions.channels.senders import letters

CHANNELS: tuple[str, ...] = letters.CHANNELS
SECRETS: tuple[str, ...] = ("api_key",)
SETTINGS: tuple[str, ...] = ()
REPEATABLE = False

BASE_URL: Final = "https://api.sendgrid.com"
_ID: Final = "x-message-id"


def request(message: Outgoing, account: ChannelAccount) -> Request:
    """Raises AccountIncomplete."""
    name, address = parseaddr(letters.sender(account))
    named = letters.headers(message, account)
    reply_to = parseaddr(named.pop("Reply-To", ""))[1]
    body = kept(
        personalizations=[{"to": [{"email": message.to.value}], "custom_args": {"reference": message.reference}}],
        subject=letters.subject(message), content=[{"type": "text/plain", "value": message.text}], headers=named,
        reply_to=kept(email=reply_to), **{"from": kept(email=address, name=name)},
    )  # fmt: skip
    return Request(
        url=outgoing.url(account, BASE_URL, "v3", "mail", "send"),
        headers={
            "authorization": f"Bearer {outgoing.secret(account, 'api_key')}", "content-type": "application/json"
        },
        body=msgspec.json.encode(body),
    )  # fmt: skip


def outcome(answer: Answer) -> Outcome:
    """Its id is in a header."""
    if answer.status // 100 != 2:
        found = objects(outgoing.said(answer), "errors")
        return outgoing.not_taken(answer, detail=text(found[0], "message") if found else None)
    return Sent(answer.headers.get(_ID) or None)
