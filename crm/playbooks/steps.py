"""The steps of a playbook, each carried out for one contact who is locked: what came of it, or why nothing did."""

from collections.abc import Mapping
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
from crm.inbox import outbound, templates
from crm.inbox.clearance import WindowClosed
from crm.inbox.house import House
from crm.inbox.outbound import Draft, OutboundMessage
from crm.interactions import people
from crm.interactions.channels.outgoing import ProviderTemplate
from crm.loyalty import journal, ledger, offers, recipients, referrals
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
    values, asked = {}, {}
    if isinstance(step, SurveyStep):
        invited = await invitations.invite(
            session, survey_id=step.survey_id, contact_id=contact.id, locale=contact.locale, by=doing.by, now=doing.now
        )
        values, asked = {"survey_path": invited.path}, {"invitation_id": invited.id}
    message = await _send(session, step, doing, contact, await _values(session, step, doing, contact) | values)
    return Done({"message_id": message.id, "channel": message.channel, **asked})


async def _send(
    session: Session, step: Speaking, doing: Doing, contact: Contact, values: Mapping[str, str]
) -> OutboundMessage:
    """Send it on the first channel on which it may go; else raise why it may not on the first."""
    first: CrmError | None = None
    text = None if step.texts is None else wording.filled(wording.spoken(step.texts, contact.locale), values)
    template_id = step.template_id if isinstance(step, MessageStep) else None
    variables = {} if template_id is None else await _variables(session, template_id, values)
    subject = None if step.subjects is None else wording.filled(wording.spoken(step.subjects, contact.locale), values)
    template = None
    if step.provider_template is not None:
        kept = step.provider_template
        parameters = tuple(wording.filled(one, values) for one in kept.parameters)
        template = ProviderTemplate(name=kept.name, language=kept.language, parameters=parameters)
    for channel in step.channels:
        for late in (None, template) if template is not None else (None,):
            draft = Draft(
                text=text, subject=subject, template_id=template_id, variables=variables, channel=channel,
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


async def _variables(session: Session, template_id: UUID, values: Mapping[str, str]) -> dict[str, str]:
    """What a template asks for, of what there is."""
    template = await templates.get(session, template_id=template_id)
    return {name: values[name] for name in template.variables if name in values}


async def _values(session: Session, step: Speaking, doing: Doing, contact: Contact) -> dict[str, str]:
    """What stands for the placeholders that the step has; nothing else is looked up."""
    words = [*(step.texts or {}).values(), *(step.subjects or {}).values()]
    if step.provider_template is not None:
        words += step.provider_template.parameters
    wanted = {name for text in words for name in wording.placeholders(text)}
    if isinstance(step, MessageStep) and step.template_id is not None:
        wanted |= set((await templates.get(session, template_id=step.template_id)).variables)
    values = {"name": contact.name, "given_name": contact.given_name or contact.name}
    values |= {name: str(doing.data[name]) for name in wording.OF_EXPIRY if name in doing.data}
    program_id = doing.definition.program_id
    if wanted & {"points", "tier"}:
        found = await journal.read(session, program_id=program_id, contact_id=contact.id, now=doing.now)
        tier = found.book.standing().current
        values |= {"points": str(found.book.available), "tier": "" if tier is None else tier.name}
    if "referral_code" in wanted:
        code = await referrals.code_of(session, program_id=program_id, contact_id=contact.id, now=doing.now)
        values["referral_code"] = code.code
    return values
