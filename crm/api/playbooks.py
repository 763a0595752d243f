"""`/v1/playbooks`: what is done for people by itself, and with whom it was."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from litestar import Response
from litestar.params import FromPath, QueryParameter

from crm.api import paging
from crm.api.etags import IfMatch, etag, version_of
from crm.api.paging import BrokenCursor, Cursor, Limit, Page
from crm.api.playbook_bodies import NewDryRun, NewPlaybook, PlaybookPatch, given
from crm.api.routes import ContactId, delete, get, patch, post
from crm.contacts.conditions import InvalidCondition
from crm.contacts.contacts import ContactNotFound
from crm.db import idempotency
from crm.db.session import Session
from crm.inbox.house import House
from crm.loyalty.programs import ProgramNotFound
from crm.playbooks import dry_runs, playbooks, ready_made, runs
from crm.playbooks.definitions import InvalidPlaybook
from crm.playbooks.dry_runs import DryRun, DryRunTooBroad
from crm.playbooks.playbooks import (
    Playbook,
    PlaybookArchived,
    PlaybookNotActive,
    PlaybookNotFound,
    TooManyPlaybooks,
)
from crm.playbooks.ready_made import Language, PlaybookTemplate
from crm.playbooks.runs import Run, RunEnded, RunNotFound, Status
from crm.vocabulary import VOCABULARY

READ = {"playbooks:read"}
WRITE = {"playbooks:write"}


@get("/playbook-templates", scopes=READ)
async def list_playbook_templates(
    language: Annotated[Language, QueryParameter(description="In which they are worded for staff.")] = "id",
) -> Page[PlaybookTemplate]:
    """List the ready-made playbooks.

    `POST /v1/playbooks` with the `template` makes one of them, whose parts can be replaced.
    """
    return Page(ready_made.all_in(language), None)


@post(
    "/playbooks",
    scopes=WRITE,
    problems=(InvalidCondition, InvalidPlaybook, ProgramNotFound, TooManyPlaybooks),
    headers=("ETag", "Location"),
)
async def create_playbook(
    session: Session, data: NewPlaybook, by: str, now: datetime, once: idempotency.Request | None
) -> Response[Playbook]:
    """Make a playbook.

    A draft does nothing: try it with a dry run, then make it active with a PATCH of its `status`.
    """
    await idempotency.begin(session, request=once)
    document = given(data, but=frozenset({"template", "language", "name", "description"}))
    name, description = data.name, data.description
    if data.template is not None:
        ready = ready_made.template(data.template, data.language)
        document = ready.definition | document
        name, description = name or ready.name, ready.description if description is None else description
    assert name is not None, "without a template it is needed"
    playbook = await playbooks.create(
        session, vocabulary=VOCABULARY, name=name, description=description, document=document, by=by, once=once,
        now=now,
    )  # fmt: skip
    return Response(playbook, headers=etag(playbook.version) | {"Location": f"/v1/playbooks/{playbook.id}"})


@get("/playbooks", scopes=READ)
async def list_playbooks(session: Session, cursor: Cursor = None, limit: Limit = 50) -> Page[Playbook]:
    """List the playbooks that are not archived, newest first."""
    before = paging.decode(cursor, UUID)
    found = await playbooks.page(session, before=before[0] if before else None, limit=limit + 1)
    return paging.page_of(found, limit=limit, key=lambda playbook: (playbook.id,))


@get("/playbooks/{playbook_id:uuid}", scopes=READ, problems=(PlaybookNotFound,), headers=("ETag",))
async def get_playbook(session: Session, playbook_id: FromPath[UUID]) -> Response[Playbook]:
    """Read a playbook, also when it has been archived."""
    playbook = await playbooks.get(session, playbook_id=playbook_id)
    return Response(playbook, headers=etag(playbook.version))


@patch(
    "/playbooks/{playbook_id:uuid}",
    scopes=WRITE,
    problems=(
        PlaybookNotFound, PlaybookArchived, PlaybookNotActive, InvalidCondition, InvalidPlaybook, ProgramNotFound,
    ),
    headers=("ETag",),
)  # fmt: skip
async def change_playbook(
    session: Session, playbook_id: FromPath[UUID], data: PlaybookPatch, by: str, now: datetime,
    if_match: IfMatch = None,
) -> Response[Playbook]:  # fmt: skip
    """Change a playbook, make it active, or pause it.

    Nothing that happened before it was active brings it about; while it is paused, its runs wait.
    """
    playbook = await playbooks.change(
        session, vocabulary=VOCABULARY, playbook_id=playbook_id, changes=given(data), version=version_of(if_match),
        by=by, now=now,
    )  # fmt: skip
    return Response(playbook, headers=etag(playbook.version))


@delete("/playbooks/{playbook_id:uuid}", scopes=WRITE, problems=(PlaybookNotFound,))
async def archive_playbook(
    session: Session, playbook_id: FromPath[UUID], by: str, now: datetime, if_match: IfMatch = None
) -> None:
    """Archive a playbook.

    Its runs end where they are; what they did stays.
    """
    await playbooks.archive(session, playbook_id=playbook_id, version=version_of(if_match), by=by, now=now)


@post(
    "/playbooks/{playbook_id:uuid}/dry-runs",
    scopes=READ,
    status_code=200,
    problems=(PlaybookNotFound, InvalidCondition, DryRunTooBroad, BrokenCursor),
)
async def simulate_playbook(
    session: Session, playbook_id: FromPath[UUID], data: NewDryRun, house: House, now: datetime
) -> DryRun:
    """Show who would get what today.

    Also of a draft. Nothing is written: who would have a run, who would not and why, and for each one shown what would
    become of each step.
    """
    playbook = await playbooks.get(session, playbook_id=playbook_id)
    after = paging.decode(data.cursor, UUID, str)
    dry_run, last = await dry_runs.run(
        session, playbook=playbook, vocabulary=VOCABULARY, house=house, after=(after[0], after[1]) if after else None,
        limit=data.limit, now=now,
    )  # fmt: skip
    dry_run.next_cursor = None if last is None else paging.encode(*last)
    return dry_run


@get("/playbooks/{playbook_id:uuid}/runs", scopes=READ, problems=(PlaybookNotFound,))
async def list_runs_of_playbook(
    session: Session, playbook_id: FromPath[UUID],
    status: Annotated[Status | None, QueryParameter(description="Only those of this status.")] = None,
    cursor: Cursor = None, limit: Limit = 50,
) -> Page[Run]:  # fmt: skip
    """List the runs of a playbook, newest first."""
    before = paging.decode(cursor, UUID)
    await playbooks.get(session, playbook_id=playbook_id)
    found = await runs.page_of_playbook(
        session, playbook_id=playbook_id, status=status, before=before[0] if before else None, limit=limit + 1
    )
    return paging.page_of(found, limit=limit, key=lambda run: (run.id,))


@get("/contacts/{contact_id:uuid}/playbook-runs", scopes=READ, problems=(ContactNotFound,))
async def list_playbook_runs_of_contact(
    session: Session, contact_id: FromPath[ContactId], cursor: Cursor = None, limit: Limit = 50
) -> Page[Run]:
    """List what playbooks did with a contact, newest first."""
    before = paging.decode(cursor, UUID)
    found = await runs.page_of_contact(
        session, contact_id=contact_id, before=before[0] if before else None, limit=limit + 1
    )
    return paging.page_of(found, limit=limit, key=lambda run: (run.id,))


@get("/contacts/{contact_id:uuid}/playbook-runs/{run_id:uuid}", scopes=READ, problems=(RunNotFound,))
async def get_playbook_run(session: Session, contact_id: FromPath[ContactId], run_id: FromPath[UUID]) -> Run:
    """Read a run of a playbook with its steps."""
    return await runs.get(session, contact_id=contact_id, run_id=run_id)


@delete(
    "/contacts/{contact_id:uuid}/playbook-runs/{run_id:uuid}",
    scopes=WRITE,
    problems=(ContactNotFound, RunNotFound, RunEnded),
)
async def cancel_playbook_run(
    session: Session, contact_id: FromPath[ContactId], run_id: FromPath[UUID], by: str, now: datetime
) -> None:
    """Cancel a run before its next step.

    It stays as cancelled, and its occasion brings no other.
    """
    await runs.cancel(session, contact_id=contact_id, run_id=run_id, by=by, now=now)


handlers = [
    list_playbook_templates, create_playbook, list_playbooks, get_playbook, change_playbook, archive_playbook,
    simulate_playbook, list_runs_of_playbook, list_playbook_runs_of_contact, get_playbook_run, cancel_playbook_run,
]  # fmt: skip
