"""Each type of attribute: what fits it in Python fits it in SQL, and conditions read what fits and nothing else."""

from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from crm.contacts import attribute_types, contribution, contributions
from crm.contacts.attribute_types import KINDS, Kind
from crm.contacts.drafts import Draft
from crm.db.session import Session
from crm.interactions import people
from tests.contacts.test_people import NOW

VALUES: list[Any] = [
    "", "x", "Bandung", "2026-11-01", "2026-02-30", "2024-02-29", "1899-12-31", "1900-01-01", "2199-12-31",
    "2200-01-01", "26-11-01", "2026-11-01T00:00:00Z", " 2026-11-01", "20261101", "today", "infinity", "0", "120000.00",
    "-5", "-0.5", "1e9", "1234567890123456", "1.1234567", "1.", ".5", "+1", "\u0661", "true", 0, 7, -7, 2.5, 1e15,
    2**53 - 1, True, False, [], ["Bandung"], ["Bandung", "x"], ["x", "x"], ["2026-11-01"],
]  # fmt: skip
FIT: dict[Kind, list[Any]] = {
    "text": [value for value in VALUES if isinstance(value, str)],
    "number": [0, 7, -7, 2.5, 1e15, 2**53 - 1],
    "money": ["20261101", "0", "120000.00", "-5", "-0.5"],
    "date": ["2026-11-01", "2024-02-29", "1900-01-01", "2199-12-31"],
    "boolean": [True, False],
    "choice": ["x", "Bandung"],
    "list": [[], ["Bandung"], ["Bandung", "x"], ["x", "x"]],
}
OPTIONS: dict[Kind, list[str]] = {"choice": ["Bandung", "x"], "list": ["Bandung", "x"]}
READ: dict[Kind, Any] = {
    "money": Decimal, "date": date.fromisoformat, "number": lambda value: Decimal(str(value)),
}  # fmt: skip


def same(left: Any, right: Any) -> bool:
    return bool(left == right) and isinstance(left, bool) == isinstance(right, bool)


@pytest.mark.parametrize("kind", KINDS)
def test_what_fits_a_type_is_what_is_said_here(kind: Kind) -> None:
    fitting = [value for value in VALUES if not list(attribute_types.problems(kind, OPTIONS.get(kind), value))]
    assert len(fitting) == len(FIT[kind])
    assert all(map(same, fitting, FIT[kind]))


@pytest.mark.parametrize("kind", KINDS)
async def test_sql_and_python_agree_on_what_fits(session: Session, kind: Kind) -> None:
    fits = attribute_types.fits(kind, value="v.value", options="$2::text[]")
    for options in (OPTIONS.get(kind), ["Bandung"] if kind in OPTIONS else None):
        rows = await session.fetch(
            f"SELECT coalesce({fits}, false) FROM jsonb_array_elements($1::jsonb) WITH ORDINALITY AS v (value, number)",
            VALUES, options,
        )  # fmt: skip
        expected = [not list(attribute_types.problems(kind, options, value)) for value in VALUES]
        assert [row[0] for row in rows] == expected


@pytest.mark.parametrize("kind", KINDS)
async def test_conditions_read_what_fits_and_nothing_else(session: Session, kind: Kind) -> None:
    made = {}
    for value in VALUES:
        draft = Draft(name="S", attributes={"x.y": value})
        made[(await people.create(session, draft=draft, region="ID", by="t", now=NOW)).id] = value
    known = contributions.fields_of([contribution.CONTRIBUTION]).find("attributes.x.y")
    assert known is not None
    field = attribute_types.read(known, kind)
    read = await contributions.read(
        session, contributions=[contribution.CONTRIBUTION], fields=[known, field], contact_ids=list(made), asked={}
    )
    for contact_id, value in made.items():
        found = read[contact_id][field.name]
        fits = not list(attribute_types.problems(kind, None, value))
        nothing = [] if kind == "list" else None
        assert same(found, READ.get(kind, lambda value: value)(value) if fits else nothing), value
        assert same(read[contact_id][known.name], value)


def test_each_item_of_a_list_that_does_not_fit_is_named() -> None:
    said = dict(attribute_types.problems("list", ["a", "b"], ["a", "c", "b", "d"]))
    assert said.keys() == {"/1", "/3"}
