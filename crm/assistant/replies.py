"""What the bot answers: each question and its answer stand on the timeline, with what the answer rests on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal, TypeAlias
from uuid import UUID

import msgspec
from asyncpg import Record
from sqlalchemy import Column, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from crm.assistant import conversation, hand_over, intents, phrases
from crm.assistant.conversation import Turn
from crm.assistant.facts import Source
from crm.assistant.hand_over import BY, Reason
from crm.assistant.intents import Intent, Wanted
from crm.assistant.language_model import LanguageModel
from crm.assistant.tools import HandOver, Toolbox
from crm.care import wording
from crm.contacts import aliases, contacts
from crm.contacts.contacts import Contact, ContactNotFound
from crm.db import idempotency, writes
from crm.db.ids import uuid7
from crm.db.session import Database, Session
from crm.db.tables import Instant, metadata
from crm.db.writes import Insert
from crm.errors import Conflict, NotFound
from crm.interactions import erasures, timeline

Outcome: TypeAlias = Literal["answered", "refused", "handed_over"]
Why: TypeAlias = Literal["facts", "article", "model", "greeting", "thanks", "somebody_else"] | Reason

assistant_replies = Table(
    "assistant_replies",
    metadata,
    Column("contact_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("channel", Text, nullable=False),
    Column("thread_id", Uuid),
    Column("locale", Text, nullable=False),
    Column("intent", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("written_by", Text, nullable=False),
    Column("sources", JSONB, nullable=False),
    Column("question_id", Uuid, nullable=False),
    Column("answer_id", Uuid, nullable=False),
    Column("case_id", Uuid),
    Column("created_at", Instant, nullable=False),
    Column("by", Text, nullable=False),
)

QUESTION_MAX: Final = 2_000
SURE_FROM: Final = 60
"""The score from which on an article is an answer by itself."""
REMEMBERED: Final = 4
"""How many of the last turns a model is told, if they were within an hour."""
_FORGOTTEN_AFTER: Final = timedelta(hours=1)
_TURN_MAX: Final = 500
_PASSAGE_MAX: Final = 500
_DIGITS_SAME: Final = 8
_COLUMNS: Final = tuple(column.name for column in assistant_replies.columns)


class ReplyNotFound(NotFound):
    code = "assistant_reply_not_found"
    title = "There is no such reply of the assistant"


class NoQuestion(Conflict):
    code = "no_question"
    title = "This interaction asks nothing"


@dataclass(slots=True)
class AssistantReply:
    """A question and what the bot answered. `sources` are what it rests on: articles, and facts with their time.

    What is handed over has a case. The texts are null once they are gone from the timeline.
    """

    id: UUID
    contact_id: UUID
    channel: str
    thread_id: UUID | None
    locale: str
    question: str | None
    answer: str | None
    intent: Intent
    outcome: Outcome
    reason: Why
    written_by: Literal["rules", "model"]
    sources: list[Source]
    question_id: UUID
    answer_id: UUID
    case_id: UUID | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: a text, or a message that is on the timeline already."""

    text: str | None
    interaction_id: UUID | None = None
    channel: str = "chat"
    thread_id: UUID | None = None
    locale: str | None = None


@dataclass(slots=True)
class _Draft:
    text: str
    outcome: Outcome
    reason: Why
    sources: list[Source]
    written_by: Literal["rules", "model"] = "rules"


async def answer(
    database: Database,
    *,
    contact_id: UUID,
    question: Question,
    model: LanguageModel | None,
    shown: Callable[[AssistantReply], Any] | None = None,
    by: str,
    once: idempotency.Request | None,
    now: datetime,
) -> AssistantReply:
    """Answer somebody's question from articles and their own record, or hand it over.

    Holds no transaction while a model thinks. `shown` is what a repeated request is answered.
    Raises ContactNotFound, InteractionNotFound, NoQuestion.
    """
    async with database.begin() as session:
        await idempotency.begin(session, request=once)
        contact = await _contact(session, contact_id)
        question = await _asked(session, contact.id, question)
        before = await _turns(session, contact.id, now) if model is not None else []
    text = question.text or ""
    locale = _locale(question, contact)
    wanted = intents.of(text)
    toolbox = Toolbox(database, contact.id, locale, now)
    draft = await _draft(toolbox, text, wanted, contact, before, model)
    async with database.begin() as session:
        await idempotency.begin(session, request=once)
        reply = await _keep(session, contact.id, question, locale, wanted.intent, draft, by=by, now=now)
        result = reply if shown is None else shown(reply)
        await idempotency.keep(session, request=once, contact_id=contact.id, result=result, now=now)
        return reply


