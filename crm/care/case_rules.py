"""Case rules: which messages become cases, of what kind, and whose they are."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias
from uuid import UUID

import msgspec
from asyncpg import Record
from sqlalchemy import BigInteger, Boolean, Column, Integer, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from crm.care import matching
from crm.care.agents import Mode, Wish
from crm.care.casework import Priority
from crm.contacts.conditions import Condition, Facts
from crm.contacts.vocabulary import Vocabulary
from crm.db import idempotency, writes
from crm.db.ids import uuid7
from crm.db.session import Session
from crm.db.tables import Instant, metadata
from crm.db.writes import Insert, Update
from crm.errors import Conflict, NotFound, Stale

case_rules = Table(
    "case_rules",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("position", Integer, nullable=False),
    Column("action", Text, nullable=False),
    Column("channels", JSONB, nullable=False),
    Column("account_ids", JSONB, nullable=False),
    Column("keywords", JSONB, nullable=False),
    Column("new_thread_only", Boolean, nullable=False),
    Column("condition", JSONB),
    Column("category", Text),
    Column("priority", Text, nullable=False),
    Column("tags", JSONB, nullable=False),
    Column("assignment", JSONB),
    Column("status", Text, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
)

Action: TypeAlias = Literal["open_case", "ignore"]

RULES_MAX: Final = 200

_COLUMNS: Final = tuple(column.name for column in case_rules.columns)
_SELECTED: Final = ", ".join(_COLUMNS)


class CaseRuleNotFound(NotFound):
    code = "case_rule_not_found"
    title = "There is no such rule"


class TooManyCaseRules(Conflict):
    code = "too_many_case_rules"
    title = "There are too many rules"


class StaleCaseRule(Stale):
    title = "The rule has changed since you read it"


@dataclass(slots=True)
class Assignment:
    """Who gets the cases: an agent, or one of a team who has all of the skills."""

    mode: Mode
    agent: str | None = None
    team: str | None = None
    skills: list[str] | None = None

    def wish(self) -> Wish:
        """The same, for the agents to decide on."""
        return Wish(mode=self.mode, agent=self.agent, team=self.team, skills=tuple(self.skills or ()))


@dataclass(slots=True)
class CaseRule:
    """Says of messages from customers that belong to no open case what becomes of them.

    It is about those on one of the `channels` and of one of the accounts, that have one of the `keywords`, and of
    which the condition holds; what is empty asks nothing. Of the active rules that are about a message, the one with
    the lowest `position` applies.
    """

    id: UUID
    name: str
    position: int
    action: Action
    channels: list[str]
    account_ids: list[str]
    keywords: list[str]
    new_thread_only: bool
    condition: dict[str, Any] | None
    category: str | None
    priority: Priority
    tags: list[str]
    assignment: Assignment | None
    status: Literal["active", "archived"]
    version: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Judge:
    """The active rules, in their order, ready to be asked."""

    rules: tuple[tuple[CaseRule, Condition | None, re.Pattern[str] | None], ...]

    @property
    def asked(self) -> list[Condition]:
        """The conditions of the rules."""
        return [condition for _, condition, _ in self.rules if condition is not None]

    def judge(self, message: Mapping[str, Any], person: Facts, *, now: datetime) -> CaseRule | None:
        """The first rule that is about a message, by its fields `message.…`."""
        text = f"{message['message.subject'] or ''}\n{message['message.body'] or ''}"
        for rule, condition, keywords in self.rules:
            if (
                (not rule.channels or message["message.channel"] in rule.channels)
                and (not rule.account_ids or message["message.account_id"] in rule.account_ids)
                and (message["message.new_thread"] or not rule.new_thread_only)
                and (keywords is None or keywords.search(text))
                and matching.holds(condition, person, message, now=now)
            ):
                return rule
        return None


async def create(
    session: Session, *, vocabulary: Vocabulary, definition: Mapping[str, Any], once: idempotency.Request | None = None,
    now: datetime,
) -> CaseRule:  # fmt: skip
    """Make a rule, for the messages that come from now on. Raises InvalidCondition, TooManyCaseRules."""
    if await session.fetchval("SELECT count(*) FROM case_rules WHERE status = 'active'") >= RULES_MAX:
        raise TooManyCaseRules(f"{RULES_MAX} are kept at most; archive one that nobody needs.")
    rule = CaseRule(id=uuid7(), **definition, status="active", version=1, created_at=now, updated_at=now)
    rule.condition = await matching.to_keep(session, vocabulary, rule.condition, own=matching.MESSAGE)
    await writes.write(
        session,
        [
            Insert(case_rules, _COLUMNS, [_row(rule)]),
            *idempotency.answer(once, contact_id=None, result=rule, now=now),
        ],
    )
    return rule


async def update(
    session: Session,
    *,
    vocabulary: Vocabulary,
    rule_id: UUID,
    changes: Mapping[str, Any],
    version: int | None = None,
    now: datetime,
) -> CaseRule:
    """Change a rule. Raises CaseRuleNotFound, StaleCaseRule, InvalidCondition."""
    before = _view(
        await session.fetchrow(f"SELECT {_SELECTED} FROM case_rules WHERE id = $1 FOR NO KEY UPDATE", rule_id)
    )
    if version is not None and version != before.version:
        raise StaleCaseRule("Read it again, and send the new ETag in If-Match.", version=before.version)
    rule = replace(before, **changes)
    if rule == before:
        return before
    rule.condition = await matching.to_keep(session, vocabulary, rule.condition, own=matching.MESSAGE)
    rule.version, rule.updated_at = before.version + 1, now
    await writes.write(session, [Update(case_rules, _COLUMNS, [_row(rule)], 1)])
    return rule


async def get(session: Session, *, rule_id: UUID) -> CaseRule:
    """One rule. Raises CaseRuleNotFound."""
    return _view(await session.fetchrow(f"SELECT {_SELECTED} FROM case_rules WHERE id = $1", rule_id))


async def page(session: Session, *, after: tuple[int, UUID] | None, limit: int) -> list[CaseRule]:
    """Rules in the order in which they are tried, those behind the (position, id) of `after`."""
    rows = await session.fetch(
        f"""
        SELECT {_SELECTED} FROM case_rules WHERE $1::int IS NULL OR (position, id) > ($1, $2)
        ORDER BY position, id LIMIT $3
        """,
        *(after or (None, None)), limit,
    )  # fmt: skip
    return [_view(row) for row in rows]


async def judge(session: Session, *, vocabulary: Vocabulary) -> Judge:
    """The rules that are active now."""
    rows = await session.fetch(
        f"SELECT {_SELECTED} FROM case_rules WHERE status = 'active' ORDER BY position, id LIMIT $1", RULES_MAX
    )
    return Judge(tuple((rule, _condition(vocabulary, rule), _pattern(rule.keywords)) for rule in map(_view, rows)))


def _condition(vocabulary: Vocabulary, rule: CaseRule) -> Condition | None:
    if rule.condition is None:
        return None
    return matching.condition_of(vocabulary, rule.condition, own=matching.MESSAGE)


def _pattern(keywords: Sequence[str]) -> re.Pattern[str] | None:
    """Whole words, however they are written."""
    if not keywords:
        return None
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, keywords))})(?!\w)", re.IGNORECASE)


def _row(rule: CaseRule) -> tuple[Any, ...]:
    assignment = None if rule.assignment is None else msgspec.to_builtins(rule.assignment)
    return tuple(assignment if name == "assignment" else getattr(rule, name) for name in _COLUMNS)


def _view(row: Record | None) -> CaseRule:
    if row is None:
        raise CaseRuleNotFound("No rule has this id.")
    assignment = None if row["assignment"] is None else Assignment(**row["assignment"])
    return CaseRule(**{**dict(row), "assignment": assignment})
