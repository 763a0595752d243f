"""Versions over HTTP: `ETag` on what is read, `If-Match` on what is changed."""

from typing import Annotated

from litestar.params import HeaderParameter

from crm.errors import FieldError, Invalid

IfMatch = Annotated[
    str | None,
    HeaderParameter(
        name="If-Match",
        max_length=100,
        description="The `ETag` of what you read; a stale one is refused.",
        schema_extra={"pattern": r'^(\*|(W/)?"\d{1,18}")$'},
    ),
]


class NotAnETag(Invalid):
    code = "not_an_etag"
    title = "If-Match holds no ETag of ours"


def etag(version: int) -> dict[str, str]:
    """The header that carries a version."""
    return {"ETag": f'"{version}"'}


def version_of(if_match: str | None) -> int | None:
    """The version that `If-Match` asks for; None where it asks for nothing or for any. Raises NotAnETag."""
    if if_match is None or if_match.strip() == "*":
        return None
    text = if_match.strip().removeprefix("W/")
    digits = text[1:-1]
    if len(text) < 3 or text[0] != '"' or text[-1] != '"' or not (digits.isascii() and digits.isdigit()):
        raise NotAnETag(
            'Send the ETag as you read it, such as "3".',
            errors=[FieldError("header/If-Match", "not_an_etag", "is not an ETag of ours")],
        )
    return int(digits)
