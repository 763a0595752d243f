"""The steps of a playbook, each carried out for one contact who is locked: what came of it, or why nothing did."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from crm.care import cases, invitations, tasks
from crm.contacts import contacts
from crm.contacts.contacts import Contact
from crm.contacts.vocabulary import Vocabulary
from crm.db.session import Session
from crm.errors import Conflict, CrmError
from crm.inbox import outbound, personalization, templates
from crm.inbox import wording as liquid
from crm.inbox.clearance import WindowClosed
from crm.inbox.house import House
from crm.inbox.outbound import Draft, OutboundMessage
from crm.interactions import people
from crm.interactions.channels.outgoing import ProviderTemplate
from crm.loyalty import ledger, offers, recipients, referrals
from crm.loyalty.ledger import Award
from crm.playbooks import runs, wording
from crm.playbooks.definitions import (
    CaseStep,
    Definition,
    MessageStep,
    OfferStep,
    PointsStep,
    Speaking,
    Step,
    SurveyStep,
    TagStep,
    TaskStep,
    WaitStep,
)

MESSAGE_CAP: Final = "message_cap"
_SPOKEN: Final = """
    SELECT count(*) FROM playbook_steps
    WHERE contact_id = $1 AND outcome = 'taken' AND kind IN ('message', 'survey') AND at > $2
"""


class OfferNotOpen(Conflict):
    code = "offer_not_open"
    title = "The offer is nobody's any more"


@dataclass(frozen=True, slots=True)
class Doing:
    """For whom a step is taken, and in which run."""

    contact_id: UUID
    run_id: UUID
    position: int
    definition: Definition
    data: Mapping[str, Any]
    vocabulary: Vocabulary
    house: House
    now: datetime

    @property
    def by(self) -> str:
        """What the books say about who did it."""
        return f"{runs.BY}{self.run_id}"

    @property
    def key(self) -> str:
        """The natural key of what the step makes: there is one such thing for good."""
        return f"{runs.BY}{self.run_id}:{self.position}"


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a step, or why it was skipped; and how long to wait after it."""

    data: Mapping[str, Any] = field(default_factory=dict)
    skipped: str | None = None
    wait: timedelta = timedelta(0)


async def take(session: Session, *, step: Step, doing: Doing) -> Done:
    """Carry a step out; a refusal of what it asks for is why it is skipped, and leaves nothing behind."""
    try:
        async with session.savepoint():
            return await _take(session, step, doing)
    except CrmError as refusal:
        return Done({"detail": refusal.detail}, skipped=refusal.code)


async def _take(session: Session, step: Step, doing: Doing) -> Done:
    match step:
        case MessageStep() | SurveyStep():
            return await _speak(session, step, doing)
        case PointsStep():
            return await _award(session, step, doing)
        case OfferStep():
            return await _offer(session, step, doing)
        case TaskStep():
            return await _task(session, step, doing)
        case CaseStep():
            return await _case(session, step, doing)
        case TagStep():
            edit = people.remove_tag if step.remove else people.add_tag
            await edit(session, contact_id=doing.contact_id, tag=step.tag, by=doing.by, now=doing.now)
            return Done({"tag": step.tag, "removed": step.remove})
        case WaitStep():
            return Done({"until": doing.now + step.span}, wait=step.span)


async def _award(session: Session, step: PointsStep, doing: Doing) -> Done:
    # That the step is done is written down in the same transaction, and so are the points, once.
    award = Award(doing.contact_id, step.points, step.reason, place={"natural_key": doing.key})
    posted = await ledger.award(
        session, program_id=doing.definition.program_id, award=award, by=doing.by, once=None, now=doing.now
    )
    return Done({"points": step.points, "transaction_id": posted.transaction_id})


async def _offer(session: Session, step: OfferStep, doing: Doing) -> Done:
    program_id = await offers.begin_claim(session, offer_id=step.offer_id)
    if program_id is None:
        raise OfferNotOpen("There is no such offer any more.")
    offer = await offers.get(session, program_id=program_id, offer_id=step.offer_id)
    if offer.status != "active":
        raise OfferNotOpen(f"It is {offer.status}.")
    code = await recipients.add(
        session, program_id=program_id, offer_id=offer.id, contact_id=doing.contact_id,
        personal_code=offer.personal_code, facts={"offer_id": offer.id, "program_id": program_id, "name": offer.name},
        by=doing.by, now=doing.now,
    )  # fmt: skip
    return Done({"offer_id": offer.id, **({} if code is None else {"code": code})})


