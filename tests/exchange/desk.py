"""Somebody who brings files in over the API, with a worker at hand."""

import csv
import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import openpyxl

from crm.jobs import JOBS

XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"

HEADER = ("Nama", "No HP", "E-Mail", "Kota")
MAPPED = {"Nama": "name", "No HP": "identity:phone", "E-Mail": "identity:email", "Kota": "attributes.city"}


def table(*rows: Sequence[Any], header: Sequence[str] = HEADER, delimiter: str = ",") -> bytes:
    """A CSV file."""
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter).writerows([header, *rows])
    return text.getvalue().encode()


def workbook(path: Path, *rows: Sequence[Any], header: Sequence[Any] = HEADER, sheet: str = "Pelanggan") -> Path:
    """An Excel workbook with one sheet."""
    book = openpyxl.Workbook()
    book.active.title = sheet
    for row in (header, *rows):
        book.active.append(list(row))
    book.save(path)
    return path


class Desk:
    """The API of a live client, and its worker."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.database = client.database

    async def send(
        self,
        content: bytes,
        *,
        kind: str = "contacts",
        media_type: str = "text/csv",
        key: str | None = None,
        **query: str,
    ) -> httpx.Response:
        """Upload a file."""
        headers = {"Content-Type": media_type} | ({"Idempotency-Key": key} if key else {})
        answer: httpx.Response = await self.client.post(
            "/v1/imports", params={"kind": kind, **query}, content=content, headers=headers
        )
        return answer

    async def upload(self, content: bytes, **options: Any) -> dict[str, Any]:
        """Upload a file that is taken; the import."""
        answer = await self.send(content, **options)
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    async def run(self, import_id: str, *, how: str = "processing", **body: Any) -> dict[str, Any]:
        """Have an import validated or processed, and wait for the worker; the import then."""
        answer = await self.client.post(f"/v1/imports/{import_id}/{how}", json=body)
        assert answer.status_code == 202, answer.text
        await self.work()
        return await self.read(import_id)

    async def bring(self, content: bytes, *, on_duplicate: str = "skip", **options: Any) -> dict[str, Any]:
        """Upload a file and import it, mapped as guessed; the import then."""
        made = await self.upload(content, **options)
        return await self.run(made["id"], on_duplicate=on_duplicate)

    async def read(self, import_id: str) -> dict[str, Any]:
        """An import as it is now."""
        found: dict[str, Any] = (await self.client.get(f"/v1/imports/{import_id}")).json()
        return found

    async def errors(self, import_id: str) -> list[dict[str, Any]]:
        """The refused rows of an import."""
        items: list[dict[str, Any]] = (await self.client.get(f"/v1/imports/{import_id}/errors")).json()["items"]
        return items

    async def contact(self, kind: str, value: str) -> dict[str, Any]:
        """Who is known by an identity."""
        answer = await self.client.get(f"/v1/contacts/by/{kind}/{value}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def count(self) -> int:
        """How many contacts there are."""
        async with self.database.reading() as session:
            number: int = await session.fetchval("SELECT count(*) FROM contacts")
            return number

    async def queued(self) -> list[tuple[str, dict[str, Any]]]:
        """The jobs that wait for the worker."""
        async with self.database.begin() as session:
            rows = await session.fetch("DELETE FROM pgqueuer RETURNING id, entrypoint, payload")
        return [(row["entrypoint"], json.loads(row["payload"])) for row in sorted(rows, key=lambda row: row["id"])]

    async def work(self) -> None:
        """Carry out what waits."""
        for name, payload in await self.queued():
            await JOBS[name](self.database, payload, now=datetime.now(UTC))
