"""`/v1/segments`: conditions about contacts that are kept, and who fulfils them."""

from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

from litestar import Response
from litestar.params import FromPath
from pydantic import Field

from crm.api import paging
from crm.api.conditions import ConditionBody
from crm.api.etags import IfMatch, etag, version_of
from crm.api.paging import Cursor, Limit, Page
from crm.api.routes import ContactId, delete, get, patch, post
from crm.api.schemas import Body, Line, Patch, Text
from crm.contacts import segments
from crm.contacts.conditions import InvalidCondition
from crm.contacts.contacts import Contact, ContactNotFound
from crm.contacts.segments import (
    Definition,
    Evaluation,
    Refresh,
    Segment,
    SegmentArchived,
    SegmentNameTaken,
    SegmentNotFound,
    SegmentOfContact,
    TooManySegments,
)
from crm.db import idempotency
from crm.db.session import Session
from crm.interactions import selections
from crm.interactions.selections import Preview, SearchTooBroad
from crm.loyalty.programs import ProgramNotFound
from crm.vocabulary import VOCABULARY

SAMPLE: Final = 10

_Refresh = Annotated[
    Refresh,
    Field(description="When all contacts are gone through: each hour, each local day, or only when somebody asks."),
]


class NewSegment(Body):
    """A condition to keep. It can ask all but who is in a segment.

    Balances and tiers are those of the program, and its calendar says what today is; without one the default program
    is meant.
    """

    name: Line
    description: Text | None = None
    condition: ConditionBody
    program_id: UUID | None = None
    refresh: _Refresh = "hourly"

    def definition(self) -> Definition:
        """What is asked for."""
        return Definition(**self.model_dump())


class SegmentPatch(Patch):
    """The fields to change; a condition takes the place of the one before."""

    name: Line | None = None
    description: Text | None = None
    condition: ConditionBody | None = None
    program_id: UUID | None = None
    refresh: _Refresh | None = None

    not_nullable = frozenset({"name", "condition", "refresh"})

    def changes(self) -> dict[str, Any]:
        """What is given, null included."""
        return {name: getattr(self, name) for name in self.model_fields_set}


class SegmentTrial(Body):
    """A condition to try."""

    condition: ConditionBody
    program_id: UUID | None = None


@post(
    "/segments",
    scopes={"contacts:write"},
    problems=(InvalidCondition, ProgramNotFound, SegmentNameTaken, TooManySegments),
    headers=("ETag", "Location"),
)
async def create_segment(
    session: Session, data: NewSegment, by: str, now: datetime, once: idempotency.Request | None
) -> Response[Segment]:
    """Make a segment.

    Who is in it is found in the background, and told on their timelines: `segment.entered`, `segment.left`.
    """
    await idempotency.begin(session, request=once)
    segment = await segments.create(session, vocabulary=VOCABULARY, definition=data.definition(), by=by, now=now)
    await idempotency.keep(session, request=once, contact_id=None, result=segment, now=now)
    return Response(segment, headers=etag(segment.version) | {"Location": f"/v1/segments/{segment.id}"})


@post(
    "/segments/previews",
    scopes={"contacts:read"},
    status_code=200,
    problems=(InvalidCondition, ProgramNotFound, SearchTooBroad),
)
async def preview_segment(session: Session, data: SegmentTrial, now: datetime) -> Preview:
    """Try the condition of a segment.

    The answer says how many contacts would be in it, and shows the newest ten of them.
    """
    selection = await selections.select(
        session,
        vocabulary=VOCABULARY,
        condition=segments.condition_of(VOCABULARY, data.condition),
        program_id=data.program_id,
        now=now,
    )
    return await selections.preview(session, selection=selection, sample=SAMPLE)


@get("/segments", scopes={"contacts:read"})
async def list_segments(session: Session, cursor: Cursor = None, limit: Limit = 50) -> Page[Segment]:
    """List the segments that are not archived, newest first."""
    before = paging.decode(cursor, UUID)
    found = await segments.page(session, before=before[0] if before else None, limit=limit + 1)
    return paging.page_of(found, limit=limit, key=lambda segment: (segment.id,))


