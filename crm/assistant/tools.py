"""What a model may look up: facts of whoever asks, and articles. Whose facts they are is never an argument."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from crm.assistant import facts, intents
from crm.assistant.facts import Source
from crm.assistant.figures import Known
from crm.assistant.intents import Fact
from crm.assistant.language_model import ToolCall
from crm.care import article_search, published
from crm.care.article_search import FoundArticle
from crm.db.session import Database

ARTICLES_MAX: Final = 3
PASSAGE_MAX: Final = 3_000
_ARGUMENT_MAX: Final = 200
_RESULT_MAX: Final = 12_000

_FACTS: Final[Mapping[str, Fact]] = {
    "get_my_balance": "balance", "get_my_tier": "tier", "get_my_expiring_points": "expiring_points",
    "get_my_orders": "orders",
}  # fmt: skip
SEARCH: Final = "search_articles"
HAND_OVER: Final = "hand_over_to_a_person"


def _described(name: str, description: str, **arguments: str) -> Mapping[str, Any]:
    properties = {argument: {"type": "string", "description": said} for argument, said in arguments.items()}
    parameters = {"type": "object", "properties": properties, "additionalProperties": False}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


TOOLS: Final = (
    _described("get_my_balance", "The points of the person who asks: available, pending and held."),
    _described("get_my_tier", "The tier of the person who asks, and what is missing to the next one."),
    _described("get_my_expiring_points", "Which points of the person who asks end, and on which last day."),
    _described(
        "get_my_orders", "The newest orders of the person who asks.", order_ref="Only this order, if one was named."
    ),
    _described(SEARCH, "Search the shop's help articles.", query="What to look for, in the person's own words."),
    _described(HAND_OVER, "Pass the question to a person when you can't answer it.", reason="Why, in a few words."),
)
_ARGUMENTS: Final = {tool["function"]["name"]: set(tool["function"]["parameters"]["properties"]) for tool in TOOLS}


class HandOver(Exception):
    """The model would rather have a person answer."""


@dataclass(slots=True)
class Toolbox:
    """The tools of one question: what they found, and what of it may be said."""

    database: Database
    contact_id: UUID
    locale: str
    now: datetime
    sources: dict[str, Source] = field(default_factory=dict)
    known: Known = field(default_factory=Known)
    told: list[str] = field(default_factory=list)

    async def use(self, call: ToolCall) -> str:
        """What a tool answers, as JSON; a call that can't be is told so. Raises HandOver."""
        allowed = _ARGUMENTS.get(call.name)
        if allowed is None:
            return _refused("There is no such tool.")
        if call.arguments is None or not all(isinstance(value, str) for value in call.arguments.values()):
            return _refused("Arguments are a JSON object of texts.")
        if unknown := sorted(set(call.arguments) - allowed):
            return _refused(
                f"This takes no {', '.join(unknown)[:_ARGUMENT_MAX]}. Tools tell only of the person who asks."
            )
        given = {name: value.replace("\x00", "")[:_ARGUMENT_MAX] for name, value in call.arguments.items()}
        if call.name == HAND_OVER:
            raise HandOver
        if call.name == SEARCH:
            return await self._search(given.get("query", ""))
        data = await self.look_up(_FACTS[call.name], intents.references(given.get("order_ref", "")))
        return self._answered(_found(data), also=data)

    async def look_up(self, fact: Fact, references: list[str]) -> dict[str, Any]:
        """A fact of the person; it becomes a source."""
        async with self.database.reading() as session:
            source = await facts.read(
                session, fact=fact, contact_id=self.contact_id, now=self.now, references=references
            )
        self.sources[fact] = source
        data = source.data or {}
        self.known.add_record(_found(data))
        return data

    async def search(self, text: str, *, limit: int = ARTICLES_MAX) -> list[tuple[FoundArticle, str]]:
        """Articles that fit, the best first, with their text."""
        async with self.database.reading() as session:
            found = await article_search.find(session, text=text, locale=self.locale, limit=limit)
            texts = await published.texts(session, articles=[(one.id, one.locale) for one in found])
        return [(one, texts[one.id]) for one in found if one.id in texts]

    def cite(self, found: FoundArticle, text: str) -> None:
        """Let an article be a source, whose figures may be said."""
        self.sources[str(found.id)] = Source(
            "article", found.slug, article_id=found.id, title=found.title, path=found.path
        )
        self.known.add_article(f"{found.title}\n{text}")

    async def _search(self, query: str) -> str:
        found = await self.search(query)
        for one, text in found:
            self.cite(one, text[:PASSAGE_MAX])
        articles = [{"title": one.title, "path": one.path, "text": text[:PASSAGE_MAX]} for one, text in found]
        return self._answered({"articles": articles})

    def _answered(self, data: Mapping[str, Any], *, also: Mapping[str, Any] | None = None) -> str:
        self.told.append(json.dumps(data, ensure_ascii=False)[:_RESULT_MAX])
        return self.told[-1] if also is None else json.dumps(also, ensure_ascii=False)[:_RESULT_MAX]


def _found(data: Mapping[str, Any]) -> dict[str, Any]:
    """A fact without what was asked for in vain: that is the asker's own text, and proves nothing."""
    return {name: value for name, value in data.items() if name != "not_found"}


def _refused(why: str) -> str:
    return json.dumps({"error": why})
