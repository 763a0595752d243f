"""A mail server that speaks SMTP: it asks for a password, takes mail, and can say no at each step."""

import asyncio
import base64
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import Message
from typing import Any

USER, PASSWORD = "toko@toko.id", "a password of ours"
BREAK_OFF = "break off"


@dataclass
class MailServer:
    """`says` are answers in place of its own, by the verb that they answer; `.` is the end of the content."""

    says: dict[str, str] = field(default_factory=dict)
    taken: list[Message] = field(default_factory=list)
    envelopes: list[tuple[str, str]] = field(default_factory=list)
    port: int = 0

    @asynccontextmanager
    async def open(self) -> Any:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sender = recipient = ""
        known = False

        def say(line: str) -> None:
            writer.write(f"{line}\r\n".encode())

        with suppress(ConnectionError, asyncio.IncompleteReadError):
            say("220 mail.toko.id ESMTP")
            while line := (await reader.readline()).decode().strip():
                verb, _, rest = line.partition(" ")
                verb = verb.upper()
                if verb in self.says:
                    say(self.says[verb])
                elif verb == "EHLO":
                    say("250-mail.toko.id")
                    say("250-8BITMIME")
                    say("250 AUTH PLAIN LOGIN")
                elif verb == "AUTH":
                    known = base64.b64decode(rest.split()[-1]) == f"\0{USER}\0{PASSWORD}".encode()
                    say("235 2.7.0 Accepted" if known else "535 5.7.8 Authentication failed")
                elif verb == "MAIL":
                    sender = rest
                    say("250 OK" if known else "530 5.7.0 Authentication required")
                elif verb == "RCPT":
                    recipient = rest
                    say("250 OK")
                elif verb == "DATA":
                    say("354 Go on")
                    content = await reader.readuntil(b"\r\n.\r\n")
                    if self.says.get(".") == BREAK_OFF:
                        break
                    if "." in self.says:
                        say(self.says["."])
                        continue
                    self.taken.append(message_from_bytes(content[:-3]))
                    self.envelopes.append((sender, recipient))
                    say("250 2.0.0 Queued as 1")
                elif verb == "QUIT":
                    say("221 Bye")
                    break
                else:
                    say("502 5.5.1 Unknown")
        writer.close()