@get("/segments/{segment_id:uuid}", scopes={"contacts:read"}, problems=(SegmentNotFound,), headers=("ETag",))
async def get_segment(session: Session, segment_id: FromPath[UUID]) -> Response[Segment]:
    """Read a segment, also when it has been archived."""
    segment = await segments.get(session, segment_id=segment_id)
    return Response(segment, headers=etag(segment.version))


@patch(
    "/segments/{segment_id:uuid}",
    scopes={"contacts:write"},
    problems=(SegmentNotFound, SegmentArchived, InvalidCondition, ProgramNotFound, SegmentNameTaken),
    headers=("ETag",),
)
async def change_segment(
    session: Session, segment_id: FromPath[UUID], data: SegmentPatch, now: datetime, if_match: IfMatch = None
) -> Response[Segment]:
    """Change a segment; with another condition it is evaluated anew."""
    segment = await segments.change(
        session, vocabulary=VOCABULARY, segment_id=segment_id, changes=data.changes(), version=version_of(if_match),
        now=now,
    )  # fmt: skip
    return Response(segment, headers=etag(segment.version))


@delete("/segments/{segment_id:uuid}", scopes={"contacts:write"}, problems=(SegmentNotFound,))
async def archive_segment(
    session: Session, segment_id: FromPath[UUID], now: datetime, if_match: IfMatch = None
) -> None:
    """Archive a segment.

    For conditions nobody is in it any more, and its name is free for another.
    """
    await segments.archive(session, segment_id=segment_id, version=version_of(if_match), now=now)


@post(
    "/segments/{segment_id:uuid}/evaluation",
    scopes={"contacts:write"},
    status_code=202,
    problems=(SegmentNotFound, SegmentArchived),
)
async def evaluate_segment(
    session: Session, segment_id: FromPath[UUID], now: datetime, once: idempotency.Request | None
) -> Evaluation:
    """Evaluate a segment now, in the background."""
    await idempotency.begin(session, request=once)
    evaluation = await segments.request(session, segment_id=segment_id, now=now)
    await idempotency.keep(session, request=once, contact_id=None, result=evaluation, now=now, status=202)
    return evaluation


@get("/segments/{segment_id:uuid}/evaluation", scopes={"contacts:read"}, problems=(SegmentNotFound,))
async def get_segment_evaluation(session: Session, segment_id: FromPath[UUID]) -> Evaluation:
    """Read how far the evaluation of a segment is."""
    return await segments.evaluation(session, segment_id=segment_id)


@get("/segments/{segment_id:uuid}/members", scopes={"contacts:read"}, problems=(SegmentNotFound,))
async def list_segment_members(
    session: Session, segment_id: FromPath[UUID], cursor: Cursor = None, limit: Limit = 50
) -> Page[Contact]:
    """List the contacts in a segment, the newest contact first."""
    before = paging.decode(cursor, UUID)
    found = await segments.members(
        session, segment_id=segment_id, before=before[0] if before else None, limit=limit + 1
    )
    return paging.page_of(found, limit=limit, key=lambda contact: (contact.id,))


@get("/contacts/{contact_id:uuid}/segments", scopes={"contacts:read"}, problems=(ContactNotFound,))
async def list_segments_of_contact(
    session: Session, contact_id: FromPath[ContactId], cursor: Cursor = None, limit: Limit = 50
) -> Page[SegmentOfContact]:
    """List the segments that a contact is in, newest first."""
    before = paging.decode(cursor, UUID)
    found = await segments.of_contact(
        session, contact_id=contact_id, before=before[0] if before else None, limit=limit + 1
    )
    return paging.page_of(found, limit=limit, key=lambda segment: (segment.id,))


handlers = [
    create_segment, preview_segment, list_segments, get_segment, change_segment, archive_segment, evaluate_segment,
    get_segment_evaluation, list_segment_members, list_segments_of_contact,
]  # fmt: skip
