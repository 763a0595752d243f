"""Answers as CSV, for whoever asks for it: a header, then a row for each item, safe to open as a spreadsheet."""

import csv
import io
from collections.abc import Sequence
from dataclasses import astuple, fields
from typing import Any, Final

from litestar import Response

from crm.api.routes import AnyRequest
from crm.exchange.cells import guarded

CSV: Final = "text/csv"
_JSON: Final = "application/json"


def answer(request: AnyRequest, result: Any, *, name: str, rows: Sequence[Any]) -> Response[Any]:
    """`result` itself, or its `rows`, each after the `name` of the program that they are about.

    `rows` are dataclasses of one type. JSON wherever the request does not prefer CSV.
    """
    if request.accept.best_match([_JSON, CSV], default=_JSON) == _JSON:
        return Response(result)
    return Response(_written(name, rows), media_type=CSV)


def _written(name: str, rows: Sequence[Any]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["program", *(field.name for field in fields(rows[0]))])
    writer.writerows([guarded(name), *map(guarded, astuple(row))] for row in rows)
    return text.getvalue()
