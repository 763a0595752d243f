"""How playbooks are described in requests: triggers, steps and limits. What they mean, see `crm.playbooks`."""

import datetime as dt
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from crm.api.conditions import ConditionBody
from crm.api.messages import ApprovedTemplate
from crm.api.schemas import Body, Code, Line, Patch, Points, Text, either
from crm.care.casework import Priority
from crm.contacts.consents import NAME
from crm.playbooks.definitions import STEPS_MAX
from crm.playbooks.ready_made import Key, Language


def _local(value: dt.time) -> dt.time:
    if value.tzinfo is not None:
        raise PydanticCustomError("local_time", 'must be a time of the clock on the wall, such as "21:00"')
    return value


Name = Annotated[str, StringConstraints(pattern=rf"^{NAME}$")]
Days = Annotated[int, Field(ge=1, le=3_650)]
Time = Annotated[
    dt.time,
    Field(strict=False),
    AfterValidator(_local),
    WithJsonSchema({"type": "string", "pattern": r"^([01]\d|2[0-3]):[0-5]\d$", "examples": ["21:00"]}),
]
Channels = Annotated[list[Name], Field(min_length=1, max_length=5, description="The first on which it may go.")]


def _worded(value: str) -> str:
    if not value.strip():
        raise PydanticCustomError("blank", "must not be blank")
    return value


_LANGUAGE = r"^[a-z]{2,3}$"
_Language = Annotated[str, StringConstraints(pattern=_LANGUAGE)]


def _by_language(length_max: int, description: str) -> WithJsonSchema:
    return WithJsonSchema({
        "type": "object", "description": description, "minProperties": 1, "maxProperties": 20,
        "propertyNames": {"pattern": _LANGUAGE},
        "additionalProperties": {
            "type": "string", "minLength": 1, "maxLength": length_max, "pattern": r"^[^\x00]*[^\s\x00][^\x00]*$",
        },
    })  # fmt: skip


Texts = Annotated[
    dict[_Language, Annotated[Text, AfterValidator(_worded), Field(max_length=4_096)]],
    Field(min_length=1, max_length=20),
    _by_language(4_096, "By language, in Liquid, as in message templates: such as {{ contact.given_name }}."),
]
Subjects = Annotated[
    dict[_Language, Line], Field(min_length=1, max_length=20), _by_language(200, "Of a mail, by language.")
]
_Grammar = Annotated[
    dict[str, Any], WithJsonSchema({"type": "object", "description": "A condition, of the grammar of `condition`."})
]


class InteractionTriggerBody(Body):
    """Whenever something of this kind happens with a contact.

    What playbooks themselves brought about is none, unless `from_playbooks` says so.
    """

    kind: Literal["interaction"]
    interaction: Code
    where: _Grammar | None = None
    from_playbooks: bool = False


class DateTriggerBody(Body):
    """A day of the contact's year, by their own clock: of their birth, or of their joining the program.

    With `offset_days` so many days after it, or before it where negative.
    """

    kind: Literal["date"]
    date: Literal["birthday", "anniversary"]
    offset_days: Annotated[int, Field(ge=-180, le=180)] = 0


class InactivityTriggerBody(Body):
    """The day on which the last of these interactions is so many days past."""

    kind: Literal["inactivity"]
    days: Days
    interactions: list[Code] = Field(default=["purchase"], min_length=1, max_length=20)


class TierTriggerBody(Body):
    """A tier that is reached or lost; without a name, any."""

    kind: Literal["tier"]
    change: Literal["reached", "lost"]
    tier: Line | None = None


class PointsExpiringTriggerBody(Body):
    """The day that is so many days before at least so many points end."""

    kind: Literal["points_expiring"]
    days: Annotated[int, Field(ge=0, le=365)]
    points_min: Points = 1


class SegmentTriggerBody(Body):
    """A segment that is entered or left."""

    kind: Literal["segment"]
    change: Literal["entered", "left"]
    segment_id: UUID


TriggerBody = Annotated[
    InteractionTriggerBody
    | DateTriggerBody
    | InactivityTriggerBody
    | TierTriggerBody
    | PointsExpiringTriggerBody
    | SegmentTriggerBody,
    Field(discriminator="kind"),
]


class MessageStepBody(Body):
    """A message to the contact, if they allow this purpose on one of the channels, outside of quiet hours.

    In `texts` of its own, or in the words of a message template, whose variables are among those that playbooks have.
    The `provider_template` goes where the channel lets nothing else pass.
    """

    model_config = either({"texts": "object", "template_id": "string"})

    kind: Literal["message"]
    channels: Channels
    texts: Texts | None = None
    template_id: UUID | None = None
    subjects: Subjects | None = None
    purpose: Name = "marketing"
    provider_template: ApprovedTemplate | None = None


