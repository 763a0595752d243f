"""A language model that somebody runs or rents, by the protocol that they all speak: `POST …/chat/completions`.

What comes back is nobody's word: it is bounded in time and size and read as strictly as any request.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import httpx
import pydantic
from pydantic import BaseModel, ConfigDict, Field

ANSWER_BYTES_MAX: Final = 256 * 1024
ANSWER_TOKENS_MAX: Final = 600
CALLS_MAX: Final = 4
"""How many tools a model may call at once."""
AT_ONCE_MAX: Final = 8
"""How many questions a process asks it at the same time; the others are answered without it."""
_PATH: Final = "/chat/completions"


Message = Mapping[str, Any]


class ModelFailed(Exception):
    """It did not answer, or not in a way that can be used; the message says why, for the log."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool that a model asks for; `arguments` are None where they can't be read."""

    id: str
    name: str
    arguments: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Said:
    """What a model said: a text, or tools that it asks for first."""

    text: str | None
    calls: tuple[ToolCall, ...]


class _Lenient(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)


class _Function(_Lenient):
    name: str = Field(max_length=100)
    arguments: str = Field(default="{}", max_length=4_000)


class _Call(_Lenient):
    id: str = Field(max_length=200)
    function: _Function


class _Answer(_Lenient):
    content: str | None = None
    tool_calls: list[_Call] | None = None


class _Choice(_Lenient):
    message: _Answer


class _Completion(_Lenient):
    choices: list[_Choice] = Field(min_length=1)


class LanguageModel:
    """A model under a URL; `seconds` is what an answer may take in all, with all of its tools."""

    def __init__(self, *, url: str, model: str, key: str | None = None, seconds: float = 20) -> None:
        self.seconds = seconds
        self._model = model
        self._url = url.rstrip("/").removesuffix(_PATH) + _PATH
        self._turns = asyncio.Semaphore(AT_ONCE_MAX)
        self._client = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {key}"} if key else {}, timeout=seconds, follow_redirects=False,
            trust_env=False,
        )  # fmt: skip

    @classmethod
    def of(cls, *, url: str | None, model: str | None, key: str | None, seconds: float) -> Self | None:
        """The model that the settings name, if they do."""
        return None if url is None or model is None else cls(url=url, model=model, key=key, seconds=seconds)

    @property
    def is_busy(self) -> bool:
        """Whether it has as many questions as it may have."""
        return self._turns.locked()

    async def close(self) -> None:
        """Let go of its connections."""
        await self._client.aclose()

    async def say(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> Said:
        """What it says to this. Raises ModelFailed."""
        body = {
            "model": self._model, "messages": list(messages), "max_tokens": ANSWER_TOKENS_MAX, "temperature": 0,
            **({"tools": list(tools), "tool_choice": "auto"} if tools else {}),
        }  # fmt: skip
        async with self._turns:
            raw = await self._ask(body)
        try:
            message = _Completion.model_validate_json(raw).choices[0].message
        except pydantic.ValidationError as error:
            raise ModelFailed(f"not a completion: {error.error_count()} errors") from error
        calls = message.tool_calls or []
        if len(calls) > CALLS_MAX:
            raise ModelFailed(f"{len(calls)} tools at once")
        return Said(message.content, tuple(_call(one) for one in calls))

    async def _ask(self, body: Mapping[str, Any]) -> bytes:
        try:
            async with self._client.stream("POST", self._url, json=body) as answer:
                if answer.status_code != httpx.codes.OK:
                    raise ModelFailed(f"status {answer.status_code}")
                read = bytearray()
                async for chunk in answer.aiter_bytes():
                    read += chunk
                    if len(read) > ANSWER_BYTES_MAX:
                        raise ModelFailed("an answer without end")
                return bytes(read)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ModelFailed(f"{type(error).__name__}") from error


def _call(call: _Call) -> ToolCall:
    try:
        arguments = json.loads(call.function.arguments or "{}")
    except (ValueError, RecursionError):
        arguments = None
    return ToolCall(call.id, call.function.name, arguments if isinstance(arguments, dict) else None)
