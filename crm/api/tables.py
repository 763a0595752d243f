"""Answers as CSV, for whoever asks for it: a header, then a row for each item, safe to open as a spreadsheet."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, Final, get_type_hints

from litestar import Response

from crm.api.routes import AnyRequest
from crm.exchange.cells import guarded

CSV: Final = "text/csv"
_JSON: Final = "application/json"


def answer(
    request: AnyRequest, result: Any, *, rows: Sequence[Any], of: type[Any], name: str | None = None
) -> Response[Any]:
    """`result` itself, or its `rows`: dataclasses `of` one type, each after the `name` of the program it is about.

    A dataclass within a row is shown by its fields, named after both. JSON wherever the request does not prefer CSV.
    """
    if request.accept.best_match([_JSON, CSV], default=_JSON) == _JSON:
        return Response(result)
    head, cells = (["program"], [guarded(name)]) if name is not None else ([], [])
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([*head, *_names(of)])
    writer.writerows([*cells, *map(guarded, _values(row))] for row in rows)
    return Response(text.getvalue(), media_type=CSV)


def _names(of: type[Any]) -> Iterator[str]:
    kinds = get_type_hints(of)
    for field in fields(of):
        kind = kinds[field.name]
        if is_dataclass(kind):
            assert isinstance(kind, type), "a type, not one of its instances"
            yield from (f"{field.name}.{name}" for name in _names(kind))
        else:
            yield field.name


def _values(row: Any) -> Iterator[Any]:
    for field in fields(row):
        value = getattr(row, field.name)
        if is_dataclass(value):
            yield from _values(value)
        else:
            yield value
