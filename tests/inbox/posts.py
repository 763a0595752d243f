"""Providers by which messages go out: each a local server that speaks its protocol, refuses what it would refuse, and
remembers what it took.
"""

import asyncio
import base64
import json
from collections.abc import Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

TOKEN = "a token of ours"


@dataclass
class Asked:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode(), keep_blank_values=True))


Answer = tuple[int, dict[str, str], Any]
HANG = "hang"
"""In place of an answer: it takes the request, and says nothing."""
BREAK_OFF = "break off"
"""In place of an answer: it takes the request, and closes the connection."""


@dataclass
class Post:
    """A provider. `speak` answers like it; what is in `next_answers` is said before that, in turn."""

    speak: Callable[["Post", Asked], Answer]
    taken: list[Asked] = field(default_factory=list)
    next_answers: list[Answer | str] = field(default_factory=list)
    meanwhile: Callable[[Asked], Any] | None = None
    """Awaited between taking a request and answering it."""
    url: str = ""

    @asynccontextmanager
    async def open(self) -> Any:
        self._hung: list[asyncio.Future[None]] = []
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            for one in self._hung:
                one.cancel()
            server.close()
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                asked = await _read(reader)
                self.taken.append(asked)
                if self.meanwhile is not None:
                    await self.meanwhile(asked)
                answer = self.next_answers.pop(0) if self.next_answers else self.speak(self, asked)
                if answer == HANG:
                    hung: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                    self._hung.append(hung)
                    await hung
                if answer == BREAK_OFF:
                    break
                assert isinstance(answer, tuple)
                writer.write(_written(*answer))
                await writer.drain()
        writer.close()


async def _read(reader: asyncio.StreamReader) -> Asked:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = head[0].split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Asked(method, path, headers, body)


