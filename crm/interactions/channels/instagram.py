"""Instagram direct messages and comments. The addresses of media end, so they have to be fetched soon."""

from collections.abc import Iterator
from datetime import datetime

from crm.interactions.channels import graph, messenger_platform
from crm.interactions.channels.deliveries import ChannelAccount, Delivery
from crm.interactions.channels.events import Event, Happened, Message
from crm.interactions.channels.messenger_platform import Place
from crm.interactions.channels.payloads import Json, instant, kept, needed, part, text

CHANNEL = "instagram"
SECRETS: tuple[str, ...] = graph.SECRETS
REQUIRED: tuple[str, ...] = graph.SECRETS

handshake = graph.handshake
verify = graph.verify
key = graph.key


def events(delivery: Delivery, account: ChannelAccount) -> Iterator[Event]:
    """What the delivery says, in its order."""
    return messenger_platform.events(
        delivery.body, channel=CHANNEL, changes={"comments": _comment, "live_comments": _comment}
    )


def sample(account: ChannelAccount, *, url: str, now: datetime) -> Delivery:
    """A message to try the account with, signed with its own secret."""
    return messenger_platform.sample(account, "instagram", url=url, now=now)


def _comment(place: Place, entry: Json, value: Json) -> Iterator[Event]:
    external_id, at, author = needed(value, "id"), instant(entry, "time"), place.person(value, "from")
    data = kept(media_id=text(value, "media", "id"), media=text(value, "media", "media_product_type"))
    if author.addresses[0].value == place.account or text(value, "from", "self_ig_scoped_id"):
        # What the business itself wrote happened with nobody.
        yield Happened(
            external_id=external_id, person=None, occurred_at=at, kind="comment", text=text(value, "text"), data=data
        )
        return
    yield Message(
        external_id=external_id, person=author, occurred_at=at, kind="comment", text=text(value, "text"),
        reply_to=text(value, "parent_id"), data=data | kept(ad_id=text(part(value, "media"), "ad_id")),
    )  # fmt: skip
