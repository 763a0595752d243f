"""Every adapter by the name of its provider: a new one has to be added here, and nowhere else."""

from typing import Final

from crm.interactions.channels import (
    custom,
    imap,
    instagram,
    line,
    mailgun,
    messenger,
    onetalk,
    postmark,
    segment,
    sendgrid,
    shopify,
    telegram,
    twilio,
    whatsapp,
    woocommerce,
)
from crm.interactions.channels.deliveries import Adapter

ADAPTERS: Final[dict[str, Adapter]] = {
    "custom": custom,
    "imap": imap,
    "instagram": instagram,
    "line": line,
    "mailgun": mailgun,
    "messenger": messenger,
    "onetalk": onetalk,
    "postmark": postmark,
    "segment": segment,
    "sendgrid": sendgrid,
    "shopify": shopify,
    "telegram": telegram,
    "twilio": twilio,
    "whatsapp": whatsapp,
    "woocommerce": woocommerce,
}
