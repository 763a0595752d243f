"""What the worker runs, and when. A job is shallow: it opens a transaction and calls one domain function.

A job may run more than once (a worker can die after its work and before it has said so), so it must not matter.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from crm.contacts.scans import JOB as SCAN_FOR_DUPLICATES
from crm.contacts.segments import EVALUATE as EVALUATE_SEGMENT
from crm.exchange.imports import JOB as RUN_IMPORT
from crm.exchange.reversions import JOB as REVERT_IMPORT
from crm.inbox.deliveries import JOB as PROCESS_DELIVERIES
from crm.inbox.outbound import JOB as SEND_MESSAGES
from crm.inbox.privacy import JOB as CARRY_OUT_PRIVACY_REQUESTS
from crm.jobs import (
    backtests,
    cases,
    duplicates,
    housekeeping,
    imports,
    inbox,
    mailboxes,
    messages,
    nights,
    playbooks,
    privacy,
    segments,
)
from crm.loyalty.backtests import JOB as RUN_BACKTEST

# Awaited as `job(database, payload, now=…)` with what `crm.db.queue.enqueue` was given.
Job = Callable[..., Awaitable[None]]
# Awaited as `run(database, now=…)`.
Run = Callable[..., Awaitable[None]]


class Schedule(NamedTuple):
    """A run at the times of a cron expression, in UTC: once, however many workers there are."""

    cron: str
    run: Run


JOBS: Mapping[str, Job] = {
    RUN_BACKTEST: backtests.run_backtest,
    EVALUATE_SEGMENT: segments.evaluate_segment,
    RUN_IMPORT: imports.run_import,
    REVERT_IMPORT: imports.revert_import,
    CARRY_OUT_PRIVACY_REQUESTS: privacy.carry_out_privacy_requests,
    PROCESS_DELIVERIES: inbox.process_deliveries,
    SEND_MESSAGES: messages.send_messages,
    SCAN_FOR_DUPLICATES: duplicates.scan_for_duplicates,
}

SCHEDULES: Mapping[str, Schedule] = {
    "purge_idempotency_keys": Schedule("17 * * * *", housekeeping.purge_idempotency_keys),
    "keep_retention": Schedule("41 2 * * *", housekeeping.keep_retention),
    "forget_imports": Schedule("41 3 * * *", imports.forget_imports),
    # Behind what is kept no longer, which need not be compared.
    "ask_for_scan": Schedule("7 4 * * *", duplicates.ask_for_scan),
    "forget_searches": Schedule("53 3 * * *", housekeeping.forget_searches),
    "purge_queue_log": Schedule("23 3 * * *", housekeeping.purge_queue_log),
    # Every midnight of the world lies on a quarter of an hour; what failed is tried again before the next.
    "work_off_nights": Schedule("*/5 * * * *", nights.work_off_nights),
    "settle_accounts": Schedule("* * * * *", nights.settle_accounts),
    # As nights, for segments that follow a day; more often, what was asked for and left undone is taken up again.
    "evaluate_segments": Schedule("*/5 * * * *", segments.evaluate_segments),
    "follow_timelines": Schedule("* * * * *", segments.follow_timelines),
    "follow_for_playbooks": Schedule("* * * * *", playbooks.follow_for_playbooks),
    "begin_playbook_days": Schedule("*/5 * * * *", playbooks.begin_playbook_days),
    "watch_case_clocks": Schedule("* * * * *", cases.watch_case_clocks),
    "close_cases": Schedule("7 * * * *", cases.close_cases),
    "process_due_deliveries": Schedule("* * * * *", inbox.process_due_deliveries),
    "carry_out_due_privacy_requests": Schedule("*/5 * * * *", privacy.carry_out_due_privacy_requests),
    "send_due_messages": Schedule("* * * * *", messages.send_due_messages),
    "watch_for_silence": Schedule("*/5 * * * *", inbox.watch_for_silence),
    "poll_mailboxes": Schedule("* * * * *", mailboxes.poll_mailboxes),
    "purge_deliveries": Schedule("41 2 * * *", inbox.purge_deliveries),
}
