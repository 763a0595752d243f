"""Deliveries that are forms, with or without files."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl

from multipart import (  # type: ignore[import-untyped]
    MultipartError,
    MultipartSegment,
    PushMultipartParser,
    parse_options_header,
)

from crm.interactions.channels import charsets, payloads
from crm.interactions.channels.deliveries import Delivery
from crm.interactions.channels.events import Event, Unknown
from crm.interactions.channels.payloads import Unreadable

FIELDS_MAX: Final = 1_000
FIELD_BYTES_MAX: Final = 32_000_000
_URLENCODED: Final = "application/x-www-form-urlencoded"
_MULTIPART: Final = "multipart/form-data"


@dataclass(frozen=True, slots=True)
class File:
    """A file of a form, without its content: that stays with the delivery, under `field`."""

    field: str
    name: str
    content_type: str | None
    bytes_count: int


@dataclass(frozen=True, slots=True)
class Form:
    """Of fields with the same name the first counts."""

    fields: dict[str, bytes] = field(default_factory=dict)
    files: list[File] = field(default_factory=list)

    def raw(self, name: str) -> bytes:
        """A field's bytes; none where it is missing."""
        return self.fields.get(name, b"")

    def text(self, name: str, charset: str | None = None) -> str | None:
        """A field's text that is not empty."""
        return charsets.decoded(self.raw(name), charset) or None

    def texts(self) -> dict[str, str]:
        """All fields as text."""
        return {name: charsets.decoded(value, None) for name, value in self.fields.items()}


def is_form(delivery: Delivery) -> bool:
    """Whether the delivery says that it is a form."""
    return _content_type(delivery)[0] in {_URLENCODED, _MULTIPART}


def events(delivery: Delivery, of: Callable[[Form], Iterable[Event]]) -> Iterator[Event]:
    """What `of` makes of the form; where it can't be read, an `Unknown` with the reason."""
    try:
        yield from of(read(delivery))
    except Unreadable as error:
        yield unreadable(delivery, error)


def unreadable(delivery: Delivery, reason: Unreadable) -> Unknown:
    """What a delivery comes to whose body is not what it should be."""
    return payloads.unknown(charsets.decoded(delivery.body[: payloads.SHOWN_MAX], None), kind="body", reason=reason)


def read(delivery: Delivery) -> Form:
    """The form of a delivery. Raises Unreadable."""
    kind, options = _content_type(delivery)
    try:
        if kind == _MULTIPART:
            return _multipart(delivery.body, options.get("boundary", ""))
        pairs = parse_qsl(delivery.body.decode("latin-1"), True, encoding="latin-1", max_num_fields=FIELDS_MAX)
    except ValueError as error:  # a MultipartError is one
        raise Unreadable(f"This is not a form that can be read: {error}.") from error
    form = Form()
    for name, value in pairs:
        # Read as Latin-1, every byte is the character of its number.
        form.fields.setdefault(charsets.decoded(name.encode("latin-1"), None), value.encode("latin-1"))
    return form


def _content_type(delivery: Delivery) -> tuple[str, dict[str, str]]:
    kind, options = parse_options_header(delivery.headers.get("content-type", ""))
    return kind, options


def _multipart(body: bytes, boundary: str) -> Form:
    form, content = Form(), bytearray()
    segment: MultipartSegment = None
    with PushMultipartParser(boundary, max_segment_count=FIELDS_MAX, header_charset="latin-1") as parser:
        for found in parser.parse(body):
            if isinstance(found, MultipartSegment):
                segment, content = found, bytearray()
            elif found is None:
                _add(form, segment, bytes(content))
            elif segment.filename is None:
                content += found
                if len(content) > FIELD_BYTES_MAX:
                    raise MultipartError("a field is too long")
    return form


def _add(form: Form, segment: MultipartSegment, content: bytes) -> None:
    name = _utf8(segment.name or "")
    if segment.filename is None:
        form.fields.setdefault(name, content)
    else:
        form.files.append(File(name, _utf8(segment.filename), segment.content_type, segment.size))


def _utf8(header: str) -> str:
    return charsets.decoded(header.encode("latin-1", "replace"), None)
