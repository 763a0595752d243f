"""Carrying a message to its provider, and saying what is known of it afterwards.

The one distinction that counts is whether the provider may have it: a connection that was never made leaves no doubt,
one that broke off afterwards does.
"""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Final

import aiosmtplib
import httpx

from crm.inbox import providers
from crm.interactions.channels.deliveries import ChannelAccount
from crm.interactions.channels.outgoing import (
    DETAIL_MAX,
    AccountIncomplete,
    Answer,
    Later,
    Mailing,
    Outcome,
    Outgoing,
    Refused,
    Request,
    Sent,
    Unclear,
)

CONNECT_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 15.0
TOTAL: Final = timedelta(seconds=60)
"""After how long a message is surely not on its way any more, whatever is waited for."""
CONNECTIONS_MAX: Final = 50
ANSWER_BYTES_MAX: Final = 256 * 1024
SECRET_MIN: Final = 6
"""From how many characters on a secret is looked for in what a provider says."""


class Couriers:
    """The connections to providers of one process. They follow no redirection, and keep no cookie."""

    def __init__(self, *, answer_seconds: float = ANSWER_SECONDS) -> None:
        self._http = httpx.AsyncClient(
            timeout=httpx.Timeout(answer_seconds, connect=CONNECT_SECONDS, pool=CONNECT_SECONDS),
            limits=httpx.Limits(max_connections=CONNECTIONS_MAX, max_keepalive_connections=20, keepalive_expiry=30),
            follow_redirects=False,
            headers={"user-agent": "setia"},
        )
        self._answer_seconds = answer_seconds

    async def close(self) -> None:
        """Let go of all connections."""
        await self._http.aclose()

    async def carry(self, provider: str, message: Outgoing, account: ChannelAccount) -> Outcome:
        """Hand a message over; whatever happens is an outcome, and none of them holds a secret."""
        outcome = await self._carry(provider, message, account)
        if isinstance(outcome, Sent):
            return outcome
        # What a provider says of a wrong key may repeat it.
        detail = outcome.detail
        for secret in account.secrets.values():
            detail = detail.replace(secret, "…") if len(secret) >= SECRET_MIN else detail
        return replace(outcome, detail=detail)

    async def _carry(self, provider: str, message: Outgoing, account: ChannelAccount) -> Outcome:
        sender = providers.SENDERS[provider]
        try:
            parcel = sender.request(message, account)
        except AccountIncomplete as error:
            return Refused(error.code, error.detail)
        if isinstance(parcel, Mailing):
            return await self._mail(parcel)
        try:
            async with asyncio.timeout(TOTAL.total_seconds()):
                answer = await self._ask(parcel)
        except TimeoutError:
            return Unclear("no_answer", "It was handed over, and no whole answer came in time.")
        return sender.outcome(answer) if isinstance(answer, Answer) else answer

    async def _mail(self, mailing: Mailing) -> Outcome:
        """A mail to its server: until it begins to take the content, it has nothing."""
        server = aiosmtplib.SMTP(
            hostname=mailing.host, port=mailing.port, use_tls=mailing.security == "tls",
            start_tls=mailing.security == "starttls", timeout=self._answer_seconds,
        )  # fmt: skip
        handing_over = False
        try:
            async with asyncio.timeout(TOTAL.total_seconds()):
                await server.connect()
                if mailing.user is not None:
                    await server.login(mailing.user, mailing.password or "")
                await server.mail(mailing.sender)
                await server.rcpt(mailing.recipient)
                handing_over = True
                await server.data(mailing.content)
        except aiosmtplib.SMTPResponseException as error:
            passing = error.code // 100 == 4
            return (Later if passing else Refused)(f"smtp_{error.code}", error.message[:DETAIL_MAX])
        except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
            if handing_over:
                return Unclear("no_answer", f"It was handed over, and no answer came: {type(error).__name__}.")
            return Later("not_reached", f"The mail server was not reached: {type(error).__name__}.")
        finally:
            server.close()
        return Sent(mailing.message_id)

    async def _ask(self, request: Request) -> Answer | Outcome:
        try:
            async with self._http.stream(
                request.method, request.url, headers=dict(request.headers), content=request.body
            ) as response:
                body = bytearray()
                async for part in response.aiter_bytes():
                    body += part
                    if len(body) > ANSWER_BYTES_MAX:
                        break
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            return Later("not_reached", f"The provider was not reached: {type(error).__name__}.")
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError, UnicodeError) as error:
            return Refused("bad_request", f"No request can be made of it: {type(error).__name__}.")
        except httpx.HTTPError as error:
            return Unclear("no_answer", f"It was handed over, and no answer came: {type(error).__name__}.")
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status_code, headers, bytes(body))
