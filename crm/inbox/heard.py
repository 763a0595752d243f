"""What a delivery says, event by event, in a form that can be stored."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Final
from uuid import UUID

import msgspec

from crm.errors import CrmError
from crm.inbox.accounts import Opened
from crm.inbox.deliveries import EventError, EventOutcome
from crm.interactions.channels.events import Attachment, Event

EXTERNAL_ID_MAX: Final = 500
TEXT_MAX: Final = 100_000
SUBJECT_MAX: Final = 1_000
DATA_BYTES_MAX: Final = 64 * 1024
_DIGEST: Final = 40


@dataclass(frozen=True, slots=True)
class Heard:
    """An event of one of an account's deliveries; `number` tells it apart from the others of its batch."""

    number: int
    event: Event

    @property
    def name(self) -> str:
        """What kind of event it is, as its outcome says."""
        return "".join(f"_{c.lower()}" if c.isupper() else c for c in type(self.event).__name__).lstrip("_")

    @property
    def external_id(self) -> str | None:
        """The provider's id of the event."""
        return getattr(self.event, "external_id", None)

    def recorded(self, contact_id: UUID | None = None, interaction_id: UUID | None = None) -> EventOutcome:
        """It stands where it belongs."""
        return self._outcome("recorded", contact_id, interaction_id)

    def repeated(self, contact_id: UUID | None = None, interaction_id: UUID | None = None) -> EventOutcome:
        """It stood there already."""
        return self._outcome("duplicate", contact_id, interaction_id)

    def waiting(self) -> EventOutcome:
        """It is about a message that nobody here knows yet."""
        return self._outcome("waiting")

    def kept(self) -> EventOutcome:
        """It stays with its delivery."""
        return self._outcome("kept")

    def failed(self, error: CrmError, contact_id: UUID | None = None) -> EventOutcome:
        """It came to nothing."""
        places = "".join(f" {each.pointer}: {each.message}" for each in error.errors)
        return self._outcome("failed", contact_id, error=EventError(error.code, f"{error.detail}{places}"))

    def broken(self, error: Exception) -> EventOutcome:
        """It came to nothing because of a mistake of ours, or of its adapter's."""
        return self._outcome("failed", error=EventError("unexpected", f"{type(error).__name__}: {error}"[:1_000]))

    def _outcome(
        self, outcome: Any, contact_id: UUID | None = None, interaction_id: UUID | None = None,
        error: EventError | None = None,
    ) -> EventOutcome:  # fmt: skip
        return EventOutcome(
            event=self.name, external_id=self.external_id, outcome=outcome, contact_id=contact_id,
            interaction_id=interaction_id, error=error,
        )  # fmt: skip


Outcomes = dict[int, EventOutcome]


def pair(account: Opened, external_id: str) -> tuple[str, str]:
    """Under what an event of an account is known; an id too long for an index keeps its beginning and a digest."""
    if len(external_id) > EXTERNAL_ID_MAX:
        digest = hashlib.sha256(external_id.encode()).hexdigest()[:_DIGEST]
        external_id = f"{external_id[: EXTERNAL_ID_MAX - _DIGEST]}{digest}"
    return account.source, external_id


def clean(value: Any) -> Any:
    """An event, or a part of one, without the characters that Postgres can't store."""
    match value:
        case str():
            return value.replace("\x00", "").encode("utf-8", "replace").decode()
        case Mapping():
            return {clean(key): clean(item) for key, item in value.items()}
        case list() | tuple():
            return type(value)(clean(item) for item in value)
        case _ if is_dataclass(value) and not isinstance(value, type):
            return type(value)(**{each.name: clean(getattr(value, each.name)) for each in fields(value)})
    return value


def text(value: str | None) -> str | None:
    """The text of a message, cut where it is longer than anybody reads."""
    return None if value is None else value[:TEXT_MAX]


def attached(attachment: Attachment) -> dict[str, Any]:
    """An attachment as it can be kept."""
    facts: dict[str, Any] = msgspec.to_builtins(attachment, str_keys=True)
    return {name: value for name, value in facts.items() if value is not None and value != {}}


def data(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts as they can be kept beside an interaction, without those that say nothing."""
    kept: dict[str, Any] = msgspec.to_builtins({
        name: value for name, value in facts.items() if value is not None and value != () and value != []
    }, str_keys=True)  # fmt: skip
    size = len(msgspec.json.encode(kept))
    return kept if size <= DATA_BYTES_MAX else {"too_large": size}
