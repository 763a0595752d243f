"""LINE. It knows a request again by its key: the same message twice goes once."""

from typing import Final

import msgspec

from crm.interactions.channels import outgoing
from crm.interactions.channels.deliveries import ChannelAccount
from crm.interactions.channels.outgoing import Answer, Outcome, Outgoing, Refused, Request, Sent
from crm.interactions.channels.payloads import objects, text

CHANNELS: tuple[str, ...] = ("line",)
SECRETS: tuple[str, ...] = ("channel_access_token",)
SETTINGS: tuple[str, ...] = ()
REPEATABLE = True

BASE_URL: Final = "https://api.line.me"
RETRY_KEY: Final = "x-line-retry-key"
ACCEPTED: Final = "x-line-accepted-request-id"
_CONFLICT: Final = 409
_USED_UP: Final = "monthly limit"


def request(message: Outgoing, account: ChannelAccount) -> Request:
    """A push message, which counts against the account's quota. Raises AccountIncomplete."""
    return Request(
        url=outgoing.url(account, BASE_URL, "v2", "bot", "message", "push"),
        headers={
            "authorization": f"Bearer {outgoing.secret(account, 'channel_access_token')}",
            "content-type": "application/json", RETRY_KEY: message.reference,
        },
        body=msgspec.json.encode({"to": message.to.value, "messages": [{"type": "text", "text": message.text}]}),
    )  # fmt: skip


def outcome(answer: Answer) -> Outcome:
    """The id of the message; also where it was taken before, under the same key."""
    said = outgoing.said(answer)
    if answer.status // 100 == 2 or (answer.status == _CONFLICT and ACCEPTED in answer.headers):
        sent = objects(said, "sentMessages")
        return Sent(text(sent[0], "id") if sent else None)
    detail = text(said, "message")
    if detail is not None and _USED_UP in detail:
        return Refused("quota_used_up", detail)
    return outgoing.not_taken(answer, detail=detail)
