"""The kinds of refusal. Each error class lives beside the code that raises it and subclasses one kind.

`crm.api.errors` maps a kind to its HTTP status; nothing below the API knows statuses.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with one place of the input; `pointer` is a JSON pointer into the body, or `query/…`, `path/…`."""

    pointer: str
    code: str
    message: str


class CrmError(Exception):
    """A refusal with a stable `code`, a sentence that says what to do, and members for the problem document."""

    code: ClassVar[str] = "error"
    title: ClassVar[str] = "The request could not be carried out"

    def __init__(self, detail: str, *, errors: Sequence[FieldError] = (), **members: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = tuple(errors)
        self.members = members


class Malformed(CrmError):
    """The bytes are not what the protocol asks for: broken JSON, a cursor nobody issued."""

    code = "malformed"
    title = "The request is malformed"


class Unauthenticated(CrmError):
    """Nobody is known behind the request."""

    code = "unauthenticated"
    title = "Sign in first"


class Forbidden(CrmError):
    """The caller is known and may not do this."""

    code = "forbidden"
    title = "Not allowed"


class NotFound(CrmError):
    """There is no such thing."""

    code = "not_found"
    title = "Not found"


class Conflict(CrmError):
    """Well-formed, but the present state says no."""

    code = "conflict"
    title = "The current state does not allow this"


class Stale(CrmError):
    """Somebody changed it since the caller read it."""

    code = "stale_version"
    title = "It has changed since you read it"


class Invalid(CrmError):
    """Well-formed, but the content breaks a rule."""

    code = "invalid"
    title = "The request is not valid"


class Unavailable(CrmError):
    """The service can't answer now; the same request may be sent again."""

    code = "unavailable"
    title = "The service is temporarily unavailable"
