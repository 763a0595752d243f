"""What the timeline contributes: histories, and what of an interaction `i` they can ask about."""

from typing import Final

from crm.contacts.fields import Field, Fields

INTERACTIONS: Final = Fields([
    Field("channel", "text", "i.channel"),
    Field("direction", "text", "i.direction"),
    Field("kind", "text", "i.kind"),
    Field("data.", "any", "i.data -> {key}"),
])  # fmt: skip
