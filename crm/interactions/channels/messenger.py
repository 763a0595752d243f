"""Facebook Messenger, and comments on a page. People are known by an id that is another for each page."""

from collections.abc import Iterator
from datetime import datetime

from crm.interactions.channels import graph, messenger_platform, payloads
from crm.interactions.channels.deliveries import ChannelAccount, Delivery
from crm.interactions.channels.events import Attachment, Edited, Event, Happened, Message, Unsent
from crm.interactions.channels.messenger_platform import Place
from crm.interactions.channels.payloads import Json, identifier, instant, kept, needed, text

CHANNEL = "messenger"
SECRETS: tuple[str, ...] = graph.SECRETS
REQUIRED: tuple[str, ...] = graph.SECRETS

handshake = graph.handshake
verify = graph.verify
key = graph.key


def events(delivery: Delivery, account: ChannelAccount) -> Iterator[Event]:
    """What the delivery says, in its order."""
    return messenger_platform.events(delivery.body, channel=CHANNEL, changes={"feed": _feed})


def sample(account: ChannelAccount, *, url: str, now: datetime) -> Delivery:
    """A message to try the account with, signed with its own secret."""
    return messenger_platform.sample(account, "page", url=url, now=now)


def _feed(place: Place, entry: Json, value: Json) -> Iterator[Event]:
    if text(value, "item") != "comment":
        yield payloads.unknown(value, kind="feed")
        return
    external_id, verb = needed(value, "comment_id"), needed(value, "verb")
    at, author = instant(value, "created_time"), place.person(value, "from")
    data = kept(post_id=text(value, "post_id"), parent_id=text(value, "parent_id"))
    if author.addresses[0].value == place.account:
        # What the page itself wrote happened with nobody.
        yield Happened(
            external_id=identifier(f"{external_id}:{verb}"), person=None, occurred_at=at, kind="comment",
            text=text(value, "message"), data=data,
        )  # fmt: skip
    elif verb == "add":
        photo = text(value, "photo")
        yield Message(
            external_id=external_id, person=author, occurred_at=at, kind="comment", text=text(value, "message"),
            attachments=[Attachment(kind="image", reference=photo)] if photo else [],
            reply_to=text(value, "parent_id"), data=data,
        )  # fmt: skip
    elif verb == "edited":
        yield Edited(external_id=external_id, person=author, occurred_at=at, text=text(value, "message"))
    elif verb == "remove":
        yield Unsent(external_id=external_id, occurred_at=at, person=author)
    else:
        yield payloads.unknown(value, kind=f"comment.{verb}", occurred_at=at, person=author)
