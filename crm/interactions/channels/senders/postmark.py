"""Postmark. Our reference comes back in the `Metadata` of what becomes of the mail."""

from typing import Final

import msgspec

from crm.interactions.channels import outgoing
from crm.interactions.channels.deliveries import ChannelAccount
from crm.interactions.channels.outgoing import Answer, Outcome, Outgoing, Request, Sent
from crm.interactions.channels.payloads import kept, number, text
from crm.interactions.channels.senders import letters

CHANNELS: tuple[str, ...] = letters.CHANNELS
SECRETS: tuple[str, ...] = ("server_token",)
SETTINGS: tuple[str, ...] = ()
REPEATABLE = False

BASE_URL: Final = "https://api.postmarkapp.com"
KEEP_ID: Final = {"Name": "X-PM-KeepID", "Value": "true"}


def request(message: Outgoing, account: ChannelAccount) -> Request:
    """By the setting `message_stream`, else the server's own. Raises AccountIncomplete."""
    named = letters.headers(message, account)
    body = kept(
        From=letters.sender(account), To=message.to.value, Subject=letters.subject(message), TextBody=message.text,
        MessageStream=account.settings.get("message_stream"), ReplyTo=named.pop("Reply-To", None),
        Metadata={"reference": message.reference},
        Headers=[KEEP_ID, *({"Name": name, "Value": value} for name, value in named.items())],
    )  # fmt: skip
    return Request(
        url=outgoing.url(account, BASE_URL, "email"),
        headers={
            "x-postmark-server-token": outgoing.secret(account, "server_token"), "accept": "application/json",
            "content-type": "application/json",
        },
        body=msgspec.json.encode(body),
    )  # fmt: skip


def outcome(answer: Answer) -> Outcome:
    """Its id; an `ErrorCode` other than 0 says no."""
    said = outgoing.said(answer)
    if answer.status // 100 != 2 or number(said, "ErrorCode"):
        return outgoing.not_taken(answer, code=text(said, "ErrorCode"), detail=text(said, "Message"))
    return Sent(text(said, "MessageID"))
