"""Facebook Messenger. Our reference comes back in the `metadata` of the echo."""

from crm.interactions.channels.deliveries import ChannelAccount
from crm.interactions.channels.outgoing import Answer, Outcome, Outgoing, Request
from crm.interactions.channels.senders import conversations, graph

CHANNELS: tuple[str, ...] = ("messenger",)
SECRETS: tuple[str, ...] = graph.SECRETS
SETTINGS: tuple[str, ...] = ()
REPEATABLE = False


def request(message: Outgoing, account: ChannelAccount) -> Request:
    """In the name of the page. Raises AccountIncomplete."""
    return conversations.request(message, account, said={"text": message.text, "metadata": message.reference})


def outcome(answer: Answer) -> Outcome:
    """`message_id` of one that was taken."""
    return conversations.outcome(answer)
