"""`/v1/tasks`: what somebody has to do for a contact."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from litestar import Response
from litestar.params import FromPath, QueryParameter
from pydantic import StringConstraints

from crm.api import moments, paging
from crm.api.etags import IfMatch, etag, version_of
from crm.api.paging import Cursor, Limit, Page
from crm.api.routes import ContactId, get, patch, post
from crm.api.schemas import Body, Instant, Line, Patch
from crm.care import tasks
from crm.care.tasks import Task, TaskNotFound
from crm.contacts.contacts import ContactNotFound
from crm.db import idempotency
from crm.db.session import Session

NOTE_LENGTH_MAX = 5_000
Note = Annotated[str, StringConstraints(max_length=NOTE_LENGTH_MAX, pattern=r"^[^\x00]*$")]
Status = Literal["open", "done", "cancelled"]


class NewTask(Body):
    """What is to be done, by whom, and by when; the title is for a list, the note for who does it."""

    title: Line
    note: Note | None = None
    due_at: Instant | None = None
    assignee: Line | None = None
    case_id: UUID | None = None


class TaskPatch(Patch):
    """What can change: `status` too, which says that it is done, cancelled, or open again."""

    title: Line | None = None
    note: Note | None = None
    due_at: Instant | None = None
    assignee: Line | None = None
    status: Status | None = None

    not_nullable = frozenset({"title", "status"})


@post(
    "/contacts/{contact_id:uuid}/tasks",
    scopes={"care:write"},
    problems=(ContactNotFound,),
    headers=("ETag", "Location"),
)
async def create_task(
    session: Session, contact_id: FromPath[ContactId], data: NewTask, by: str, now: datetime,
    once: idempotency.Request | None,
) -> Response[Task]:  # fmt: skip
    """Create a task for a contact."""
    await idempotency.begin(session, request=once)
    task, _ = await tasks.create(
        session, contact_id=contact_id, title=data.title, note=data.note, due_at=data.due_at, assignee=data.assignee,
        case_id=data.case_id, by=by, once=once, now=now,
    )  # fmt: skip
    return Response(task, headers=etag(task.version) | {"Location": f"/v1/tasks/{task.id}"})


@get("/contacts/{contact_id:uuid}/tasks", scopes={"care:read"}, problems=(ContactNotFound,))
async def list_tasks_of_contact(
    session: Session, contact_id: FromPath[ContactId],
    status: Annotated[Status | None, QueryParameter(description="Only of this status.")] = None,
    cursor: Cursor = None, limit: Limit = 50,
) -> Page[Task]:  # fmt: skip
    """List a contact's tasks, newest first."""
    before = paging.decode(cursor, UUID)
    found = await tasks.page(
        session, contact_id=contact_id, status=status, before=before[0] if before else None, limit=limit + 1
    )
    return paging.page_of(found, limit=limit, key=lambda task: (task.id,))


@get("/tasks", scopes={"care:read"})
async def list_tasks(
    session: Session,
    assignee: Annotated[str | None, QueryParameter(max_length=200, description="Only those of this person.")] = None,
    due_before: Annotated[
        str | None, QueryParameter(schema_extra=moments.DATE_TIME, description="Only those due before.")
    ] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[Task]:
    """List open tasks: what is due first before the others, what has no date last."""
    after = paging.decode(cursor, datetime | None, UUID)
    found = await tasks.queue(
        session, assignee=assignee, due_before=moments.instant("due_before", due_before),
        after=(after[0], after[1]) if after else None, limit=limit + 1,
    )  # fmt: skip
    return paging.page_of(found, limit=limit, key=lambda task: (task.due_at, task.id))


@get("/tasks/{task_id:uuid}", scopes={"care:read"}, problems=(TaskNotFound,), headers=("ETag",))
async def get_task(session: Session, task_id: FromPath[UUID]) -> Response[Task]:
    """Read a task."""
    task = await tasks.get(session, task_id=task_id)
    return Response(task, headers=etag(task.version))


@patch("/tasks/{task_id:uuid}", scopes={"care:write"}, problems=(TaskNotFound,), headers=("ETag",))
async def update_task(
    session: Session, task_id: FromPath[UUID], data: TaskPatch, by: str, now: datetime, if_match: IfMatch = None
) -> Response[Task]:
    """Change a task, or say what became of it."""
    changes: dict[str, Any] = {name: getattr(data, name) for name in data.model_fields_set}
    task = await tasks.update(session, task_id=task_id, changes=changes, version=version_of(if_match), by=by, now=now)
    return Response(task, headers=etag(task.version))


handlers = [create_task, list_tasks_of_contact, list_tasks, get_task, update_task]