async def _task(session: Session, step: TaskStep, doing: Doing) -> Done:
    due_at = None if step.due_days is None else doing.now + timedelta(days=step.due_days)
    task, _ = await tasks.create(
        session, contact_id=doing.contact_id, title=step.title, note=step.note, due_at=due_at, assignee=step.assignee,
        natural_key=doing.key, by=doing.by, now=doing.now,
    )  # fmt: skip
    return Done({"task_id": task.id})


async def _case(session: Session, step: CaseStep, doing: Doing) -> Done:
    # As with points: that the step is done is written down in the same transaction, and so is the case, once.
    draft = cases.Draft(
        subject=step.subject, description=step.description, category=step.category, priority=step.priority
    )
    case = await cases.create(
        session, vocabulary=doing.vocabulary, contact_id=doing.contact_id, draft=draft, by=doing.by, now=doing.now
    )
    return Done({"case_id": case.id})


async def _speak(session: Session, step: Speaking, doing: Doing) -> Done:
    cap = doing.definition.messages_cap
    since = doing.now - timedelta(days=cap.days)
    if await session.fetchval(_SPOKEN, doing.contact_id, since) >= cap.messages_max:
        return Done(skipped=MESSAGE_CAP)
    contact = await contacts.get(session, contact_id=doing.contact_id)
    values: dict[str, Any] = {}
    asked: dict[str, Any] = {}
    if isinstance(step, SurveyStep):
        invited = await invitations.invite(
            session, survey_id=step.survey_id, contact_id=contact.id, locale=contact.locale, by=doing.by, now=doing.now
        )
        values, asked = {wording.SURVEY_PATH: invited.path}, {"invitation_id": invited.id}
    message = await _send(session, step, doing, contact, values)
    return Done({"message_id": message.id, "channel": message.channel, **asked})


async def _send(
    session: Session, step: Speaking, doing: Doing, contact: Contact, variables: Mapping[str, Any]
) -> OutboundMessage:
    """Send it on the first channel on which it may go; else raise why it may not on the first."""
    first: CrmError | None = None
    template_id = step.template_id if isinstance(step, MessageStep) else None
    ours = () if template_id is None else (await templates.get(session, template_id=template_id)).variables
    language, sources = _sources(step, contact.locale)
    asked = liquid.asked(sources.values())
    variables = {**variables, **await _variables(session, doing, asked | set(ours))}
    known = await personalization.known(
        session, contact=contact, language=language, asked=asked, program_id=doing.definition.program_id, now=doing.now
    )
    known |= variables
    words = {pointer: liquid.fill(source, known=known, pointer=pointer) for pointer, source in sources.items()}
    text, subject = words.get("/text"), words.get("/subject")
    template = None
    if step.provider_template is not None:
        kept = step.provider_template
        parameters = tuple(words[f"/parameters/{place}"] for place in range(len(kept.parameters)))
        template = ProviderTemplate(name=kept.name, language=kept.language, parameters=parameters)
    for channel in step.channels:
        for late in (None, template) if template is not None else (None,):
            draft = Draft(
                text=text, subject=subject, template_id=template_id, channel=channel,
                variables={name: variables[name] for name in ours if name in variables},
                purpose=step.purpose, provider_template=late,
            )  # fmt: skip
            try:
                async with session.savepoint():
                    message, _ = await outbound.send(
                        session, contact_id=contact.id, draft=draft, house=doing.house, by=doing.by,
                        natural_key=doing.key, now=doing.now,
                    )  # fmt: skip
            except CrmError as refusal:
                first = first or refusal
                # What the provider has approved may go where nothing else may any more.
                if not isinstance(refusal, WindowClosed):
                    break
            else:
                return message
    assert first is not None, "a step has a channel"
    raise first


def _sources(step: Speaking, locale: str | None) -> tuple[str, dict[str, str]]:
    """In which language a step speaks to somebody, and its words before they are filled in."""
    sources = {}
    language = templates.language_of(locale, [*(step.texts or step.subjects or {templates.LANGUAGE: ""})])
    for member, words in (("/text", step.texts), ("/subject", step.subjects)):
        if words:
            sources[member] = words[templates.language_of(locale, [*words])]
    if step.provider_template is not None:
        sources |= {f"/parameters/{place}": one for place, one in enumerate(step.provider_template.parameters)}
    return language, sources


async def _variables(session: Session, doing: Doing, asked: AbstractSet[str]) -> dict[str, Any]:
    """What there is of what the words ask for, beside contact and loyalty."""
    found: dict[str, Any] = {name: str(doing.data[name]) for name in wording.OF_EXPIRY if name in doing.data}
    if wording.REFERRAL_CODE in asked:
        code = await referrals.code_of(
            session, program_id=doing.definition.program_id, contact_id=doing.contact_id, now=doing.now
        )
        found[wording.REFERRAL_CODE] = code.code
    return found
