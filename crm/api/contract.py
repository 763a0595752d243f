"""The contract as an OpenAPI 3.1 document, read off the handlers: their types, their refusals, their docstrings."""

import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from typing import Annotated, Any, Final, get_args, get_origin
from uuid import UUID

import msgspec
from litestar import Litestar, Response
from litestar.handlers import HTTPRouteHandler
from litestar.params import HeaderParameter, ParameterKwarg, PathParameter, QueryParameter
from litestar.routes import HTTPRoute
from litestar.typing import FieldDefinition
from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue
from pydantic_core import core_schema

import crm
from crm.api import errors, survivors
from crm.api.auth import MEMBER, SCOPES, MemberTokenNeeded, ScopeMissing
from crm.api.etags import NotAnETag
from crm.api.examples import EXAMPLES, REFUSALS
from crm.api.paging import BrokenCursor
from crm.db.idempotency import IdempotencyKeyReused
from crm.errors import (
    Conflict,
    CrmError,
    Invalid,
    Malformed,
    NotFound,
    Stale,
    Unauthenticated,
    Unavailable,
)
from crm.interactions.erasures import ContactErased

REQUEST_ID: Final = "0198f3a27c1e7d50b3a4c5d6e7f80912"
_NO_CONTENT: Final = 204

_Json = dict[str, Any]
_Refusal = type[CrmError]
_Schemas = Mapping[tuple[Any, JsonSchemaMode], JsonSchemaValue]


@dataclass(slots=True)
class ProblemError:
    """What is wrong with one place: `pointer` is a JSON pointer into the body, or `query/…`, `path/…`, `header/…`."""

    pointer: str
    code: str
    message: str


@dataclass(slots=True)
class Problem:
    """RFC 9457. `code` is stable; further members carry what a refusal counts, such as `missing`."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[ProblemError]


_MEANINGS: Final[Mapping[int, str]] = {
    400: "This is not JSON, or the cursor was not made here.",
    401: "No key or token was sent, or it is unknown, expired or revoked.",
    403: "The caller is known, and may not do this.",
    404: "There is no such thing.",
    409: "Well-formed, but the present state says no; `code` says why.",
    412: "It has changed since it was read.",
    413: "The body is larger than this route takes.",
    415: "The body is of another media type than this takes.",
    422: "The content breaks a rule; `errors` names the places.",
    503: "The service can't answer now. Nothing was changed: send the same request again.",
}

_HEADERS: Final[Mapping[str, _Json]] = {
    "X-Request-Id": {
        "description": "Names this request in our logs: yours, or a new one.", "required": True,
        "schema": {"type": "string", "maxLength": 64},
    },
    "ETag": {
        "description": "The version, for `If-Match`. A replayed answer has none.",
        "schema": {"type": "string", "examples": ['"1"']},
    },
    "Location": {"description": "Where it can be read.", "schema": {"type": "string", "format": "uri-reference"}},
    "Idempotency-Replayed": {
        "description": "There when this is the first answer to the key, given again.",
        "schema": {"type": "string", "enum": ["true"]},
    },
    "WWW-Authenticate": {"description": "How to sign in.", "required": True, "schema": {"type": "string"}},
    "Retry-After": {"description": "In how many seconds.", "required": True, "schema": {"type": "integer"}},
}  # fmt: skip

_REFUSAL_HEADERS: Final = {401: ("WWW-Authenticate",), 503: ("Retry-After",)}

_IDEMPOTENCY_KEY: Final[_Json] = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": (
        "Makes a retry safe: for 72 hours, the same key with the same body answers what the first request answered. "
        "A UUIDv7 is best."
    ),
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}

_INTRODUCTION: Final = """Contacts, one timeline across every channel, and a points ledger.

