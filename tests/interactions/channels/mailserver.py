"""A mailbox: a server that speaks as much IMAP as it takes to fetch mail."""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from crm.interactions.channels.imap import Mailbox

PASSWORD = 'p"\\w'


def mail(number: int) -> bytes:
    return f"From: sari@example.com\r\nMessage-ID: <{number}@x>\r\nSubject: {number}\r\n\r\nHalo {number}\r\n".encode()


class Server:
    """One mailbox. `said` are the commands that it was given; it does not hand out the mails that are `withheld`.

    With `hangs` it answers nothing to a command that begins so, until `goes_on` is set.
    """

    def __init__(self, *numbers: int, validity: int = 7) -> None:
        self.mails = {number: mail(number) for number in numbers}
        self.validity = validity
        self.said: list[str] = []
        self.hangs_up = False
        self.withheld: set[int] = set()
        self.hangs: str | None = None
        self.goes_on = asyncio.Event()
        self.told_next = True

    @asynccontextmanager
    async def running(self, tls: ssl.SSLContext | None = None, security: str = "none") -> AsyncIterator[Mailbox]:
        self.tls = tls
        server = await asyncio.start_server(self._talk, "127.0.0.1", 0, ssl=tls if security == "tls" else None)
        port = server.sockets[0].getsockname()[1]
        async with server:
            yield Mailbox(host="localhost", port=port, user="u", password=PASSWORD, security=security)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"* OK ready\r\n")
        while line := await reader.readline():
            tag, _, command = line.decode().strip().partition(" ")
            self.said.append(command)
            if self.hangs_up and command.startswith("UID"):
                break
            if self.hangs is not None and command.startswith(self.hangs):
                await self.goes_on.wait()
            writer.write(self._answer(command) + f"{tag} {self.verdict(command)}\r\n".encode())
            if command == "LOGOUT":
                break
            if command == "STARTTLS":
                await writer.start_tls(self.tls)
        writer.close()

    def verdict(self, command: str) -> str:
        if command.startswith("LOGIN"):
            return "OK in" if command == 'LOGIN "u" "p\\"\\\\w"' else "NO [AUTHENTICATIONFAILED] wrong password"
        if command.startswith("EXAMINE"):
            return "OK [READ-ONLY]" if command == 'EXAMINE "INBOX"' else "NO no such mailbox"
        if (fetched := _FETCHED.fullmatch(command)) and int(fetched[1]) in self.withheld:
            return "NO [SERVERBUG] it is broken"
        return "OK done" if command.startswith(("CAPABILITY", "STARTTLS", "UID FETCH", "LOGOUT")) else "BAD unknown"

    def _answer(self, command: str) -> bytes:
        if command == "CAPABILITY":
            return b"* CAPABILITY IMAP4rev1 STARTTLS\r\n"
        if command.startswith("EXAMINE"):
            coming = f"* OK [UIDNEXT {max(self.mails, default=0) + 1}] x\r\n" if self.told_next else ""
            return f"* {len(self.mails)} EXISTS\r\n* OK [UIDVALIDITY {self.validity}] x\r\n{coming}".encode()
        if listed := re.fullmatch(r"UID FETCH (\d+):\* \(UID\)", command):
            last = [max(self.mails)] if self.mails else []
            uids = [uid for uid in self.mails if uid >= int(listed[1])] or last
            return b"".join(f"* {place} FETCH (UID {uid})\r\n".encode() for place, uid in enumerate(uids, 1))
        if fetched := _FETCHED.fullmatch(command):
            raw = None if int(fetched[1]) in self.withheld else self.mails.get(int(fetched[1]))
            if raw is not None:
                raw = raw[: int(fetched[2])]
                return f"* 1 FETCH (UID {fetched[1]} BODY[]<0> {{{len(raw)}}}\r\n".encode() + raw + b")\r\n"
        return b""


_FETCHED = re.compile(r"UID FETCH (\d+) \(BODY\.PEEK\[\]<0\.(\d+)>\)")
