"""Sending by Meta's Messenger Platform: what pages and Instagram accounts have in common."""

from crm.interactions.channels import outgoing
from crm.interactions.channels.deliveries import ChannelAccount
from crm.interactions.channels.outgoing import Answer, Outcome, Outgoing, Request, Sent
from crm.interactions.channels.payloads import Json, text
from crm.interactions.channels.senders import graph


def request(message: Outgoing, account: ChannelAccount, *, said: Json) -> Request:
    """An answer; after a day, what a person writes goes under a tag of its own. Raises AccountIncomplete."""
    how = {"messaging_type": "MESSAGE_TAG", "tag": "HUMAN_AGENT"} if message.late else {"messaging_type": "RESPONSE"}
    body = {"recipient": {"id": message.to.value}, **how, "message": said}
    return graph.post(account, body, outgoing.setting(account, "page_id", account.ref), "messages")


def outcome(answer: Answer) -> Outcome:
    """`message_id` of one that was taken."""
    if answer.status // 100 != 2:
        return graph.not_taken(answer)
    return Sent(text(outgoing.said(answer), "message_id"))
