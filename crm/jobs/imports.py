"""Bringing in what was uploaded, taking it back, and forgetting what was in the files."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from crm.db.session import Database
from crm.errors import CrmError, Unavailable
from crm.exchange import files, imports, reversions, runs, works
from crm.exchange.works import Superseded, Work


async def run_import(database: Database, payload: dict[str, Any], *, now: datetime) -> None:
    """Validate or process an import from where it is to its end, with its progress in transactions of their own.

    What can't be read is not tried again; anything else that goes wrong is, from where it broke off.
    """
    async with database.begin() as session:
        work = await works.begin(session, import_id=UUID(payload["import_id"]), run=payload["run"])
    if work is None:
        return
    try:
        async with files.unpacked(database, import_id=work.import_id) as path:
            await runs.carry_out(database, work=work, path=path, clock=_clock)
        async with database.begin() as session:
            await works.complete(session, work=work, now=_clock())
    except Superseded:
        return
    except CrmError as error:
        await _failed(database, work, error.code, error.detail)
        if isinstance(error, Unavailable):
            raise
    except Exception:
        await _failed(database, work, "interrupted", "It broke off, and is tried again by itself for a while.")
        raise


async def revert_import(database: Database, payload: dict[str, Any], *, now: datetime) -> None:
    """Remove what an import created, as far as nothing has happened with it, some contacts at a time."""
    async with database.begin() as session:
        reversion = await reversions.begin(session, import_id=UUID(payload["import_id"]))
    going_on = reversion is not None
    while going_on:
        assert reversion is not None
        async with database.begin() as session:
            going_on = await reversions.advance(session, reversion=reversion, now=_clock())


async def forget_imports(database: Database, *, now: datetime) -> None:
    """Files hold personal data of people who may never have become contacts."""
    async with database.begin() as session:
        await imports.forget(session, older_than=now - imports.KEPT)


async def _failed(database: Database, work: Work, code: str, message: str) -> None:
    async with database.begin() as session:
        await works.fail(session, work=work, code=code, message=message, now=_clock())


def _clock() -> datetime:
    return datetime.now(UTC)
