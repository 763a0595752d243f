"""`/v1/inbox`: where providers deliver. They sign what they send, and hold no key."""

import asyncio
from datetime import datetime
from typing import Any, Final

import pydantic_core
from litestar import Response
from litestar.params import FromPath

from crm.api.auth import PUBLIC
from crm.api.errors import PROBLEM_JSON, RETRY_AFTER_SECONDS, BodyTooLarge, problem_of, request_id_of
from crm.api.routes import AnyRequest, get, post
from crm.inbox import providers
from crm.inbox.accounts import PUBLIC_URL, Opened
from crm.inbox.providers import MAIL_BODY_MAX
from crm.inbox.reception import Reception, Room
from crm.interactions.channels.deliveries import Delivery, SignatureInvalid

PATH: Final = "/inbox/{provider:str}/{account_id:str}"
READ_SECONDS_MAX: Final = 30
"""How long a delivery may take to come in; who is slower would keep others out."""

# What goes with these statuses, whoever is answered.
_HEADERS: Final = {401: {"WWW-Authenticate": "Basic"}, 503: {"Retry-After": str(RETRY_AFTER_SECONDS)}}


@get(PATH, scopes=PUBLIC, documented=False, any_parameters=True)
async def answer_handshake(
    request: AnyRequest, provider: FromPath[str], account_id: FromPath[str], now: datetime
) -> Response[bytes]:
    """Answer a provider that asks whether somebody is there."""
    return await _received(request, provider, account_id, now)


@post(PATH, scopes=PUBLIC, documented=False, any_parameters=True, body_max=MAIL_BODY_MAX, status_code=200)
async def receive_delivery(
    request: AnyRequest, provider: FromPath[str], account_id: FromPath[str], now: datetime
) -> Response[bytes]:
    """Take in what a provider delivers."""
    return await _received(request, provider, account_id, now)


async def _received(request: AnyRequest, provider: str, account_id: str, now: datetime) -> Response[bytes]:
    reception: Reception = request.app.state.reception
    with reception.room() as room:
        account = await reception.account(provider=provider, account_id=account_id)
        delivery = Delivery(
            method=request.method,
            url=_url(request, account),
            headers={name.lower(): value for name, value in request.headers.items()},
            query=dict(request.query_params.multi_items()),
            body=await _body(request, providers.body_max(provider), room),
            received_at=now,
        )
        try:
            reply = await reception.receive(account=account, delivery=delivery)
        except SignatureInvalid as refusal:
            return _refused(request, refusal, providers.refused_status(provider))
    return Response(reply.body, status_code=reply.status, media_type=reply.content_type)


def _refused(request: AnyRequest, refusal: SignatureInvalid, status: int) -> Response[bytes]:
    """The refusal under the status that its provider understands."""
    document = {**problem_of(refusal, request_id_of(request)), "status": status}
    return Response(
        pydantic_core.to_json(document), status_code=status, media_type=PROBLEM_JSON, headers=_HEADERS.get(status)
    )


async def _body(request: AnyRequest, size_max: int, room: Room) -> bytes:
    body = bytearray()
    async with asyncio.timeout(READ_SECONDS_MAX):
        async for chunk in request.stream():
            room.take(len(chunk))
            body += chunk
            if len(body) > size_max:
                raise BodyTooLarge(f"A delivery of this provider has at most {size_max:,} bytes.")
    return bytes(body)


def _url(request: AnyRequest, account: Opened) -> str:
    """The address that the provider called, as a proxy tells it, or the account's settings where none does.

    Signatures may cover it. It proves nothing by itself, so it may be believed.
    """
    scope: Any = request.scope
    query = scope["query_string"].decode("latin-1")
    path = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1").partition("?")[0]
    base = account.at_provider.settings.get(PUBLIC_URL)
    if base is None:
        scheme = request.headers.get("x-forwarded-proto", request.url.scheme).partition(",")[0].strip()
        host = request.headers.get("x-forwarded-host", request.headers.get("host", "")).partition(",")[0].strip()
        base = f"{scheme}://{host}"
    return f"{base.rstrip('/')}{path}{f'?{query}' if query else ''}"


handlers = [answer_handshake, receive_delivery]