def _written(status: int, headers: dict[str, str], body: Any) -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", f"content-length: {len(content)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + content


def graph_error(status: int, code: int, message: str = "It says no", **more: Any) -> Answer:
    """As Meta says no."""
    return status, {}, {"error": {"message": message, "type": "OAuthException", "code": code, **more}}


def whatsapp(post: Post, asked: Asked) -> Answer:
    """`POST /v24.0/{phone number id}/messages` of the Cloud API."""
    if asked.headers.get("authorization") != f"Bearer {TOKEN}":
        return graph_error(401, 190, "Invalid OAuth access token.")
    if asked.path != "/v24.0/PN1/messages":
        return graph_error(400, 100, f"Unsupported post request to {asked.path}.")
    body = asked.json
    if body["messaging_product"] != "whatsapp" or not (body.get("to") or body.get("recipient")):
        return graph_error(400, 131009, "Parameter value is not valid")
    if body["type"] == "text" and not body["text"]["body"]:
        return graph_error(400, 131009, "Parameter value is not valid")
    number = body.get("to") or body["recipient"]
    return 200, {}, {
        "messaging_product": "whatsapp", "contacts": [{"input": number, "wa_id": number}],
        "messages": [{"id": f"wamid.{len(post.taken)}"}],
    }  # fmt: skip


def basic(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def messenger_platform(path: str) -> Callable[[Post, Asked], Answer]:
    """`POST /v24.0/{page or Instagram account}/messages`."""

    def speak(post: Post, asked: Asked) -> Answer:
        if asked.headers.get("authorization") != f"Bearer {TOKEN}":
            return graph_error(401, 190, "Invalid OAuth access token.")
        if asked.path != path:
            return graph_error(400, 100, f"Unsupported post request to {asked.path}.")
        body = asked.json
        if body["messaging_type"] == "MESSAGE_TAG" and body.get("tag") != "HUMAN_AGENT":
            return graph_error(400, 100, "Invalid tag", error_subcode=2018278)
        return 200, {}, {"recipient_id": body["recipient"]["id"], "message_id": f"m_{len(post.taken)}"}

    return speak


def telegram(post: Post, asked: Asked) -> Answer:
    """`POST /bot{token}/sendMessage`; with a wrong token there is nobody."""
    if asked.path != "/bot123:abc/sendMessage":
        return 404, {}, {"ok": False, "error_code": 404, "description": "Not Found"}
    body = asked.json
    if body["chat_id"] == "666":
        description = "Forbidden: bot was blocked by the user"
        return 403, {}, {"ok": False, "error_code": 403, "description": description}
    if not body["text"]:
        return 400, {}, {"ok": False, "error_code": 400, "description": "Bad Request: message text is empty"}
    message = {"message_id": len(post.taken), "chat": {"id": int(body["chat_id"]), "type": "private"}, "date": 1}
    return 200, {}, {"ok": True, "result": {**message, "text": body["text"]}}


def line(post: Post, asked: Asked) -> Answer:
    """`POST /v2/bot/message/push`, which takes the same retry key once."""
    if asked.headers.get("authorization") != f"Bearer {TOKEN}":
        return 401, {}, {"message": "Authentication failed. Confirm that the access token is valid."}
    if asked.path != "/v2/bot/message/push":
        return 404, {}, {"message": "Not found"}
    key = asked.headers["x-line-retry-key"]
    before = [number for number, one in enumerate(post.taken, 1) if one.headers["x-line-retry-key"] == key]
    sent = {"sentMessages": [{"id": f"{before[0]}00", "quoteToken": "q"}]}
    if len(before) > 1:
        accepted = {"x-line-accepted-request-id": "r1"}
        return 409, accepted, {"message": "The retry key is already accepted", **sent}
    return 200, {}, sent


def twilio(post: Post, asked: Asked) -> Answer:
    """`POST /2010-04-01/Accounts/{sid}/Messages.json`, a form, with the account's sid and token as a password."""
    if asked.headers.get("authorization") != basic("AC1", TOKEN):
        return 401, {}, {"code": 20003, "message": "Authenticate", "status": 401}
    if asked.path != "/2010-04-01/Accounts/AC1/Messages.json":
        return 404, {}, {"code": 20404, "message": "The requested resource was not found", "status": 404}
    form = asked.form
    if not ("Body" in form or "ContentSid" in form) or not ("From" in form or "MessagingServiceSid" in form):
        return 400, {}, {"code": 21602, "message": "Message body is required", "status": 400}
    if form["To"].endswith("666"):
        return 400, {}, {"code": 21610, "message": "Attempt to send to unsubscribed recipient", "status": 400}
    return 201, {}, {"sid": f"SM{len(post.taken)}", "status": "queued", "error_code": None, "to": form["To"]}


def postmark(post: Post, asked: Asked) -> Answer:
    """`POST /email`."""
    if asked.headers.get("x-postmark-server-token") != TOKEN:
        return 401, {}, {"ErrorCode": 10, "Message": "No Account or Server API tokens were supplied."}
    if asked.path != "/email":
        return 404, {}, b""
    body = asked.json
    if body["To"].startswith("inactive"):
        return 422, {}, {"ErrorCode": 406, "Message": "You tried to send to a recipient that has been marked inactive."}
    if not body["From"] or not (body.get("TextBody") or body.get("HtmlBody")):
        return 422, {}, {"ErrorCode": 300, "Message": "Invalid email request"}
    return 200, {}, {
        "ErrorCode": 0, "Message": "OK", "MessageID": f"pm-{len(post.taken)}", "SubmittedAt": "2026-11-02T05:00:00Z",
        "To": body["To"],
    }  # fmt: skip


def mailgun(post: Post, asked: Asked) -> Answer:
    """`POST /v3/{domain}/messages`, a form, with the key as a password."""
    if asked.headers.get("authorization") != basic("api", TOKEN):
        return 401, {}, b"Forbidden"
    if asked.path != "/v3/mg.toko.id/messages":
        return 404, {}, {"message": "Domain not found"}
    form = asked.form
    if not form["to"] or not form["text"]:
        return 400, {}, {"message": "to parameter is missing"}
    return (
        200,
        {},
        {"id": form["h:Message-Id"] if "h:Message-Id" in form else form["h:Message-ID"], "message": "Queued."},
    )


def sendgrid(post: Post, asked: Asked) -> Answer:
    """`POST /v3/mail/send`, which names the message in a header."""
    if asked.headers.get("authorization") != f"Bearer {TOKEN}":
        return 401, {}, {"errors": [{"message": "The provided authorization grant is invalid", "field": None}]}
    if asked.path != "/v3/mail/send":
        return 404, {}, {"errors": [{"message": "not found"}]}
    body = asked.json
    if not body["personalizations"][0]["to"][0]["email"] or not body["from"]["email"] or not body["content"]:
        return 400, {}, {"errors": [{"message": "The content is required", "field": "content"}]}
    return 202, {"X-Message-Id": f"sg-{len(post.taken)}"}, b""
