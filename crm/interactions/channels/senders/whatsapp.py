"""WhatsApp Cloud API. Our reference comes back in `biz_opaque_callback_data` of what becomes of the message."""

from typing import Any

from crm.interactions.channels import outgoing
from crm.interactions.channels.deliveries import ChannelAccount
from crm.interactions.channels.outgoing import Answer, Outcome, Outgoing, ProviderTemplate, Request, Sent
from crm.interactions.channels.payloads import Json, objects, text
from crm.interactions.channels.senders import graph

CHANNELS: tuple[str, ...] = ("whatsapp",)
SECRETS: tuple[str, ...] = graph.SECRETS
SETTINGS: tuple[str, ...] = ()
REPEATABLE = False


def request(message: Outgoing, account: ChannelAccount) -> Request:
    """To the number of the account: its setting `phone_number_id`, by default its reference."""
    body: dict[str, Any] = {
        "messaging_product": "whatsapp", "recipient_type": "individual", "biz_opaque_callback_data": message.reference,
        **({"recipient": message.to.value} if message.to.kind == "whatsapp_bsuid" else {"to": message.to.value}),
    }  # fmt: skip
    if message.template is not None:
        body |= {"type": "template", "template": _template(message.template)}
    else:
        body |= {"type": "text", "text": {"body": message.text, "preview_url": False}}
    return graph.post(account, body, outgoing.setting(account, "phone_number_id", account.ref), "messages")


def outcome(answer: Answer) -> Outcome:
    """`messages[0].id` of one that was taken."""
    if answer.status // 100 != 2:
        return graph.not_taken(answer)
    found = objects(outgoing.said(answer), "messages")
    return Sent(text(found[0], "id") if found else None)


def _template(template: ProviderTemplate) -> Json:
    parameters = [{"type": "text", "text": one} for one in template.parameters]
    return {
        "name": template.name, "language": {"code": template.language},
        **({"components": [{"type": "body", "parameters": parameters}]} if parameters else {}),
    }  # fmt: skip
