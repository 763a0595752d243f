"""What a playbook is made of: a trigger, a condition, steps, when it stops, and how often it may. Pure.

A definition is kept as JSON and read into these types whenever it is used.
"""

from collections.abc import Iterator, Mapping
from datetime import time, timedelta
from typing import Any, Final, Literal, TypeAlias
from uuid import UUID

import msgspec

from crm.care.casework import Priority
from crm.contacts.conditions import Condition, Did
from crm.contacts.vocabulary import Vocabulary
from crm.errors import FieldError, Invalid
from crm.inbox.wording import asked, wrong
from crm.playbooks import wording

STEPS_MAX: Final = 20
OWN_KINDS: Final = "playbook."
"""How the kinds of interactions begin that tell what playbooks did."""


class InvalidPlaybook(Invalid):
    code = "invalid_playbook"
    title = "This playbook can't be carried out"


class InteractionTrigger(msgspec.Struct, frozen=True, tag_field="kind", tag="interaction"):
    """An interaction of this kind; what playbooks themselves brought about only with `from_playbooks`."""

    interaction: str
    where: Mapping[str, Any] | None = None
    from_playbooks: bool = False


class DateTrigger(msgspec.Struct, frozen=True, tag_field="kind", tag="date"):
    """A day of the contact's year by the contact's own clock, or so many days after it; before it, where negative."""

    date: Literal["birthday", "anniversary"]
    offset_days: int = 0


class InactivityTrigger(msgspec.Struct, frozen=True, tag_field="kind", tag="inactivity"):
    """The day on which the last interaction of these kinds lies so many days back."""

    days: int
    interactions: tuple[str, ...] = ("purchase",)


class TierTrigger(msgspec.Struct, frozen=True, tag_field="kind", tag="tier"):
    """A tier that was reached or lost; without a name, any."""

    change: Literal["reached", "lost"]
    tier: str | None = None


class ExpiryTrigger(msgspec.Struct, frozen=True, tag_field="kind", tag="points_expiring"):
    """The day that is so many days before the one on which at least so many points end."""

    days: int
    points_min: int = 1


class SegmentTrigger(msgspec.Struct, frozen=True, tag_field="kind", tag="segment"):
    """A segment that was entered or left."""

    change: Literal["entered", "left"]
    segment_id: UUID


Followed: TypeAlias = InteractionTrigger | TierTrigger | SegmentTrigger
"""Triggers that the timeline tells of."""
Daily: TypeAlias = DateTrigger | InactivityTrigger | ExpiryTrigger
"""Triggers that a day brings."""
Trigger: TypeAlias = Followed | Daily


class ApprovedTemplate(msgspec.Struct, frozen=True):
    """A text that the provider has approved, for when nothing else may go; its parameters are worded as texts are."""

    name: str
    language: str
    parameters: tuple[str, ...] = ()


class MessageStep(msgspec.Struct, frozen=True, tag_field="kind", tag="message"):
    """A message on the first of these channels on which one may go, in the contact's language.

    In words of its own, or in those of a template of ours, whose variables are among those that playbooks have.
    """

    channels: tuple[str, ...]
    texts: Mapping[str, str] | None = None
    template_id: UUID | None = None
    subjects: Mapping[str, str] | None = None
    purpose: str = "marketing"
    provider_template: ApprovedTemplate | None = None


class SurveyStep(msgspec.Struct, frozen=True, tag_field="kind", tag="survey"):
    """An invitation to a survey; the text has its `{survey_path}`."""

    survey_id: UUID
    channels: tuple[str, ...]
    texts: Mapping[str, str]
    subjects: Mapping[str, str] | None = None
    purpose: str = "marketing"
    provider_template: ApprovedTemplate | None = None


class PointsStep(msgspec.Struct, frozen=True, tag_field="kind", tag="points"):
    points: int
    reason: str


class OfferStep(msgspec.Struct, frozen=True, tag_field="kind", tag="offer"):
    """The contact becomes one of those whom the offer names."""

    offer_id: UUID


class TaskStep(msgspec.Struct, frozen=True, tag_field="kind", tag="task"):
    title: str
    note: str | None = None
    assignee: str | None = None
    due_days: int | None = None


class CaseStep(msgspec.Struct, frozen=True, tag_field="kind", tag="case"):
    subject: str
    description: str | None = None
    category: str | None = None
    priority: Priority = "normal"


class TagStep(msgspec.Struct, frozen=True, tag_field="kind", tag="tag"):
    tag: str
    remove: bool = False


class WaitStep(msgspec.Struct, frozen=True, tag_field="kind", tag="wait"):
    seconds: int

    @property
    def span(self) -> timedelta:
        """How long."""
        return timedelta(seconds=self.seconds)


Speaking: TypeAlias = MessageStep | SurveyStep
Step: TypeAlias = MessageStep | SurveyStep | PointsStep | OfferStep | TaskStep | CaseStep | TagStep | WaitStep


class Stop(msgspec.Struct, frozen=True):
    """A run ends before its next step where the condition holds, or one of these kinds has happened since it began."""

    condition: Mapping[str, Any] | None = None
    interactions: tuple[str, ...] = ()


class Cap(msgspec.Struct, frozen=True):
    """How many runs one contact has within so many days."""

    runs_max: int
    days: int


