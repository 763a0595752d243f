"""The grammar of conditions: what each operator means, what is refused and where, and the laws that always hold."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm.contacts import conditions
from crm.contacts.comparisons import OPERATORS, Ago, Comparison
from crm.contacts.conditions import COUNT_MAX, NODES_MAX, All, AnyOf, Condition, Did, Facts, InvalidCondition, Not
from crm.contacts.durations import Duration
from crm.contacts.fields import Field, Fields

JAKARTA = ZoneInfo("Asia/Jakarta")
NOW = datetime(2026, 11, 21, 18, 30, tzinfo=UTC).astimezone(JAKARTA)
"""Half past one in the night of 22 November."""

FIELDS = Fields([
    Field("name", "text", "c.name"),
    Field("points", "number", "a.points"),
    Field("birth_on", "date", "c.birth_on"),
    Field("created_at", "instant", "c.created_at"),
    Field("subscribed", "boolean", "c.subscribed"),
    Field("tags", "list", "c.tags"),
    Field("attributes.", "any", "c.attributes -> {key}"),
])  # fmt: skip
INTERACTIONS = Fields([Field("channel", "text", "i.channel"), Field("data.", "any", "i.data -> {key}")])
TYPES = {
    "name": "text", "points": "number", "birth_on": "date", "created_at": "instant", "subscribed": "boolean",
    "tags": "list", "attributes.x": "any",
}  # fmt: skip


def parsed(document: Any) -> Condition:
    return conditions.parse(document, fields=FIELDS, interactions=INTERACTIONS)


def leaf(field: str, op: str, value: Any = None) -> dict[str, Any]:
    return {"field": field, "op": op} | ({} if value is None else {"value": value})


def holds(document: Any, *, now: datetime = NOW, **values: Any) -> bool:
    named = {"attributes.x": values.pop("x")} if "x" in values else {}
    return conditions.holds(parsed(document), Facts(values | named), now=now)


def refused(document: Any) -> dict[str, tuple[str, str]]:
    """What is wrong, by its place: the code and the message."""
    with pytest.raises(InvalidCondition) as caught:
        parsed(document)
    errors = caught.value.errors
    assert len({error.pointer for error in errors}) == len(errors)
    return {error.pointer: (error.code, error.message) for error in errors}


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


# ---------------------------------------------------------------- what each operator means

COMPARISONS = [
    ("name", "eq", "Sari", ["Sari"], ["sari", "Sari ", "", "Budi"]),
    ("name", "ne", "Sari", ["sari", "Budi", ""], ["Sari"]),
    ("name", "in", ["Sari", "Budi"], ["Sari", "Budi"], ["Ayu", "sari", ""]),
    ("name", "not_in", ["Sari", "Budi"], ["Ayu", ""], ["Sari", "Budi"]),
    ("name", "contains", "ar", ["Sari", "Mar"], ["SARI", "Budi", ""]),
    ("name", "starts_with", "Sa", ["Sari", "Sa"], ["sari", " Sari", "S"]),
    ("name", "exists", None, ["Sari", ""], []),
    ("name", "exists", False, [], ["Sari", ""]),
    ("name", "eq", "Rene\u0301", ["Ren\u00e9"], ["Rene"]),
    ("points", "eq", 100, [100, Decimal(100)], [99, 101]),
    ("points", "ne", 100, [99], [100, Decimal("100.0")]),
    ("points", "gt", 100, [101, Decimal("100.1")], [100, 99]),
    ("points", "gte", 100, [100, 101], [99, -100]),
    ("points", "lt", 0.1, [0, Decimal("0.09"), -5], [Decimal("0.1"), 1]),
    ("points", "lte", 0.1, [Decimal("0.1"), 0], [Decimal("0.11"), 1]),
    ("points", "in", [1, 2.5], [1, Decimal("2.5")], [2, 0]),
    ("points", "not_in", [1, 2.5], [2, 0], [1, Decimal("2.50")]),
    ("points", "exists", True, [0, 7], []),
    ("birth_on", "eq", "1990-03-10", [date(1990, 3, 10)], [date(1990, 3, 11)]),
    ("birth_on", "ne", "1990-03-10", [date(1990, 3, 11)], [date(1990, 3, 10)]),
    ("birth_on", "gt", "1990-03-10", [date(1990, 3, 11)], [date(1990, 3, 10)]),
    ("birth_on", "gte", "1990-03-10", [date(1990, 3, 10)], [date(1990, 3, 9)]),
    ("birth_on", "lt", "1990-03-10", [date(1990, 3, 9)], [date(1990, 3, 10)]),
    ("birth_on", "lte", "1990-03-10", [date(1990, 3, 10)], [date(1990, 3, 11)]),
    ("birth_on", "in", ["1990-03-10", "1991-03-10"], [date(1991, 3, 10)], [date(1992, 3, 10)]),
    ("birth_on", "not_in", ["1990-03-10"], [date(1992, 3, 10)], [date(1990, 3, 10)]),
    ("birth_on", "lte", {"ago": "P18Y"}, [date(2008, 11, 22), date(1990, 1, 1)], [date(2008, 11, 23)]),
    ("birth_on", "eq", {"ago": "P18Y"}, [date(2008, 11, 22)], [date(2008, 11, 21), date(2007, 11, 22)]),
    ("birth_on", "anniversary", "day", [date(1990, 11, 22), date(2026, 11, 22)], [date(1990, 11, 21)]),
    ("birth_on", "anniversary", "month", [date(1990, 11, 1), date(1990, 11, 30)], [date(1990, 10, 31)]),
    ("birth_on", "exists", None, [date(1990, 3, 10)], []),
    ("created_at", "gt", "2026-11-01T07:00:00+07:00", [utc("2026-11-01T00:00:01Z")], [utc("2026-11-01T00:00:00Z")]),
    ("created_at", "gte", "2026-11-01T00:00:00Z", [utc("2026-11-01T00:00:00Z")], [utc("2026-10-31T23:59:59Z")]),
    ("created_at", "lt", "2026-11-01T00:00:00Z", [utc("2026-10-31T23:59:59Z")], [utc("2026-11-01T00:00:00Z")]),
    ("created_at", "lte", "2026-11-01T00:00:00Z", [utc("2026-11-01T00:00:00Z")], [utc("2026-11-01T00:00:01Z")]),
    ("created_at", "gte", {"ago": "P30D"}, [utc("2026-10-22T18:30:00Z")], [utc("2026-10-22T18:29:59Z")]),
    ("created_at", "lt", {"ago": "PT1H30M"}, [utc("2026-11-21T16:59:59Z")], [utc("2026-11-21T17:00:00Z")]),
    ("created_at", "exists", None, [utc("2026-11-01T00:00:00Z")], []),
    ("subscribed", "eq", True, [True], [False]),
    ("subscribed", "ne", True, [False], [True]),
    ("subscribed", "exists", None, [True, False], []),
    ("tags", "contains", "vip", [["vip"], ["b2b", "vip"]], [["VIP"], ["vips"]]),
    ("tags", "in", ["vip", "b2b"], [["vip"], ["x", "b2b"]], [["x"]]),
    ("tags", "not_in", ["vip", "b2b"], [["x"]], [["x", "b2b"]]),
    ("tags", "exists", None, [["x"]], []),
    ("tags", "exists", False, [], [["x"]]),
    ("attributes.x", "eq", "7", ["7"], [7, ["7"], "7.0", True]),
    ("attributes.x", "eq", 1, [1, 1.0], ["1", True, [1], 2]),
    ("attributes.x", "eq", 0.1, [0.1], [0.2, "0.1"]),
    ("attributes.x", "eq", True, [True], [False, 1, "true"]),
    ("attributes.x", "ne", "7", [7, ["7"], "8"], ["7"]),
    ("attributes.x", "gt", 100, [101, 100.5, "100.01", "120000.00"], [100, "100.00", "many", True, ["101"], "1e9"]),
    ("attributes.x", "gte", "100.00", [100, "100", "0100"], [99.99, "99.999999"]),
    ("attributes.x", "lt", 0, [-1, "-0.5"], [0, "-", "- 1", False]),
    ("attributes.x", "lte", 0, [0, "0.000000"], [1, "1"]),
    ("attributes.x", "in", ["a", "b"], ["a", ["b", "c"]], ["c", ["c"], 1, True]),
    ("attributes.x", "in", [1, 2], [1, 2.0], ["1", True, 3]),
    ("attributes.x", "not_in", ["a", "b"], ["c", ["c"], 1], ["a", ["b"]]),
    ("attributes.x", "contains", "an", ["Bandung", ["an"]], ["B", ["Bandung"], 7, True]),
    ("attributes.x", "starts_with", "Ban", ["Bandung"], ["bandung", ["Bandung"], 7]),
    ("attributes.x", "exists", None, ["", 0, False, ["a"]], []),
]  # fmt: skip


@pytest.mark.parametrize(("field", "op", "value", "yes", "no"), COMPARISONS)
def test_an_operator_means_what_it_says(field: str, op: str, value: Any, yes: list[Any], no: list[Any]) -> None:
    asked = parsed(leaf(field, op, value))
    for found, expected in [*((each, True) for each in yes), *((each, False) for each in no)]:
        assert conditions.holds(asked, Facts({field: found}), now=NOW) is expected, found


@pytest.mark.parametrize(("field", "op", "value", "yes", "no"), COMPARISONS)
def test_what_is_absent_is_true_of_no_comparison(field: str, op: str, value: Any, yes: Any, no: Any) -> None:
    asked = parsed(leaf(field, op, value))
    opposite = op in {"ne", "not_in"} or (op == "exists" and value is False)
    for facts in (Facts(), Facts({field: None}), Facts({field: []})):
        assert conditions.holds(asked, facts, now=NOW) is opposite


def test_every_operator_of_every_type_is_in_the_table() -> None:
    said = {(TYPES[field], op) for field, op, *_ in COMPARISONS}
    assert said == {(type_, op) for type_, ops in OPERATORS.items() for op in ops}


@pytest.mark.parametrize(
    ("today", "born", "is_birthday"),
    [
        ("2026-02-28", "2000-02-29", True),
        ("2028-02-28", "2000-02-29", False),
        ("2028-02-29", "2000-02-29", True),
        ("2026-03-01", "2000-02-29", False),
        ("2026-02-28", "2001-02-28", True),
        ("2028-02-29", "2001-02-28", False),
    ],
)
def test_who_was_born_on_a_leap_day_has_a_birthday_every_year(today: str, born: str, is_birthday: bool) -> None:
    now = datetime.fromisoformat(f"{today}T12:00+07:00").astimezone(JAKARTA)
    asked = leaf("birth_on", "anniversary", "day")
    assert holds(asked, now=now, birth_on=date.fromisoformat(born)) is is_birthday


def test_today_is_that_of_the_time_zone_of_now() -> None:
    born_today = leaf("birth_on", "anniversary", "day")
    assert holds(born_today, now=NOW, birth_on=date(1990, 11, 22))
    assert holds(born_today, now=NOW.astimezone(UTC), birth_on=date(1990, 11, 21))
    grown_up = leaf("birth_on", "lte", {"ago": "P18Y"})
    assert holds(grown_up, now=NOW, birth_on=date(2008, 11, 22))
    assert not holds(grown_up, now=NOW.astimezone(UTC), birth_on=date(2008, 11, 22))


@pytest.mark.parametrize(
    ("document", "holds_for"),
    [
        ({"all": [leaf("tags", "contains", "a"), leaf("tags", "contains", "b")]}, ["ab"]),
        ({"any": [leaf("tags", "contains", "a"), leaf("tags", "contains", "b")]}, ["ab", "a", "b"]),
        ({"not": leaf("tags", "contains", "a")}, ["b", ""]),
        ({"not": {"any": [leaf("tags", "contains", "a"), leaf("tags", "contains", "b")]}}, [""]),
        ({"all": [leaf("tags", "contains", "a"), {"not": leaf("tags", "contains", "b")}]}, ["a"]),
    ],
)
def test_conditions_combine(document: Any, holds_for: list[str]) -> None:
    assert [tags for tags in ("ab", "a", "b", "") if holds(document, tags=list(tags))] == holds_for


@pytest.mark.parametrize(
    ("count", "holds_for"),
    [
        (None, [1, 2, 3, 4]), ({"gte": 1}, [1, 2, 3, 4]), ({"gt": 2}, [3, 4]), ({"lte": 2}, [0, 1, 2]),
        ({"lt": 1}, [0]), ({"eq": 0}, [0]), ({"eq": 3}, [3]), ({"gte": 2, "lt": 4}, [2, 3]),
        ({"gte": 0}, [0, 1, 2, 3, 4]),
    ],
)  # fmt: skip
def test_a_history_counts(count: Any, holds_for: list[int]) -> None:
    asked = parsed({"did": "purchase"} | ({} if count is None else {"count": count}))
    (history,) = conditions.histories_of(asked)
    assert [n for n in range(5) if conditions.holds(asked, Facts(counts={history: n}), now=NOW)] == holds_for
    # Counted no further than makes a difference, it is the same.
    for number in range(10):
        assert conditions.holds(asked, Facts(counts={history: number}), now=NOW) is conditions.holds(
            asked, Facts(counts={history: min(number, history.enough)}), now=NOW
        )


# ---------------------------------------------------------------- the parsed tree


def test_a_condition_becomes_a_tree_that_can_be_walked() -> None:
    x = Field("attributes.x", "any", "c.attributes -> {key}", key="x")
    assert parsed({
        "all": [
            {"any": [leaf("points", "gte", 100), leaf("attributes.x", "in", ["a", "b"])]},
            {"not": leaf("birth_on", "gt", {"ago": "P18Y"})},
            {"did": "purchase", "count": {"lt": 9, "gte": 3}, "within": "P90D", "where": leaf("channel", "eq", "shop")},
        ]
    }) == All((
        AnyOf((
            Comparison(FIELDS.find("points"), "gte", "number", Decimal(100)),
            Comparison(x, "in", "text", ("a", "b")),
        )),
        Not(Comparison(FIELDS.find("birth_on"), "gt", "date", Ago(Duration(months=216)))),
        Did(
            "purchase", (("gte", 3), ("lt", 9)), Duration(days=90),
            Comparison(INTERACTIONS.find("channel"), "eq", "text", "shop"),
        ),
    ))  # fmt: skip


def test_a_condition_says_what_has_to_be_known_to_judge_it() -> None:
    asked = parsed({
        "any": [
            leaf("tags", "contains", "vip"),
            {"not": leaf("tags", "contains", "staff")},
            {"did": "visit", "where": leaf("data.x", "eq", 1)},
            {"all": [{"did": "visit", "where": leaf("data.x", "eq", True)}, leaf("attributes.x", "exists")]},
            {"did": "visit", "where": leaf("data.x", "eq", 1)},
        ]
    })  # fmt: skip
    assert [field.name for field in conditions.fields_of(asked)] == ["tags", "attributes.x"]
    assert len(conditions.histories_of(asked)) == 2


def test_null_is_what_is_left_out() -> None:
    short, long = {"did": "visit"}, {"did": "visit", "count": None, "within": None, "where": None}
    assert parsed(short) == parsed(long)
    assert parsed(leaf("name", "exists")) == parsed({"field": "name", "op": "exists", "value": None})


# ---------------------------------------------------------------- what is refused

NAME = leaf("name", "eq", "Sari")


def nested(depth: int, document: Any = NAME) -> Any:
    for _ in range(depth - 1):
        document = {"not": document}
    return document


@pytest.mark.parametrize(
    ("document", "pointer", "code", "said"),
    [
        *[(other, "", "condition", "all, any, not, field, did") for other in (None, {}, [], "vip", 1, True, [NAME])],
        ({"and": [NAME]}, "", "condition", "all, any, not, field, did"),
        ({"all": [NAME], "any": [NAME]}, "", "condition", "one of these"),
        ({"all": []}, "/all", "list", "at least one"),
        ({"any": NAME}, "/any", "list", "a list"),
        ({"all": [NAME, 7]}, "/all/1", "condition", "must be an object"),
        ({"any": [NAME, {"not": {"all": [NAME, {"nope": 1}]}}]}, "/any/1/not/all/1", "condition", "must be an object"),
        ({"not": NAME, "a/b~c": 1}, "/a~1b~0c", "unknown_member", "beside not there can be nothing"),
        (NAME | {"values": []}, "/values", "unknown_member", "beside field there can be op, value"),
        (leaf("tag", "contains", "vip"), "/field", "unknown_field", "close to it: tags"),
        (leaf("Name", "eq", "Sari"), "/field", "unknown_field", "close to it: name"),
        (leaf("zzz", "eq", 1), "/field", "unknown_field", "the fields are name, points, birth_on, created_at"),
        (leaf("attributes", "eq", 1), "/field", "unknown_field", "close to it: attributes.…"),
        (leaf("attributes.", "eq", 1), "/field", "unknown_field", "close to it: attributes.…"),
        (leaf("attributes.1st", "eq", 1), "/field", "unknown_field", "close to it: attributes.…"),
        (leaf("channel", "eq", "web"), "/field", "unknown_field", "the fields are"),
        (leaf(7, "eq", 1), "/field", "unknown_field", "the fields are"),
        (leaf("name", "gt", "Sari"), "/op", "unknown_operator", "for name it is one of eq, ne, in, not_in"),
        (leaf("tags", "eq", "vip"), "/op", "unknown_operator", "contains, in, not_in, exists"),
        (leaf("name", ["eq"], "Sari"), "/op", "unknown_operator", "eq, ne"),
        ({"field": "name"}, "/op", "unknown_operator", "eq, ne"),
        ({"field": "name", "op": "eq"}, "/value", "missing", "exists asks"),
        ({"field": "name", "op": "eq", "value": None}, "/value", "missing", "exists asks"),
        (leaf("name", "eq", 7), "/value", "wrong_value", "must be a text"),
        (leaf("name", "eq", "a\x00"), "/value", "wrong_value", "NUL"),
        (leaf("name", "eq", "x" * 1001), "/value", "wrong_value", "1000 characters"),
        (leaf("name", "contains", ""), "/value", "wrong_value", "empty"),
        (leaf("name", "in", "Sari"), "/value", "wrong_value", "a list of 1 to 100"),
        (leaf("name", "in", []), "/value", "wrong_value", "a list of 1 to 100"),
        (leaf("name", "in", ["x"] * 101), "/value", "wrong_value", "a list of 1 to 100"),
        (leaf("name", "not_in", ["Sari", 7]), "/value/1", "wrong_value", "must be a text"),
        (leaf("name", "exists", "yes"), "/value", "wrong_value", "true or false"),
        (leaf("points", "gte", "100"), "/value", "wrong_value", "must be a number"),
        (leaf("points", "gte", True), "/value", "wrong_value", "must be a number"),
        (leaf("points", "gte", 2**53), "/value", "wrong_value", "2^53"),
        (leaf("points", "eq", float("nan")), "/value", "wrong_value", "must be a number"),
        (leaf("points", "eq", float("inf")), "/value", "wrong_value", "must be a number"),
        (leaf("points", "in", [1, True]), "/value/1", "wrong_value", "must be a number"),
        (leaf("birth_on", "eq", 19900310), "/value", "wrong_value", "must be a date"),
        (leaf("birth_on", "eq", "10.03.1990"), "/value", "wrong_value", "must be a date"),
        (leaf("birth_on", "eq", "19900310"), "/value", "wrong_value", "must be a date"),
        (leaf("birth_on", "eq", "1990-02-30"), "/value", "wrong_value", "calendar"),
        (leaf("birth_on", "eq", "0990-02-20"), "/value", "wrong_value", "1900"),
        (leaf("birth_on", "lte", {"ago": "18 years"}), "/value", "wrong_value", "ISO 8601"),
        (leaf("birth_on", "lte", {"ago": "PT12H"}), "/value", "wrong_value", "whole days"),
        (leaf("birth_on", "lte", {"ago": 18}), "/value", "wrong_value", '"ago"'),
        (leaf("birth_on", "lte", {"in": "P30D"}), "/value", "wrong_value", '"ago"'),
        (leaf("birth_on", "in", ["1990-03-10", {"ago": "P1D"}]), "/value/1", "wrong_value", "must be a date"),
        (leaf("birth_on", "anniversary", "week"), "/value", "wrong_value", '"day" or "month"'),
        (leaf("birth_on", "anniversary", {}), "/value", "wrong_value", '"day" or "month"'),
        (leaf("created_at", "eq", "2026-11-01T00:00:00Z"), "/op", "unknown_operator", "gt, gte, lt, lte, exists"),
        (leaf("created_at", "gte", "2026-11-01"), "/value", "wrong_value", "offset"),
        (leaf("created_at", "gte", "2026-11-01T00:00:00"), "/value", "wrong_value", "offset"),
        (leaf("created_at", "gte", "2026-13-01T00:00:00Z"), "/value", "wrong_value", "calendar"),
        (leaf("created_at", "gte", "0001-01-01T00:00:00+07:00"), "/value", "wrong_value", "calendar"),
        (leaf("created_at", "gte", 1700000000), "/value", "wrong_value", "offset"),
        (leaf("subscribed", "eq", 1), "/value", "wrong_value", "true or false"),
        (leaf("subscribed", "eq", "true"), "/value", "wrong_value", "true or false"),
        (leaf("tags", "contains", ["vip"]), "/value", "wrong_value", "must be a text"),
        (leaf("attributes.x", "eq", ["a"]), "/value", "wrong_value", "a text, a number, true or false"),
        (leaf("attributes.x", "eq", {}), "/value", "wrong_value", "a text, a number, true or false"),
        (leaf("attributes.x", "gt", "many"), "/value", "wrong_value", "decimal"),
        (leaf("attributes.x", "gt", True), "/value", "wrong_value", "must be a number"),
        (leaf("attributes.x", "in", ["a", 1]), "/value/1", "wrong_value", "must be a text"),
        (leaf("attributes.x", "in", [None]), "/value/0", "wrong_value", "a text, a number"),
        ({"did": ""}, "/did", "kind", "purchase"),
        ({"did": "Purchase"}, "/did", "kind", "purchase"),
        ({"did": ["purchase"]}, "/did", "kind", "purchase"),
        ({"did": "purchase", "count": 3}, "/count", "count", '{"gte": 3}'),
        ({"did": "purchase", "count": {}}, "/count", "count", '{"gte": 3}'),
        ({"did": "purchase", "count": {"ne": 3}}, "/count", "count", "eq, gt, gte, lt, lte"),
        ({"did": "purchase", "count": {"gte": 1.0}}, "/count/gte", "wrong_value", "whole number"),
        ({"did": "purchase", "count": {"gte": True}}, "/count/gte", "wrong_value", "whole number"),
        ({"did": "purchase", "count": {"gte": -1}}, "/count/gte", "wrong_value", "whole number"),
        ({"did": "purchase", "count": {"gte": COUNT_MAX + 1}}, "/count/gte", "wrong_value", "whole number"),
        ({"did": "purchase", "within": 90}, "/within", "wrong_value", "ISO 8601"),
        ({"did": "purchase", "within": "90 days"}, "/within", "wrong_value", "ISO 8601"),
        ({"did": "purchase", "within": "P0D"}, "/within", "wrong_value", "longer"),
        ({"did": "purchase", "when": "P1D"}, "/when", "unknown_member", "count, within, where"),
        ({"did": "purchase", "where": NAME}, "/where/field", "unknown_field", "channel, data.…"),
        ({"did": "purchase", "where": {"did": "visit"}}, "/where", "condition", "one of these: all, any, not, field"),
        ({"did": "purchase", "where": {"all": [{"did": "x"}]}}, "/where/all/0", "condition", "all, any, not, field"),
        (nested(6), "/not/not/not/not/not", "too_deep", "5 deep"),
        (nested(5, {"did": "visit", "where": leaf("data.x", "eq", 1)}), "/not/not/not/not/where", "too_deep", "5 deep"),
        ({"any": [NAME] * NODES_MAX}, "", "too_many", "50 nodes"),
        ({"any": [NAME] * 100_000}, "", "too_many", "50 nodes"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_of_its_place(document: Any, pointer: str, code: str, said: str) -> None:
    ((place, (found, message)),) = refused(document).items()
    assert (place, found) == (pointer, code)
    assert said in message


def test_everything_that_is_wrong_is_said_at_once() -> None:
    wrong = {"all": [leaf("tag", "eq", 1), {"any": [leaf("points", "gt", "x"), NAME, {}]}, {"did": 1, "where": {}}]}
    assert refused(wrong).keys() == {"/all/0/field", "/all/1/any/0/value", "/all/1/any/2", "/all/2/where", "/all/2/did"}


def test_places_are_those_of_the_whole_body() -> None:
    with pytest.raises(InvalidCondition) as caught:
        conditions.parse({"not": {}}, fields=FIELDS, interactions=INTERACTIONS, pointer="/condition")
    assert [error.pointer for error in caught.value.errors] == ["/condition/not"]


def test_as_deep_and_as_large_as_is_allowed_is_allowed() -> None:
    parsed(nested(5))
    parsed(nested(4, {"did": "visit", "where": leaf("data.x", "eq", 1)}))
    parsed({"any": [NAME] * (NODES_MAX - 1)})
    parsed({"did": "visit", "where": {"any": [leaf("data.x", "eq", 1)] * (NODES_MAX - 2)}})
    refused({"did": "visit", "where": {"any": [leaf("data.x", "eq", 1)] * (NODES_MAX - 1)}})


# ---------------------------------------------------------------- laws

_words = st.sampled_from(["", "a", "vip", "Sari", "7", "1990-03-10", "2026-11-01T00:00:00Z", "P1D", "100.50", "day"])
_scalars = (
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | _words | st.text(max_size=5) | st.integers()
)  # fmt: skip
_json = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_words | st.text(max_size=3), inner, max_size=4),
    max_leaves=8,
)
_fields = st.sampled_from(list(TYPES))
_ops = st.sampled_from(sorted({op for ops in OPERATORS.values() for op in ops}))
_values = _scalars | st.lists(_scalars, max_size=3) | st.builds(lambda text: {"ago": text}, _words)
_leaves = st.builds(leaf, _fields, _ops, _values)
_histories = st.fixed_dictionaries(
    {"did": st.sampled_from(["purchase", "visit"])},
    optional={
        "count": st.dictionaries(st.sampled_from(["eq", "gte", "lt"]), st.integers(0, 3), min_size=1),
        "within": st.sampled_from(["P1D", "P90D"]),
        "where": st.builds(leaf, st.sampled_from(["channel", "data.x"]), st.just("eq"), _words),
    },
)


def _grown(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves,
        lambda inner: (
            st.builds(lambda parts: {"all": parts}, st.lists(inner, min_size=1, max_size=3))
            | st.builds(lambda parts: {"any": parts}, st.lists(inner, min_size=1, max_size=3))
            | st.builds(lambda part: {"not": part}, inner)
        ),
        max_leaves=10,
    )


_almost = _grown(_leaves | _histories | _json)
"""Documents that look like conditions; some of them are."""
_sound = _grown(st.sampled_from([leaf(field, op, value) for field, op, value, *_ in COMPARISONS]) | _histories)

_found = _json | st.dates() | st.datetimes(timezones=st.just(UTC)) | st.decimals() | st.lists(_words, max_size=3)
_facts = st.builds(
    lambda values, counts: (values, counts), st.dictionaries(_fields, _found), st.lists(st.integers(0, 4), max_size=4)
)
_nows = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.sampled_from([UTC, JAKARTA]))  # noqa: DTZ001 - the zone comes after


def _facts_for(condition: Condition, given: tuple[dict[str, Any], list[int]]) -> Facts:
    return Facts(given[0], dict(zip(conditions.histories_of(condition), given[1], strict=False)))


def _parsed_or_none(document: Any) -> Condition | None:
    try:
        return parsed(document)
    except InvalidCondition:
        return None


@given(_almost | _json)
def test_whatever_is_sent_is_a_condition_or_is_refused_with_its_places(document: Any) -> None:
    try:
        assert parsed(document) == parsed(document)
    except InvalidCondition:
        assert refused(document)


@given(_sound, _facts, _nows)
def test_a_condition_can_be_judged_by_whatever_is_found(document: Any, given_: Any, now: datetime) -> None:
    condition = _parsed_or_none(document)
    if condition is not None:
        assert conditions.holds(condition, _facts_for(condition, given_), now=now) in (True, False)


@given(st.lists(_sound, min_size=1, max_size=4), _facts, _nows)
def test_not_all_is_any_not_and_not_any_is_all_not(documents: list[Any], given_: Any, now: datetime) -> None:
    parts = tuple(part for part in map(_parsed_or_none, documents) if part is not None)
    facts = _facts_for(All(parts), given_)
    contrary = tuple(Not(part) for part in parts)
    assert conditions.holds(Not(All(parts)), facts, now=now) is conditions.holds(AnyOf(contrary), facts, now=now)
    assert conditions.holds(Not(AnyOf(parts)), facts, now=now) is conditions.holds(All(contrary), facts, now=now)


@given(_fields, st.sampled_from([("eq", "ne"), ("in", "not_in")]), _values, _found, _nows)
def test_an_operator_and_its_opposite_never_agree(
    field: str, ops: tuple[str, str], value: Any, found: Any, now: datetime
) -> None:
    first, second = (_parsed_or_none(leaf(field, op, value)) for op in ops)
    if first is not None and second is not None:
        facts = Facts({field: found})
        assert conditions.holds(first, facts, now=now) is not conditions.holds(second, facts, now=now)