class SurveyStepBody(Body):
    """An invitation to a survey; the text has {{ survey_path }}, behind the address of the service."""

    kind: Literal["survey"]
    survey_id: UUID
    channels: Channels
    texts: Texts
    subjects: Subjects | None = None
    purpose: Name = "marketing"
    provider_template: ApprovedTemplate | None = None


class PointsStepBody(Body):
    """Points as a present."""

    kind: Literal["points"]
    points: Points
    reason: Line


class OfferStepBody(Body):
    """An offer, which then names the contact."""

    kind: Literal["offer"]
    offer_id: UUID


class TaskStepBody(Body):
    """Something for somebody of yours to do."""

    kind: Literal["task"]
    title: Line
    note: Annotated[str, StringConstraints(max_length=5_000, pattern=r"^[^\x00]*$")] | None = None
    assignee: Line | None = None
    due_days: Annotated[int, Field(ge=0, le=365)] | None = None


class CaseStepBody(Body):
    """A case, with its clocks, as the rules for cases give it to somebody."""

    kind: Literal["case"]
    subject: Line
    description: Text | None = None
    category: Code | None = None
    priority: Priority = "normal"


class TagStepBody(Body):
    """A tag that is put on the contact, or taken off."""

    kind: Literal["tag"]
    tag: Annotated[Line, Field(max_length=64)]
    remove: bool = False


class WaitStepBody(Body):
    """Time before the next step."""

    kind: Literal["wait"]
    seconds: Annotated[int, Field(ge=60, le=366 * 86_400)]


StepBody = Annotated[
    MessageStepBody
    | SurveyStepBody
    | PointsStepBody
    | OfferStepBody
    | TaskStepBody
    | CaseStepBody
    | TagStepBody
    | WaitStepBody,
    Field(discriminator="kind"),
]
Steps = Annotated[list[StepBody], Field(min_length=1, max_length=STEPS_MAX)]


class StopBody(Body):
    """When a run ends early: the condition holds, or one of these has happened since it began."""

    condition: _Grammar | None = None
    interactions: list[Code] = Field(default=[], max_length=20)


class RunCapBody(Body):
    """At most so many runs for one contact within so many days."""

    runs_max: Annotated[int, Field(ge=1, le=1_000)]
    days: Days


class MessagesCapBody(Body):
    """No message where all playbooks together have sent the contact so many within so many days."""

    messages_max: Annotated[int, Field(ge=1, le=1_000)] = 3
    days: Days = 7


class QuietHoursBody(Body):
    """From when until when nothing is sent, by the contact's clock."""

    begin: Time
    end: Time


class NewPlaybook(Body):
    """A playbook, or one that is `template`, in which all that is given here stands in place of what it has.

    Without a template, a name, a trigger and steps are needed.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {"required": ["template"], "properties": {"template": {"type": "string"}}},
                {
                    "required": ["name", "trigger", "steps"],
                    "properties": {name: {"not": {"type": "null"}} for name in ("name", "trigger", "steps")},
                },
            ]
        }
    )

    template: Key | None = None
    language: Annotated[Language, Field(description="In which a template is worded for staff.")] = "id"
    name: Line | None = None
    description: Text | None = None
    program_id: UUID | None = None
    trigger: TriggerBody | None = None
    condition: ConditionBody | None = None
    steps: Steps | None = None
    stop: StopBody | None = None
    cap: RunCapBody | None = None
    messages_cap: MessagesCapBody | None = None
    quiet_hours: QuietHoursBody | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.template is None and not (self.name and self.trigger and self.steps):
            raise PydanticCustomError("incomplete", "name a template, or give a name, a trigger and steps")
        return self


class PlaybookPatch(Patch):
    """What can change. Runs that have begun go on as they were."""

    name: Line | None = None
    description: Text | None = None
    status: Literal["active", "paused"] | None = None
    program_id: UUID | None = None
    trigger: TriggerBody | None = None
    condition: ConditionBody | None = None
    steps: Steps | None = None
    stop: StopBody | None = None
    cap: RunCapBody | None = None
    messages_cap: MessagesCapBody | None = None
    quiet_hours: QuietHoursBody | None = None

    not_nullable = frozenset({"name", "status", "trigger", "steps", "messages_cap"})


class NewDryRun(Body):
    """How much of a dry run to show, and from where on."""

    limit: Annotated[int, Field(ge=1, le=200)] = 50
    cursor: Annotated[str, StringConstraints(max_length=500)] | None = None


def given(body: Body, *, but: frozenset[str] = frozenset()) -> dict[str, Any]:
    """What was given, null included, as JSON."""
    return {
        name: value
        for name, value in body.model_dump(mode="json", by_alias=True).items()
        if name in body.model_fields_set and name not in but
    }