class MessagesCap(msgspec.Struct, frozen=True):
    """How many messages all playbooks together have sent one contact within so many days, before this one sends."""

    messages_max: int = 3
    days: int = 7


class QuietSpan(msgspec.Struct, frozen=True):
    begin: time
    end: time


class Definition(msgspec.Struct, frozen=True):
    """All that a playbook does. Without quiet hours of its own, it keeps those of the place."""

    trigger: Trigger
    steps: tuple[Step, ...]
    program_id: UUID | None = None
    condition: Mapping[str, Any] | None = None
    stop: Stop | None = None
    cap: Cap | None = None
    messages_cap: MessagesCap = MessagesCap()
    quiet_hours: QuietSpan | None = None


MEMBERS: Final = Definition.__struct_fields__


def read(document: Mapping[str, Any]) -> Definition:
    """The definition in a document that was checked."""
    return msgspec.convert(document, Definition)


def name_of(step: Step) -> str:
    """The kind of a step, as it is called in JSON."""
    return str(type(step).__struct_config__.tag)


FOLLOWED: Final = frozenset(
    str(each.__struct_config__.tag) for each in (InteractionTrigger, TierTrigger, SegmentTrigger)
)
DAILY: Final = frozenset(str(each.__struct_config__.tag) for each in (DateTrigger, InactivityTrigger, ExpiryTrigger))


def check(definition: Definition, *, vocabulary: Vocabulary) -> None:
    """Find what can be found without looking anything up. Raises InvalidCondition, InvalidPlaybook."""
    conditions_of(definition, vocabulary)
    errors = [*_wrong_trigger(definition.trigger), *_wrong_words(definition)]
    if all(isinstance(step, WaitStep) for step in definition.steps):
        errors.append(FieldError("/steps", "nothing_to_do", "must have a step that does something"))
    if errors:
        raise InvalidPlaybook("`errors` says for each place what is wrong.", errors=errors)


def conditions_of(definition: Definition, vocabulary: Vocabulary) -> tuple[Condition | None, Condition | None]:
    """The condition, and the one of its stop. Raises InvalidCondition, also for what is wrong with the trigger's."""
    where_of(definition.trigger, vocabulary)
    condition = definition.condition
    stop = None if definition.stop is None else definition.stop.condition
    return (
        None if condition is None else vocabulary.condition_of(condition, pointer="/condition"),
        None if stop is None else vocabulary.condition_of(stop, pointer="/stop/condition"),
    )


def where_of(trigger: Trigger, vocabulary: Vocabulary) -> Condition | None:
    """What an interaction has to fulfil to be a trigger. Raises InvalidCondition."""
    if not isinstance(trigger, InteractionTrigger) or trigger.where is None:
        return None
    history = vocabulary.condition_of({"did": trigger.interaction, "where": trigger.where}, pointer="/trigger")
    assert isinstance(history, Did), "that is what was asked for"
    return history.where


def interactions_of(trigger: Followed) -> str:
    """The kind of interaction that a trigger waits for."""
    match trigger:
        case InteractionTrigger():
            return trigger.interaction
        case TierTrigger():
            return "tier.changed"
        case SegmentTrigger():
            return f"segment.{trigger.change}"


def _wrong_trigger(trigger: Trigger) -> Iterator[FieldError]:
    if not isinstance(trigger, InteractionTrigger) or trigger.from_playbooks:
        return
    if trigger.interaction.startswith(OWN_KINDS):
        said = "is what playbooks do themselves: say `from_playbooks`, if you mean it"
        yield FieldError("/trigger/interaction", "own_kind", said)


def variables_of(definition: Definition) -> set[str]:
    """What the words of messages can ask for besides contact and loyalty, but for what a survey has."""
    return {wording.REFERRAL_CODE, *(wording.OF_EXPIRY if isinstance(definition.trigger, ExpiryTrigger) else ())}


def _wrong_words(definition: Definition) -> Iterator[FieldError]:
    variables = variables_of(definition)
    for place, step in enumerate(definition.steps):
        if not isinstance(step, MessageStep | SurveyStep):
            continue
        if isinstance(step, MessageStep) and (step.texts is None) == (step.template_id is None):
            yield FieldError(f"/steps/{place}/texts", "texts_or_template", "must be given, or a template, and not both")
        sources = {f"/steps/{place}{pointer}": text for pointer, text in _texts(step)}
        if isinstance(step, MessageStep):
            yield from wrong(sources, variables=variables)
            continue
        errors = wrong(sources, variables={*variables, wording.SURVEY_PATH})
        yield from errors
        unread = {error.pointer for error in errors}
        for language, text in step.texts.items():
            pointer = f"/steps/{place}/texts/{language}"
            if pointer not in unread and wording.SURVEY_PATH not in asked([text]):
                yield FieldError(pointer, "no_link", "must have {{ survey_path }}, or nobody can answer")


def _texts(step: Speaking) -> Iterator[tuple[str, str]]:
    for member, words in (("texts", step.texts or {}), ("subjects", step.subjects or {})):
        for language, text in words.items():
            yield f"/{member}/{language}", text
    if step.provider_template is not None:
        for number, text in enumerate(step.provider_template.parameters):
            yield f"/provider_template/parameters/{number}", text
