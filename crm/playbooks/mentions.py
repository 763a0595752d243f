"""What a definition names, such as a segment, a survey or an offer: all of it has to be there."""

from uuid import UUID

from crm.care import surveys
from crm.care.surveys import SurveyNotFound
from crm.contacts import segments, tags
from crm.contacts.segments import SegmentNotFound
from crm.db.session import Session
from crm.errors import FieldError
from crm.inbox import templates
from crm.inbox.templates import TemplateNotFound
from crm.loyalty import offers
from crm.loyalty.offers import OfferNotFound
from crm.playbooks import definitions
from crm.playbooks.definitions import (
    Definition,
    MessageStep,
    OfferStep,
    SegmentTrigger,
    SurveyStep,
    TagStep,
    TierTrigger,
)


async def missing(session: Session, *, definition: Definition) -> list[FieldError]:
    """What is named and is not there, or can't be used."""
    program_id = await program_of(session, definition=definition)
    found: list[FieldError | None] = []
    match definition.trigger:
        case SegmentTrigger():
            found.append(await _segment(session, definition.trigger))
        case TierTrigger(tier=str(name)):
            found.append(await _tier(session, name, program_id))
    for place, step in enumerate(definition.steps):
        match step:
            case MessageStep(template_id=UUID()):
                found.append(await _template(session, definition, step, place))
            case SurveyStep():
                found.append(await _survey(session, step, place))
            case OfferStep():
                found.append(await _offer(session, step, place, program_id))
            case TagStep():
                found.append(_tag(step, place))
    return [error for error in found if error is not None]


async def program_of(session: Session, *, definition: Definition) -> UUID | None:
    """The program that a definition is about: its own, else the default one, if there is any."""
    if definition.program_id is not None:
        return definition.program_id
    found: UUID | None = await session.fetchval("SELECT id FROM programs WHERE is_default")
    return found


async def _segment(session: Session, trigger: SegmentTrigger) -> FieldError | None:
    try:
        segment = await segments.get(session, segment_id=trigger.segment_id)
    except SegmentNotFound:
        return FieldError("/trigger/segment_id", "segment_not_found", "is no segment")
    if segment.archived_at is not None:
        return FieldError("/trigger/segment_id", "segment_archived", "is a segment that was archived")
    return None


async def _tier(session: Session, name: str, program_id: UUID | None) -> FieldError | None:
    query = "SELECT EXISTS (SELECT FROM tiers WHERE program_id = $1 AND name = $2)"
    if await session.fetchval(query, program_id, name):
        return None
    return FieldError("/trigger/tier", "unknown_tier", "is no tier of the program")


async def _template(session: Session, definition: Definition, step: MessageStep, place: int) -> FieldError | None:
    assert step.template_id is not None, "that is what was asked for"
    pointer = f"/steps/{place}/template_id"
    try:
        template = await templates.get(session, template_id=step.template_id)
    except TemplateNotFound:
        return FieldError(pointer, "template_not_found", "is no template")
    if unknown := sorted(set(template.variables) - definitions.variables_of(definition)):
        said = f"is a template with variables that nobody fills here: {', '.join(unknown)}"
        return FieldError(pointer, "unknown_variable", said)
    return None


async def _survey(session: Session, step: SurveyStep, place: int) -> FieldError | None:
    pointer = f"/steps/{place}/survey_id"
    try:
        survey = await surveys.get(session, survey_id=step.survey_id)
    except SurveyNotFound:
        return FieldError(pointer, "survey_not_found", "is no survey")
    return None if survey.status == "active" else FieldError(pointer, "survey_archived", "is a survey nobody is asked")


async def _offer(session: Session, step: OfferStep, place: int, program_id: UUID | None) -> FieldError | None:
    pointer = f"/steps/{place}/offer_id"
    try:
        offer = None if program_id is None else await offers.get(session, program_id=program_id, offer_id=step.offer_id)
    except OfferNotFound:
        offer = None
    if offer is None:
        return FieldError(pointer, "offer_not_found", "is no offer of the program")
    if offer.audience is not None and offer.audience.contacts_count is None:
        said = "is for those under its own condition: name people in its audience instead"
        return FieldError(pointer, "offer_names_nobody", said)
    return None


def _tag(step: TagStep, place: int) -> FieldError | None:
    try:
        tags.clean(step.tag)
    except tags.InvalidTag as refusal:
        return FieldError(f"/steps/{place}/tag", refusal.code, refusal.detail)
    return None