Money is a decimal in a string, an instant is RFC 3339 with an offset (answered in UTC), an id is a UUID. A refusal is
`application/problem+json` with a stable `code`. Lists come in pages: send `next_cursor` as `cursor` to go on."""


def document(app: Litestar) -> _Json:
    """What `/schema/openapi.json` says about this application."""
    operations = [
        _Operation(route, handler, method)
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        if handler.opt.get("documented")
        for method in sorted(handler.http_methods)
    ]
    asked = {(type_, mode): type_ for operation in operations for type_, mode in operation.types()}
    schemas, definitions = TypeAdapter.json_schemas(
        [(key[0], key[1], TypeAdapter(type_)) for key, type_ in asked.items()],
        ref_template="#/components/schemas/{model}",
        schema_generator=_Generator,
    )
    refusals = {refusal: None for operation in operations for refusal in operation.refusals()}
    paths: dict[str, _Json] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = operation.described(schemas)
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "Setia", "version": crm.__version__, "description": _INTRODUCTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "tags": list({operation.tag: operation.described_tag() for operation in operations}.values()),
        "paths": paths,
        "components": {
            "schemas": {name: schema | {"title": name} for name, schema in definitions["$defs"].items()},
            "headers": _HEADERS,
            "parameters": {"Idempotency-Key": _IDEMPOTENCY_KEY},
            "responses": {refusal.code: _refused([refusal]) for refusal in refusals},
            "examples": {
                refusal.code: {"summary": refusal.title, "value": _problem(refusal)} for refusal in refusals
            },
            "securitySchemes": {
                "bearer": {
                    "type": "http", "scheme": "bearer",
                    "description": f"A key of POST /v1/keys. Its scopes are among: {', '.join(sorted(SCOPES))}.",
                },
                "member": {
                    "type": "http", "scheme": "bearer", "bearerFormat": "JWT",
                    "description": "A token of POST /v1/contacts/{contact_id}/member-tokens: it is one contact's, "
                    "and opens nothing but what lies under /v1/me.",
                },
            },
        },
    }  # fmt: skip


class _Operation:
    """One method of one route."""

    def __init__(self, route: HTTPRoute, handler: HTTPRouteHandler, method: str) -> None:
        self.path = route.path_format
        self.method = method
        self._route = route
        self._handler = handler
        self._arguments = handler.parsed_fn_signature.parameters
        returned = handler.parsed_fn_signature.return_type.raw
        self._answer = get_args(returned)[0] if get_origin(returned) is Response else returned
        body = self._arguments.get("data")
        self._body = None if body is None else body.annotation
        module = sys.modules[handler.fn.__module__]
        self.tag = module.__name__.rpartition(".")[2].capitalize()
        self._about = (module.__doc__ or "").strip()
        self._for_members = handler.opt["scopes"] == MEMBER
        fields = getattr(self._body, "model_fields", {})
        self._names_contacts = (
            self._for_members
            or any(name in self._arguments for name in survivors.NAMES)
            or any(name in fields for name in survivors.FIELDS)
        )

    def types(self) -> Iterator[tuple[Any, JsonSchemaMode]]:
        """The types whose schemas the description needs."""
        yield Problem, "serialization"
        if self._handler.status_code != _NO_CONTENT:
            yield self._answer, "serialization"
        if self._body is not None:
            yield self._body, "validation"

    def described_tag(self) -> _Json:
        """The tag's own entry."""
        return {"name": self.tag, "description": self._about}

    def described(self, schemas: _Schemas) -> _Json:
        """The operation object."""
        handler = self._handler
        described: _Json = {"operationId": handler.operation_id, "tags": [self.tag], "summary": handler.summary}
        if handler.description:
            described["description"] = handler.description
        if handler.opt["scopes"]:
            described["security"] = [{"member": []} if self._for_members else {"bearer": sorted(handler.opt["scopes"])}]
        if parameters := [*self._path_parameters(), *self._other_parameters()]:
            described["parameters"] = parameters
        if self._body is not None:
            described["requestBody"] = {
                "required": True,
                "content": {"application/json": _content(schemas[self._body, "validation"])},
            }
        elif handler.opt["uploads"]:
            # A file as it is: what a media type says of it is all that there is to say.
            described["requestBody"] = {"required": True, "content": {name: {} for name in handler.opt["uploads"]}}
        described["responses"] = {**self._successes(schemas), **self._problems()}
        return described

    def refusals(self) -> list[_Refusal]:
        """What this operation may refuse with."""
        implied: Iterable[tuple[bool, Iterable[_Refusal]]] = (
            (self._body is not None, (Malformed, errors.BodyTooLarge, errors.UnsupportedMediaType)),
            (bool(self._handler.opt["uploads"]), (Malformed, errors.BodyTooLarge, errors.NoTable)),
            ("cursor" in self._arguments, (BrokenCursor,)),
            ("{" in self.path, (NotFound,)),
            (self._names_contacts, (ContactErased,)),
            ("if_match" in self._arguments, (Stale, NotAnETag)),
            (self._handler.opt["idempotent"], (IdempotencyKeyReused,)),
            (self.method != "GET", (Conflict,)),
            (
                bool(self._handler.opt["scopes"]),
                (Unauthenticated, MemberTokenNeeded if self._for_members else ScopeMissing, Invalid),
            ),
        )
        return [
            *(refusal for applies, refusals in implied if applies for refusal in refusals),
            *self._handler.opt["problems"],
            Unavailable,
        ]

    def _successes(self, schemas: _Schemas) -> Mapping[str, _Json]:
        opt = self._handler.opt
        headers = ["X-Request-Id", *opt["headers"], *(["Idempotency-Replayed"] if opt["idempotent"] else [])]
        answer: _Json = {"headers": {name: _reference("headers", name) for name in headers}}
        status = self._handler.status_code
        if status == _NO_CONTENT:
            return {str(status): {"description": "Done.", **answer}}
        answer["content"] = {
            self._handler.media_type or "application/json": _content(schemas[self._answer, "serialization"]),
            **{media_type: {"schema": {"type": "string"}} for media_type in opt["also"]},
        }
        first = {str(status): {"description": _said_of(self._answer), **answer}}
        return first if opt["repeated"] is None else {"200": {"description": opt["repeated"], **answer}, **first}

    def _problems(self) -> Mapping[str, _Json]:
        by_status: dict[int, list[_Refusal]] = {}
        for refusal in self.refusals():
            by_status.setdefault(errors.status_of(refusal), []).append(refusal)
        return {
            str(status): _reference("responses", refusals[0].code) if len(refusals) == 1 else _refused(refusals)
            for status, refusals in sorted(by_status.items())
        }

    def _path_parameters(self) -> Iterator[_Json]:
        for component in self._route.path_parameters.values():
            said = self._arguments[component.name].kwarg_definition
            schema = (
                {"type": "string", "format": "uuid"} if component.type is UUID else {"type": "string", "minLength": 1}
            )
            if isinstance(said, PathParameter):
                schema |= said.schema_extra or {}
            yield {"name": component.name, "in": "path", "required": True, "schema": schema}

    def _other_parameters(self) -> Iterator[_Json]:
        for name, field in self._arguments.items():
            said = field.kwarg_definition
            if not isinstance(said, QueryParameter | HeaderParameter):
                continue
            schema = _limited(field, said) | (said.schema_extra or {})
            if isinstance(field.default, int | str):
                schema["default"] = field.default
            yield {
                "name": said.name or name, "in": said.param_type.value, "description": said.description or "",
                "required": field.is_required, "schema": schema,
            }  # fmt: skip
        if self._handler.opt["idempotent"]:
            yield _reference("parameters", "Idempotency-Key")


