"""Telegram bots. The token is a part of the address."""

from datetime import timedelta
from typing import Final

import msgspec

from crm.interactions.channels import outgoing
from crm.interactions.channels.deliveries import ChannelAccount
from crm.interactions.channels.outgoing import Answer, Later, Outcome, Outgoing, Request, Sent
from crm.interactions.channels.payloads import number, text

CHANNELS: tuple[str, ...] = ("telegram",)
SECRETS: tuple[str, ...] = ("bot_token",)
SETTINGS: tuple[str, ...] = ()
REPEATABLE = False

BASE_URL: Final = "https://api.telegram.org"


def request(message: Outgoing, account: ChannelAccount) -> Request:
    """To the chat with the person, which has their own id. Raises AccountIncomplete."""
    body = {"chat_id": message.to.value, "text": message.text, "link_preview_options": {"is_disabled": True}}
    return Request(
        url=outgoing.url(account, BASE_URL, f"bot{outgoing.secret(account, 'bot_token')}", "sendMessage"),
        headers={"content-type": "application/json"}, body=msgspec.json.encode(body),
    )  # fmt: skip


def outcome(answer: Answer) -> Outcome:
    """A message is known by its chat and its number there."""
    said = outgoing.said(answer)
    if answer.status // 100 == 2 and said.get("ok") is True:
        chat, message = text(said, "result", "chat", "id"), text(said, "result", "message_id")
        return Sent(f"{chat}:{message}" if chat and message else None)
    code, detail = text(said, "error_code"), text(said, "description")
    outcome = outgoing.not_taken(answer, code=code, detail=detail)
    wait = number(said, "parameters", "retry_after")
    if isinstance(outcome, Later) and wait is not None:
        return Later(outcome.code, outcome.detail, min(timedelta(seconds=min(wait, 10**6)), outgoing.RETRY_AFTER_MAX))
    return outcome
