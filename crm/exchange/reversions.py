"""Taking an import of contacts back: those it created go, unless something has happened with them since."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from asyncpg import Record

from crm.contacts import contacts, suggestions
from crm.db import queue, writes
from crm.db.session import Session
from crm.db.writes import Update
from crm.errors import Conflict
from crm.exchange import imports
from crm.exchange.imports import Import, ImportNotFound
from crm.exchange.tables import imported_contacts
from crm.interactions import people

JOB: Final = "revert_import"
BATCH: Final = 1_000

REASONS: Final[Mapping[str, str]] = {
    "was_there_before": "The contact was there before the import, which only added to it.",
    "has_history": "Something has happened with the contact since.",
    "changed_since": "The contact was changed since.",
    "gone": "The contact was deleted or merged with another since.",
}
"""Why a contact stays as it is, by its code."""


class NotRevertible(Conflict):
    code = "not_revertible"
    title = "The import can't be taken back"


@dataclass(slots=True)
class Kept:
    """Why a contact stays as it is."""

    code: str
    message: str


@dataclass(slots=True)
class ImportedContact:
    """A contact that an import created or added to, in which row; `removed` once that was taken back.

    Of one that was created, the `note` `erased_before` says that somebody with such an address was erased, and that
    marketing is denied until they allow it.
    """

    contact_id: UUID
    row: int
    result: str
    removed: bool
    kept: Kept | None
    note: str | None


@dataclass(slots=True)
class Reversion:
    """A reversion that is carried out, and the row up to which it is done."""

    import_id: UUID
    attempt: int
    row: int = 0


async def start(session: Session, *, import_id: UUID) -> Import:
    """Have the worker take an import back. Asked again, it tries again what was kept.

    Raises ImportNotFound, NotRevertible.
    """
    row = await session.fetchrow("SELECT kind, status FROM imports WHERE id = $1 FOR UPDATE", import_id)
    if row is None:
        raise ImportNotFound("No import has this id.")
    if row["kind"] != "contacts":
        raise NotRevertible("Purchases are facts: refund those that should not be, with POST …/refunds.")
    if row["status"] not in ("completed", "failed", "cancelled", "reverted"):
        raise NotRevertible(f"It is {row['status']}. Cancel it first, or wait until it is completed.")
    await session.execute(
        """
        WITH again AS (UPDATE imported_contacts SET kept = NULL WHERE import_id = $1 AND kept IS NOT NULL)
        UPDATE imports SET status = 'reverting', kept = 0, removed = coalesce(removed, 0), finished_at = NULL
        WHERE id = $1
        """,
        import_id,
    )
    await queue.enqueue(session, name=JOB, payload={"import_id": import_id})
    return await imports.get(session, import_id=import_id)


async def touched(
    session: Session, *, import_id: UUID, kept: bool | None, after: tuple[int, UUID] | None, limit: int
) -> list[ImportedContact]:
    """The contacts that an import created or added to, in the order of the file; with `kept`, only such as stay.

    Raises ImportNotFound.
    """
    rows = await session.fetch(
        """
        SELECT contact_id, row, result, removed, kept, note FROM imported_contacts
        WHERE import_id = $1 AND (row, contact_id) > ($2, $3) AND ($4::boolean IS NULL OR (kept IS NOT NULL) = $4)
        ORDER BY row, contact_id LIMIT $5
        """,
        import_id, *(after or (0, UUID(int=0))), kept, limit,
    )  # fmt: skip
    if not rows:
        await imports.get(session, import_id=import_id)
    return [
        ImportedContact(
            row["contact_id"], row["row"], row["result"], row["removed"],
            None if row["kept"] is None else Kept(row["kept"], REASONS[row["kept"]]), row["note"],
        )
        for row in rows
    ]  # fmt: skip


async def begin(session: Session, *, import_id: UUID) -> Reversion | None:
    """Take over a reversion; None where it is over."""
    attempt = await session.fetchval(
        "UPDATE imports SET attempt = attempt + 1 WHERE id = $1 AND status = 'reverting' RETURNING attempt", import_id
    )
    return None if attempt is None else Reversion(import_id, attempt)


async def advance(session: Session, *, reversion: Reversion, now: datetime) -> bool:
    """Take back the next contacts; False when there are no more, or somebody else does it."""
    import_id = reversion.import_id
    if not await session.fetchval(
        "SELECT true FROM imports WHERE id = $1 AND attempt = $2 AND status = 'reverting' FOR UPDATE",
        import_id, reversion.attempt,
    ):  # fmt: skip
        return False
    rows = await session.fetch(
        """
        SELECT contact_id, row, result, version FROM imported_contacts
        WHERE import_id = $1 AND row > $2 AND NOT removed AND kept IS NULL ORDER BY row LIMIT $3
        """,
        import_id, reversion.row, BATCH,
    )  # fmt: skip
    if not rows:
        await session.execute("UPDATE imports SET status = 'reverted', finished_at = $2 WHERE id = $1", import_id, now)
        return False
    made = [row["contact_id"] for row in rows if row["result"] == "created"]
    await contacts.lock_all(session, contact_ids=made, deleting=True)
    versions = await contacts.versions(session, contact_ids=made)
    unused = await people.unused(session, contact_ids=list(versions))
    kept = {row["contact_id"]: _reason(row, versions, unused) for row in rows}
    gone = [contact_id for contact_id, reason in kept.items() if reason is None]
    await suggestions.forget(session, contact_ids=gone)
    await contacts.delete_all(session, contact_ids=gone)
    await writes.write(
        session,
        [
            Update(
                imported_contacts, ("contact_id", "import_id", "removed", "kept"),
                [(contact_id, import_id, reason is None, reason) for contact_id, reason in kept.items()], 2,
            )
        ],
    )  # fmt: skip
    await session.execute(
        "UPDATE imports SET removed = removed + $2, kept = kept + $3 WHERE id = $1",
        import_id, len(gone), len(kept) - len(gone),
    )  # fmt: skip
    reversion.row = rows[-1]["row"]
    return True


def _reason(row: Record, versions: Mapping[UUID, int], unused: set[UUID]) -> str | None:
    """Why a contact has to stay; None where it need not."""
    contact_id = row["contact_id"]
    if row["result"] == "updated":
        return "was_there_before"
    if contact_id not in versions:
        return "gone"
    if contact_id not in unused:
        return "has_history"
    return None if versions[contact_id] == row["version"] else "changed_since"
