"""Every adapter by the name of its provider."""

from collections.abc import Mapping
from typing import Final

from crm.interactions.channels import imap, mailgun, onetalk, postmark, segment, sendgrid, shopify, woocommerce
from crm.interactions.channels.deliveries import Adapter

ADAPTERS: Final[Mapping[str, Adapter]] = {
    "imap": imap,
    "mailgun": mailgun,
    "onetalk": onetalk,
    "postmark": postmark,
    "segment": segment,
    "sendgrid": sendgrid,
    "shopify": shopify,
    "woocommerce": woocommerce,
}
