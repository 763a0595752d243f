"""Playbooks: what timelines tell, what a local day brings, and the steps that are due."""

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import cache

import structlog

from crm.db.session import Database
from crm.inbox.house import House
from crm.playbooks import starting, work
from crm.settings import Settings
from crm.vocabulary import VOCABULARY

_log = structlog.get_logger(__name__)


async def follow_for_playbooks(database: Database, *, now: datetime) -> None:
    """Begin runs of what has happened since the last time, and take the steps that are due, theirs among them."""
    clock, going_on = _from(now), True
    while going_on:
        async with database.begin() as session:
            going_on = await starting.follow(session, vocabulary=VOCABULARY, now=clock())
    await take_playbook_steps(database, now=clock())


async def take_playbook_steps(database: Database, *, now: datetime) -> None:
    """The steps that are due."""
    house = House.of(_settings())
    taken = await work.work_off(database, vocabulary=VOCABULARY, house=house, clock=_from(now))
    if taken:
        _log.info("playbook_steps_taken", steps=taken)


async def begin_playbook_days(database: Database, *, now: datetime) -> None:
    """The local days that have begun, or were missed, and the steps of their runs."""
    zone = _settings().default_time_zone
    begun = await starting.begin_days(database, vocabulary=VOCABULARY, zone=zone, now=now)
    for playbook_id, count in begun.items():
        _log.info("playbook_runs_begun", playbook_id=playbook_id, runs=count)
    if begun:
        await take_playbook_steps(database, now=now)


@cache
def _settings() -> Settings:
    return Settings()


def _from(now: datetime) -> Callable[[], datetime]:
    """A clock that shows `now` and goes on."""
    started = time.monotonic()
    return lambda: now + timedelta(seconds=time.monotonic() - started)
