"""The adapters by the names of their providers."""

from types import ModuleType
from typing import Final

from crm.interactions.channels import imap, mailgun, onetalk, postmark, segment, sendgrid, shopify, woocommerce

ADAPTERS: Final[dict[str, ModuleType]] = {
    "imap": imap,
    "mailgun": mailgun,
    "onetalk": onetalk,
    "postmark": postmark,
    "segment": segment,
    "sendgrid": sendgrid,
    "shopify": shopify,
    "woocommerce": woocommerce,
}
