"""Every adapter by the name of its provider."""

from collections.abc import Mapping
from typing import Final

from crm.interactions.channels import custom, instagram, line, messenger, telegram, twilio, whatsapp
from crm.interactions.channels.deliveries import Adapter

ADAPTERS: Final[Mapping[str, Adapter]] = {
    "custom": custom,
    "instagram": instagram,
    "line": line,
    "messenger": messenger,
    "telegram": telegram,
    "twilio": twilio,
    "whatsapp": whatsapp,
}