async def get(session: Session, *, contact_id: UUID, reply_id: UUID) -> AssistantReply:
    """One reply to a contact. Raises ReplyNotFound."""
    row = await session.fetchrow(_SELECT.format("r.contact_id = $1 AND r.id = $2"), contact_id, reply_id)
    if row is None:
        raise ReplyNotFound("This contact has no reply with this id.")
    return _view(row)


async def page(session: Session, *, contact_id: UUID, before: UUID | None, limit: int) -> list[AssistantReply]:
    """What a contact was answered, the newest first, older than `before`. Raises ContactNotFound."""
    rows = await session.fetch(
        f"""
        SELECT n.* FROM contacts c CROSS JOIN LATERAL {aliases.known_as("c.id")} who CROSS JOIN LATERAL (
            {_SELECT.format("r.contact_id = who.id AND ($2::uuid IS NULL OR r.id < $2)")} ORDER BY r.id DESC LIMIT $3
        ) n
        WHERE c.id = $1 ORDER BY n.id DESC LIMIT $3
        """,
        contact_id, before, limit,
    )  # fmt: skip
    if not rows:
        await contacts.get(session, contact_id=contact_id)
    return [_view(row) for row in rows]


async def _contact(session: Session, contact_id: UUID) -> Contact:
    try:
        return await contacts.get(session, contact_id=contact_id)
    except ContactNotFound:
        ids = (await aliases.people(session, ids=[contact_id]))[contact_id]
        if ids[0] != contact_id:
            return await contacts.get(session, contact_id=ids[0])
        await erasures.check(session, contact_ids=[contact_id])
        raise


async def _asked(session: Session, contact_id: UUID, question: Question) -> Question:
    if question.interaction_id is None:
        return question
    said = await timeline.get(session, contact_id=contact_id, interaction_id=question.interaction_id)
    if said.kind != "message" or said.direction != "inbound" or not (said.body or "").strip():
        raise NoQuestion("Name a message from the contact that has a text.")
    text = (said.body or "")[:QUESTION_MAX]
    return Question(text, said.id, said.channel, said.thread_id, question.locale)


async def _turns(session: Session, contact_id: UUID, now: datetime) -> list[Turn]:
    newest = await page(session, contact_id=contact_id, before=None, limit=REMEMBERED)
    return [
        Turn(one.question[:_TURN_MAX], one.answer[:_TURN_MAX])
        for one in reversed(newest)
        if one.question and one.answer and one.created_at > now - _FORGOTTEN_AFTER
    ]


def _locale(question: Question, contact: Contact) -> str:
    told = (question.locale, wording.language(question.text or ""), contact.locale)
    codes = (locale.partition("-")[0].lower() for locale in told if locale)
    return next((code for code in codes if code in phrases.LANGUAGES), phrases.LANGUAGES[0])


async def _draft(
    toolbox: Toolbox, text: str, wanted: Wanted, contact: Contact, before: Sequence[Turn], model: LanguageModel | None
) -> _Draft:
    locale = toolbox.locale
    match wanted.intent:
        case "person":
            return _handed_over("asked_for_a_person", locale)
        case "complaint":
            return _handed_over("complaint", locale)
        case "somebody_else":
            return _Draft(phrases.say("somebody_else", locale), "refused", "somebody_else", [])
        case "greeting" | "thanks" as courtesy:
            return _Draft(phrases.say(courtesy, locale), "answered", courtesy, [])
    if wanted.owned and not _all_own(intents.addresses(text), contact):
        return _Draft(phrases.say("somebody_else", locale), "refused", "somebody_else", [])
    if model is not None:
        try:
            said = await conversation.answer(model, toolbox=toolbox, question=text, before=before, locale=locale)
        except HandOver:
            return _handed_over("unsure", locale)
        if said is not None:
            return _Draft(said, "answered", "model", list(toolbox.sources.values()), "model")
        toolbox.sources.clear()
    return await _by_rules(toolbox, text, wanted)