def _limited(field: FieldDefinition, said: ParameterKwarg) -> _Json:
    """A parameter's schema; a parameter that may be left out is never null."""
    choices = field.inner_types if field.is_optional else ()
    type_ = next((part.annotation for part in choices if part.annotation is not type(None)), field.annotation)
    limits = {name: getattr(said, name) for name in ("ge", "le", "min_length", "max_length", "pattern")}
    return msgspec.json.schema(Annotated[type_, msgspec.Meta(**limits)])


def _said_of(type_: Any) -> str:
    """The first sentence of what is said of an answer's type."""
    kind: type = get_origin(type_) or type_
    said = kind.__doc__ or ""
    written = is_dataclass(kind) and not said.startswith(f"{kind.__name__}(")
    return f"{re.split(r'[.:;]', said, maxsplit=1)[0]}." if written else "The answer."


class _Generator(GenerateJsonSchema):
    """Pydantic's, without a title for every field, and with names, decimals and answers as we write them."""

    def normalize_name(self, name: str) -> str:
        return re.sub(r"(\w+)\[(\w+)\]", r"\2\1", name)

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def field_is_required(self, field: Any, total: bool) -> bool:
        # An answer has all its fields: what is not known is null.
        return self.mode == "serialization" or super().field_is_required(field, total)

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        # That null stands for what is left out goes without saying.
        if self.mode == "serialization" or schema.get("default", ...) is None:
            return self.generate_inner(schema["schema"])
        return super().default_schema(schema)

    def decimal_schema(self, schema: core_schema.DecimalSchema) -> JsonSchemaValue:
        return {"type": "string", "pattern": r"^-?\d+(\.\d+)?$", "examples": ["120000.00"]}


def _content(schema: JsonSchemaValue) -> _Json:
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    example = _example(name)
    return {"schema": schema} if example is None else {"schema": schema, "example": example}


def _example(name: str) -> Any:
    """The example of a component; that of a page or of a batch's answer is made of its item's."""
    if name in EXAMPLES:
        return EXAMPLES[name]
    if item := EXAMPLES.get(name.removesuffix("Page")):
        return {"items": [item], "next_cursor": None}
    if item := EXAMPLES.get(name.removesuffix("BatchResult")):
        refused = {"status": errors.status_of(Invalid), "body": None, "problem": _problem(Invalid)}
        return {"items": [{"status": 201, "body": item, "problem": None}, refused]}
    return None


def _refused(refusals: Sequence[_Refusal]) -> _Json:
    """The response for refusals of one status."""
    status = errors.status_of(refusals[0])
    headers = ("X-Request-Id", *_REFUSAL_HEADERS.get(status, ()))
    return {
        "description": _MEANINGS[status],
        "headers": {name: _reference("headers", name) for name in headers},
        "content": {
            errors.PROBLEM_JSON: {
                "schema": _reference("schemas", "Problem"),
                "examples": {refusal.code: _reference("examples", refusal.code) for refusal in refusals},
            }
        },
    }


def _problem(refusal: _Refusal) -> _Json:
    detail, members = REFUSALS.get(refusal.code, (refusal.title + ".", {}))
    return errors.problem(
        REQUEST_ID, errors.status_of(refusal), code=refusal.code, title=refusal.title, detail=detail, members=members
    )


def _reference(kind: str, name: str) -> _Json:
    return {"$ref": f"#/components/{kind}/{name}"}
