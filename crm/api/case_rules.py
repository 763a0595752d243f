"""`/v1/case-rules`: which messages become cases."""

from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from litestar import Response
from litestar.params import FromPath
from pydantic import Field

from crm.api import paging
from crm.api.cases import Category, Names, NewAssignment
from crm.api.conditions import ConditionBody
from crm.api.etags import IfMatch, etag, version_of
from crm.api.interactions import Channel
from crm.api.paging import Cursor, Limit, Page
from crm.api.routes import get, patch, post
from crm.api.schemas import Body, Line, Patch
from crm.api.sla_policies import Position, place
from crm.care import case_rules
from crm.care.case_rules import Action, Assignment, CaseRule, CaseRuleNotFound, StaleCaseRule, TooManyCaseRules
from crm.care.casework import Priority
from crm.contacts.conditions import InvalidCondition
from crm.db import idempotency
from crm.db.session import Session
from crm.vocabulary import VOCABULARY

KEYWORDS_MAX: Final = 50

Channels = Annotated[list[Channel], Field(max_length=20)]
Accounts = Annotated[list[UUID], Field(max_length=100)]
Keywords = Annotated[list[Line], Field(max_length=KEYWORDS_MAX, description="Whole words, however they are written.")]


class NewCaseRule(Body):
    """Which messages of customers become cases, and of what kind; or which never do.

    It is about messages that belong to no open case, and are not older than a week when they are recorded.

    Conditions may ask `message.channel`, `message.account_id`, `message.subject`, `message.body` and
    `message.new_thread` besides the fields of contacts and `open_cases`.
    """

    name: Line
    position: Position = 100
    action: Action = "open_case"
    channels: Annotated[Channels, Field(default_factory=list)]
    account_ids: Annotated[Accounts, Field(default_factory=list)]
    keywords: Annotated[Keywords, Field(default_factory=list)]
    new_thread_only: bool = False
    condition: ConditionBody | None = None
    category: Category | None = None
    priority: Priority = "normal"
    tags: Annotated[Names, Field(default_factory=list)]
    assignment: NewAssignment | None = None


class CaseRulePatch(Patch):
    """What can change, for the messages that come from now on."""

    name: Line | None = None
    position: Position | None = None
    action: Action | None = None
    channels: Channels | None = None
    account_ids: Accounts | None = None
    keywords: Keywords | None = None
    new_thread_only: bool | None = None
    condition: ConditionBody | None = None
    category: Category | None = None
    priority: Priority | None = None
    tags: Names | None = None
    assignment: NewAssignment | None = None
    status: Literal["active", "archived"] | None = None

    not_nullable = frozenset({
        "name", "position", "action", "channels", "account_ids", "keywords", "new_thread_only", "priority", "tags",
        "status",
    })  # fmt: skip


@post("/case-rules", scopes={"care:write"}, problems=(InvalidCondition, TooManyCaseRules), headers=("ETag", "Location"))
async def create_case_rule(
    session: Session, data: NewCaseRule, now: datetime, once: idempotency.Request | None
) -> Response[CaseRule]:
    """Create a case rule, for the messages that come from now on."""
    await idempotency.begin(session, request=once)
    definition = _rule({name: getattr(data, name) for name in NewCaseRule.model_fields})
    rule = await case_rules.create(session, vocabulary=VOCABULARY, definition=definition, once=once, now=now)
    return Response(rule, headers=etag(rule.version) | {"Location": f"/v1/case-rules/{rule.id}"})


@get("/case-rules", scopes={"care:read"})
async def list_case_rules(session: Session, cursor: Cursor = None, limit: Limit = 50) -> Page[CaseRule]:
    """List case rules in the order in which they are tried."""
    after = paging.decode(cursor, int, UUID)
    found = await case_rules.page(session, after=place(after), limit=limit + 1)
    return paging.page_of(found, limit=limit, key=lambda rule: (rule.position, rule.id))


@get("/case-rules/{rule_id:uuid}", scopes={"care:read"}, problems=(CaseRuleNotFound,), headers=("ETag",))
async def get_case_rule(session: Session, rule_id: FromPath[UUID]) -> Response[CaseRule]:
    """Read a case rule."""
    rule = await case_rules.get(session, rule_id=rule_id)
    return Response(rule, headers=etag(rule.version))


@patch(
    "/case-rules/{rule_id:uuid}",
    scopes={"care:write"},
    problems=(CaseRuleNotFound, StaleCaseRule, InvalidCondition),
    headers=("ETag",),
)
async def update_case_rule(
    session: Session, rule_id: FromPath[UUID], data: CaseRulePatch, now: datetime, if_match: IfMatch = None
) -> Response[CaseRule]:
    """Change a case rule."""
    changes = _rule({name: getattr(data, name) for name in data.model_fields_set})
    rule = await case_rules.update(
        session, vocabulary=VOCABULARY, rule_id=rule_id, changes=changes, version=version_of(if_match), now=now
    )
    return Response(rule, headers=etag(rule.version))


def _rule(given: dict[str, Any]) -> dict[str, Any]:
    if given.get("assignment") is not None:
        wish = given["assignment"]
        given["assignment"] = Assignment(wish.mode, wish.agent, wish.team, list(wish.skills))
    if "account_ids" in given:
        given["account_ids"] = [str(account_id) for account_id in given["account_ids"]]
    return given


handlers = [create_case_rule, list_case_rules, get_case_rule, update_case_rule]