async def _by_rules(toolbox: Toolbox, text: str, wanted: Wanted) -> _Draft:
    locale = toolbox.locale
    if wanted.how or not wanted.facts:
        found = await toolbox.search(text, limit=1)
        if found and found[0][0].score >= SURE_FROM:
            article, plain = found[0]
            toolbox.cite(article, plain)
            passage = _passage(plain, [match.found for match in article.matches])
            said = phrases.article(article.title, article.path, passage, locale)
            return _Draft(said, "answered", "article", list(toolbox.sources.values()))
    if not wanted.facts:
        return _handed_over("unsure", locale)
    for fact in wanted.facts:
        await toolbox.look_up(fact, intents.references(text) if fact == "orders" else [])
    sources = list(toolbox.sources.values())
    return _Draft("\n".join(phrases.fact(source, locale) for source in sources), "answered", "facts", sources)


def _passage(plain: str, words: Sequence[str]) -> str:
    """The paragraph that has most of the words, and what follows as far as there is room."""
    paragraphs = plain.split("\n")
    counts = [sum(word in wording.folded(paragraph) for word in words) for paragraph in paragraphs]
    rest = "\n".join(paragraphs[counts.index(max(counts)) :])
    return rest if len(rest) <= _PASSAGE_MAX else f"{rest[:_PASSAGE_MAX].rpartition(' ')[0]} …"


def _handed_over(reason: Reason, locale: str) -> _Draft:
    sorry = {"asked_for_a_person": "", "complaint": "complaint", "unsure": "unsure"}[reason]
    told = [phrases.say(phrase, locale) for phrase in (sorry, "handed_over") if phrase]
    return _Draft(" ".join(told), "handed_over", reason, [])


def _all_own(addresses: Sequence[str], contact: Contact) -> bool:
    """Whether all addresses in a question are the contact's own."""
    own = {str(contact.id), *(one.value.lower() for one in contact.identities)}
    numbers = {_digits(one.value) for one in contact.identities}
    return all(address.lower() in own or _digits(address) in numbers - {""} for address in addresses)


def _digits(address: str) -> str:
    """The end of a number, which is the same however its beginning is written."""
    digits = "".join(each for each in address if each.isdigit())
    return digits[-_DIGITS_SAME:] if len(digits) >= _DIGITS_SAME else ""


async def _keep(
    session: Session, contact_id: UUID, question: Question, locale: str, intent: Intent, draft: _Draft, *, by: str,
    now: datetime,
) -> AssistantReply:  # fmt: skip
    await contacts.lock(session, contact_id=contact_id)
    reply = AssistantReply(
        uuid7(), contact_id, question.channel, question.thread_id, locale, question.text, draft.text, intent,
        draft.outcome, draft.reason, draft.written_by, draft.sources, question.interaction_id or uuid7(), uuid7(),
        None, now,
    )  # fmt: skip
    if draft.outcome == "handed_over":
        reason: Reason = draft.reason  # type: ignore[assignment]
        reply.case_id = await hand_over.to_people(
            session, contact_id=contact_id, reply_id=reply.id, question=question.text or "", reason=reason,
            channel=reply.channel, thread_id=reply.thread_id, now=now,
        )  # fmt: skip
    said: dict[str, Any] = {
        "channel": reply.channel, "kind": "message", "occurred_at": now, "recorded_at": now,
        "thread_id": reply.thread_id, "case_id": reply.case_id,
    }  # fmt: skip
    told = [
        timeline.entry(
            contact_id, id=reply.answer_id, direction="outbound", body=draft.text, by=BY,
            data={"assistant_reply_id": reply.id, "answers": reply.question_id}, **said,
        )
    ]  # fmt: skip
    if question.interaction_id is None:
        told.insert(
            0, timeline.entry(contact_id, id=reply.question_id, direction="inbound", body=question.text, by=by, **said)
        )
    values = {name: getattr(reply, name) for name in _COLUMNS if name != "by"} | {"by": by}
    row = tuple(values[name] for name in _COLUMNS)
    await writes.write(session, [timeline.part(told), Insert(assistant_replies, _COLUMNS, [row])])
    return reply


_SELECT: Final = f"""
    SELECT {", ".join(f"r.{name}" for name in _COLUMNS if name != "by")}, q.body AS question, a.body AS answer
    FROM assistant_replies r
    LEFT JOIN interactions q ON q.contact_id = r.contact_id AND q.id = r.question_id
    LEFT JOIN interactions a ON a.contact_id = r.contact_id AND a.id = r.answer_id
    WHERE {{}}
"""


def _view(row: Record) -> AssistantReply:
    return msgspec.convert(dict(row), AssistantReply)
