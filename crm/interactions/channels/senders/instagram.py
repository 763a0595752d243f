"""Instagram direct messages. Nothing of ours comes back: the echo is known by the message's id, or its text."""

from crm.interactions.channels.deliveries import ChannelAccount
from crm.interactions.channels.outgoing import Answer, Outcome, Outgoing, Request
from crm.interactions.channels.senders import conversations, graph

CHANNELS: tuple[str, ...] = ("instagram",)
SECRETS: tuple[str, ...] = graph.SECRETS
SETTINGS: tuple[str, ...] = ()
REPEATABLE = False


def request(message: Outgoing, account: ChannelAccount) -> Request:
    """In the name of the Instagram account. Raises AccountIncomplete."""
    return conversations.request(message, account, said={"text": message.text})


def outcome(answer: Answer) -> Outcome:
    """`message_id` of one that was taken."""
    return conversations.outcome(answer)
