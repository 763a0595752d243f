"""The job queue in Postgres: what is put in belongs to the caller's transaction, and is seen when that commits."""

from datetime import datetime, timedelta
from typing import Any

import pydantic_core
from pgqueuer.adapters.persistence import qb
from pgqueuer.domain.settings import DBSettings, Durability
from pgqueuer.domain.types import Channel

from crm.db.session import Session

# All spelled out: pgqueuer reads what is missing from variables as common as CHANNEL or FUNCTION.
NAMES = DBSettings(
    prefix="",
    db_schema=None,
    channel=Channel("ch_pgqueuer"),
    function="fn_pgqueuer_changed",
    trigger="tg_pgqueuer_changed",
    queue_table="pgqueuer",
    queue_table_log="pgqueuer_log",
    statistics_table="pgqueuer_statistics",
    schedules_table="pgqueuer_schedules",
    queue_status_type="pgqueuer_status",
    durability=Durability.durable,
    widen_id=True,
)
_ENQUEUE = qb.QueryQueueBuilder(NAMES).build_enqueue_query()


async def enqueue(session: Session, *, name: str, payload: dict[str, Any]) -> None:
    """Have the worker run the job `name` of `crm.jobs`, once this transaction is committed."""
    await session.fetch(_ENQUEUE, [0], [name], [pydantic_core.to_json(payload)], [timedelta(0)], [None], [None])


def waiting(name: str) -> str:
    """In SQL, whether a job of this name, an expression, waits for its turn: another would be one too many.

    One that is being carried out does not count: it may have looked already.
    """
    return f"""
        EXISTS (
            SELECT FROM {NAMES.queue_table} j
            WHERE j.entrypoint = {name} AND j.status = 'queued' AND j.execute_after <= now()
        )
    """


async def purge_log(session: Session, *, older_than: datetime) -> int:
    """Forget what the queue noted about finished jobs, once it is in its statistics; the number of rows."""
    return await session.execute(
        f"DELETE FROM {NAMES.queue_table_log} WHERE created < $1 AND aggregated AND status <> 'failed'", older_than
    )
