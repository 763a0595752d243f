"""What Meta's APIs for sending have in common: who asks, and how it says no."""

import msgspec

from crm.interactions.channels import outgoing
from crm.interactions.channels.deliveries import ChannelAccount
from crm.interactions.channels.outgoing import Answer, Later, Outcome, Request
from crm.interactions.channels.payloads import Json, part, text

BASE_URL = "https://graph.facebook.com"
VERSION = "v24.0"
SECRETS: tuple[str, ...] = ("access_token",)

# Too many calls of the app, the page, the number, or to this person; and what Meta itself calls passing.
_PASSING = frozenset({"1", "2", "4", "17", "32", "341", "613", "80007", "130429", "131016", "131056", "133004"})


def post(account: ChannelAccount, body: Json, *path: str) -> Request:
    """A request in the account's name. Raises AccountIncomplete."""
    version = outgoing.setting(account, "api_version", VERSION)
    return Request(
        url=outgoing.url(account, BASE_URL, version, *path),
        headers={
            "authorization": f"Bearer {outgoing.secret(account, 'access_token')}", "content-type": "application/json"
        },
        body=msgspec.json.encode(body),
    )  # fmt: skip


def not_taken(answer: Answer) -> Outcome:
    """What an error says: `is_transient` and the codes of limits say that it may go later."""
    error = part(outgoing.said(answer), "error")
    code = text(error, "code")
    detail = text(error, "error_data", "details") or text(error, "message")
    outcome = outgoing.not_taken(answer, code=code, detail=detail)
    if code in _PASSING or error.get("is_transient") is True:
        wait = outgoing.retry_after(answer)
        return outcome if isinstance(outcome, Later) else Later(code or "transient", detail or "Try later.", wait)
    return outcome
