"""Statements, liability and reports over HTTP."""

import csv
import io
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any
from uuid import UUID, uuid4

import pytest

from crm.exchange.cells import guarded
from tests.api.test_loyalty import pointers, problem
from tests.loyalty.shop import Shop

STATEMENT = {
    "contact_id", "program_id", "program_name", "time_zone", "starts_on", "ends_on", "as_of", "opening", "closing",
    "totals", "omitted", "entries", "expiring", "expiring_later", "tier",
}  # fmt: skip
ENTRY = {
    "transaction_id", "kind", "reason", "order_ref", "occurred_at", "points", "available", "pending", "held",
    "available_after",
}  # fmt: skip
LIABILITY = {
    "program_id", "as_of", "points", "pending", "available", "held", "deficit", "cost_per_point", "expected_breakage",
    "liability",
}  # fmt: skip
HOSTILE = '<script>alert(1)</script> & "Sons" \'O'
OCTOBER = {"from": "2026-10-01", "to": "2026-10-31"}


@pytest.fixture
async def shop(client: Any) -> Shop:
    return await Shop.open(client)


@pytest.fixture
async def sari(shop: Shop) -> UUID:
    """Somebody with 100 points of September and 45 of October, of which she has spent 20 by now."""
    sari = await shop.member()
    await shop.award(sari, 100, occurred_at="2026-09-10T03:00:00Z", expires_at="2030-01-31T17:00:00Z")
    await shop.buy(sari, occurred_at="2026-10-05T03:00:00Z")
    await shop.redeem(sari, 20, order_ref="INV-2")
    return sari


async def get(shop: Shop, path: str, **params: Any) -> Any:
    answer = await shop.client.get(f"/v1/{path}", params=params)
    assert answer.status_code == 200, answer.text
    return answer


def program(shop: Shop, path: str) -> str:
    return f"programs/{shop.program_id}/{path}"


# ---------------------------------------------------------------- statements


async def test_a_statement_tells_what_there_was_what_happened_and_what_there_is(shop, sari):
    statement = (await get(shop, f"contacts/{sari}/loyalty/statement", **OCTOBER)).json()
    assert statement.keys() == STATEMENT
    assert statement["opening"] == {"available": 100, "pending": 0, "held": 0}
    assert statement["closing"] == {"available": 145, "pending": 0, "held": 0}
    assert statement["totals"] == [{"kind": "earn", "count": 1, "points": 45, "available": 45, "pending": 0, "held": 0}]
    (entry,) = statement["entries"]
    assert entry.keys() == ENTRY
    assert (entry["kind"], entry["order_ref"], entry["available_after"]) == ("earn", "INV-1", 145)
    assert statement["expiring"] == [{"points": 80, "expires_at": "2030-01-31T17:00:00Z"}]
    assert (statement["starts_on"], statement["ends_on"], statement["omitted"]) == ("2026-10-01", "2026-10-31", None)
    assert statement["tier"].keys() == {"current", "since", "until", "next", "to_stay"}


async def test_a_statement_without_days_is_that_of_the_last_full_month(shop, sari):
    statement = (await get(shop, f"contacts/{sari}/loyalty/statement")).json()
    today = (datetime.now(UTC) + timedelta(hours=7)).date()
    assert statement["ends_on"] == str(today.replace(day=1) - timedelta(days=1))
    assert statement["starts_on"] == statement["ends_on"][:8] + "01"


async def test_another_program_has_another_statement(shop, sari):
    other = (
        await shop.client.post("/v1/programs", json={"name": "Teh", "currency": "USD", "time_zone": "Etc/UTC"})
    ).json()
    statement = (await get(shop, f"contacts/{sari}/loyalty/statement", program=other["id"], **OCTOBER)).json()
    assert (statement["program_id"], statement["time_zone"], statement["entries"]) == (other["id"], "Etc/UTC", [])


@pytest.mark.parametrize("path", ["statement", "statement.html"])
@pytest.mark.parametrize(
    ("params", "code", "pointer"),
    [
        ({"from": "2026-13-01"}, "invalid", "query/from"),
        ({"from": "01-11-2026"}, "invalid", "query/from"),
        ({"to": "2026-11-01T00:00:00Z"}, "invalid", "query/to"),
        ({"to": "20261101"}, "invalid", "query/to"),
        ({"to": "null"}, "invalid", "query/to"),
        ({"to": "1899-12-31"}, "invalid", "query/to"),
        ({"from": "2200-01-01"}, "invalid", "query/from"),
        ({"from": "2026-11-02", "to": "2026-11-01"}, "invalid_period", "query/to"),
        ({"from": "2025-01-01", "to": "2026-01-02"}, "invalid_period", "query/from"),
        ({"program": "x"}, "invalid", "query/program"),
    ],
)
async def test_days_that_are_none_are_refused(shop, sari, path, params, code, pointer):
    answer = await shop.client.get(f"/v1/contacts/{sari}/loyalty/{path}", params=params)
    problem(answer, 422, code)
    assert pointers(answer) == {pointer}


@pytest.mark.parametrize("path", ["statement", "statement.html"])
async def test_whose_and_of_what_there_is_no_statement(client, path):
    nobody = f"/v1/contacts/{uuid4()}/loyalty/{path}"
    problem(await client.get(nobody), 422, "program_required")
    shop = await Shop.open(client)
    problem(await client.get(nobody), 404, "contact_not_found")
    sari = await shop.member()
    answer = await client.get(f"/v1/contacts/{sari}/loyalty/{path}", params={"program": str(uuid4())})
    problem(answer, 404, "program_not_found")


# ---------------------------------------------------------------- the page


class Shown(HTMLParser):
    """The elements of a page, their attributes, and what is read on it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        if data.strip() and self.tags[-1] != "style":
            self.text.append(" ".join(data.split()))


async def page(shop: Shop, contact_id: UUID, **params: Any) -> tuple[str, Shown]:
    answer = await get(shop, f"contacts/{contact_id}/loyalty/statement.html", **OCTOBER, **params)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    return answer.text, Shown(answer.text)


async def test_the_page_shows_the_statement_and_asks_nobody_for_anything(shop, sari):
    html, shown = await page(shop, sari)
    for text in (
        "Kopi",
        "Sari",
        "Points statement",
        "1\N{EN DASH}31 October 2026",
        "5 Oct",
        "Points earned",
        "+45",
        "145",
        "Order INV-1",
    ):
        assert text in shown.text
    assert "31 January 2030" in shown.text
    assert not {"script", "link", "img", "iframe", "object", "base", "form"} & set(shown.tags)
    assert not {"src", "href", "action", "style"} & {name for name, _ in shown.attributes}
    assert not re.search(r"://|@import|url\(", html)
    assert "default-src 'none'" in html


async def test_whatever_people_call_themselves_is_text(shop, sari):
    await shop.client.patch(f"/v1/contacts/{sari}", json={"name": HOSTILE})
    await shop.client.patch(f"/v1/programs/{shop.program_id}", json={"name": HOSTILE})
    await shop.buy(sari, order_ref="<b onclick=alert(1)>", occurred_at="2026-10-06T03:00:00Z")
    await shop.client.post(f"/v1/programs/{shop.program_id}/tiers", json={"name": "<i>Gold", "threshold": 9_000})
    html, shown = await page(shop, sari)
    assert not {"script", "b", "i"} & set(shown.tags)
    assert "onclick" not in {name for name, _ in shown.attributes}
    assert shown.text.count(HOSTILE) == 2
    assert "Order <b onclick=alert(1)>" in shown.text
    assert "<script" not in html


@pytest.mark.parametrize(
    ("locale", "asked", "lang", "said"),
    [
        (None, None, "en", "Points statement"), ("id-ID", None, "id", "Laporan poin"),
        ("id-ID", "en", "en", "Points statement"), (None, "id", "id", "Laporan poin"),
    ],
)  # fmt: skip
async def test_the_page_speaks_the_language_asked_for_or_else_that_of_the_contact(
    shop, sari, locale, asked, lang, said
):
    await shop.client.patch(f"/v1/contacts/{sari}", json={"locale": locale})
    await shop.award(sari, 12_345, occurred_at="2026-10-30T03:00:00Z")
    _, shown = await page(shop, sari, **({"locale": asked} if asked else {}))
    assert ("lang", lang) in shown.attributes
    assert said in shown.text
    assert {"en": "+12,345", "id": "+12.345"}[lang] in shown.text


async def test_a_locale_that_is_none_is_refused(shop, sari):
    answer = await shop.client.get(f"/v1/contacts/{sari}/loyalty/statement.html", params={"locale": "in donesia"})
    problem(answer, 422, "invalid")


async def test_an_empty_page_says_so(shop):
    nobody = await shop.member()
    _, shown = await page(shop, nobody)
    assert "No points moved in this period." in shown.text


# ---------------------------------------------------------------- liability


async def test_a_program_says_what_its_points_cost(shop, sari):
    found = (await get(shop, program(shop, "liability"))).json()
    assert found.keys() == LIABILITY
    assert (found["points"], found["available"], found["liability"], found["cost_per_point"]) == (125, 125, None, None)

    changed = await shop.client.patch(
        f"/v1/programs/{shop.program_id}", json={"cost_per_point": "8.255", "expected_breakage": "0.2"}
    )
    assert (changed.json()["cost_per_point"], changed.json()["expected_breakage"]) == ("8.255", "0.2")
    assert changed.json()["rounding"] == "floor"
    found = (await get(shop, program(shop, "liability"))).json()
    assert found["liability"] == {"amount": "825.50", "currency": "IDR"}

    cleared = await shop.client.patch(
        f"/v1/programs/{shop.program_id}", json={"cost_per_point": None, "expected_breakage": None}
    )
    assert (cleared.json()["cost_per_point"], cleared.json()["expected_breakage"]) == (None, "0")
    assert (await get(shop, program(shop, "liability"))).json()["liability"] is None


async def test_a_program_may_begin_with_its_costs(client):
    told = {
        "name": "Teh",
        "currency": "JPY",
        "time_zone": "Asia/Tokyo",
        "cost_per_point": "0.5",
        "expected_breakage": "1",
    }
    made = (await client.post("/v1/programs", json=told)).json()
    assert made | told == made
    assert (await client.get(f"/v1/programs/{made['id']}")).json() == made


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("cost_per_point", [-1, 1.5, 8, "-1", "1e3", "", "NaN"]),
        ("expected_breakage", ["1.1", "-0.1", 0.2, "20%", ".5", "2", ""]),
    ],
)  # fmt: skip
async def test_costs_are_decimals_in_strings(shop, field, values):
    for value in values:
        for answer in (
            await shop.client.patch(f"/v1/programs/{shop.program_id}", json={field: value}),
            await shop.client.post(
                "/v1/programs", json={"name": "Teh", "currency": "USD", "time_zone": "Etc/UTC", field: value}
            ),
        ):
            problem(answer, 422, "invalid")
            assert pointers(answer) == {f"/{field}"}


@pytest.mark.parametrize(
    ("as_of", "points"),
    [("2026-09-01T00:00:00Z", 0), ("2026-09-10T10:00:00+07:00", 100), ("2026-10-31T00:00:00Z", 145),
     ("2030-01-31T17:00:00Z", 45)],
)  # fmt: skip
async def test_the_liability_of_another_time(shop, sari, as_of, points):
    assert (await get(shop, program(shop, "liability"), as_of=as_of)).json()["points"] == points


@pytest.mark.parametrize(
    "as_of", ["2026-09-01", "yesterday", "2026-09-01T00:00:00", "1700-01-01T00:00:00Z", "1790000000"]
)
async def test_an_instant_that_is_none_is_refused(shop, as_of):
    answer = await shop.client.get(f"/v1/{program(shop, 'liability')}", params={"as_of": as_of})
    problem(answer, 422, "invalid")
    assert pointers(answer) == {"query/as_of"}


# ---------------------------------------------------------------- reports


async def test_points_by_month(shop, sari):
    report = (await get(shop, program(shop, "reports/points"), **{"from": "2026-08-15", "to": "2026-10-31"})).json()
    assert [(each["starts_on"], each["ends_on"], each["issued"]) for each in report["periods"]] == [
        ("2026-08-15", "2026-08-31", 0), ("2026-09-01", "2026-09-30", 100), ("2026-10-01", "2026-10-31", 45),
    ]  # fmt: skip
    assert (report["by"], report["total"]["issued"], report["total"]["net"]) == ("month", 145, 145)
    by_day = (await get(shop, program(shop, "reports/points"), by="day", **OCTOBER)).json()
    assert [each["starts_on"] for each in by_day["periods"] if each["issued"]] == ["2026-10-05"]
    assert len(by_day["periods"]) == 31


async def test_cohorts(shop, sari):
    report = (await get(shop, program(shop, "reports/cohorts"), **{"from": "2026-08-15", "to": "2026-10-31"})).json()
    shown = [[each[name] for name in ("issued", "redeemed", "open", "redemption_rate")] for each in report["cohorts"]]
    assert shown == [
        [0, 0, 0, None], [100, 20, 80, "0.2000"], [45, 0, 45, "0.0000"],
    ]  # fmt: skip
    assert report["total"]["redemption_rate"] == "0.1379"
    assert set(report["deficits"].values()) == {0}


@pytest.mark.parametrize(
    ("report", "header"),
    [
        (
            "points",
            "program,starts_on,ends_on,issued,redeemed,returned,expired,revoked,transferred_out,transferred_in,net",
        ),
        (
            "cohorts",
            "program,starts_on,ends_on,issued,redeemed,expired,revoked,transferred,open,breakage_rate,redemption_rate",
        ),
    ],
)
async def test_a_report_as_a_table(shop, sari, report, header):
    await shop.client.patch(f"/v1/programs/{shop.program_id}", json={"name": '=HYPERLINK("x"), Kopi'})
    await shop.adjust(sari, -300, allow_negative=True)
    for accept, kind in (
        ("text/csv", "text/csv; charset=utf-8"), ("text/csv, application/json;q=0.5", "text/csv; charset=utf-8"),
        ("application/json", "application/json"), ("*/*", "application/json"), ("text/html", "application/json"),
    ):  # fmt: skip
        answer = await shop.client.get(
            f"/v1/{program(shop, f'reports/{report}')}", params={"from": "2026-09-01"}, headers={"Accept": accept}
        )
        assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
        if kind == "application/json":
            continue
        head, *rows = csv.reader(io.StringIO(answer.text, newline=""))
        assert ",".join(head) == header
        assert {row[0] for row in rows} == {'\'=HYPERLINK("x"), Kopi'}
        assert rows[0][1:4] == ["2026-09-01", "2026-09-30", "100"]
        assert all(re.fullmatch(r"-?\d+|\d\.\d{4}|", number) for row in rows for number in row[3:])
    if report == "points":
        assert any(row[-1].startswith("-") for row in rows), "a number below zero is no formula"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("=1+1", "'=1+1"), ("+62", "'+62"), ("-x", "'-x"), ("@a", "'@a"), ("\tx", "'\tx"), ("\rx", "'\rx"),
        ("Kopi = Teh", "Kopi = Teh"), ("", ""), (-5, -5), (None, None), ("2026-01-01", "2026-01-01"),
    ],
)  # fmt: skip
def test_text_that_looks_like_a_formula_is_only_text(value, expected):
    assert guarded(value) == expected


@pytest.mark.parametrize("report", ["points", "cohorts"])
@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"from": "2026-02-30"}, "invalid"), ({"from": "2026-11-02", "to": "2026-11-01"}, "invalid_period"),
        ({"from": "1990-01-01", "to": "2026-01-01"}, "invalid_period"), ({"until": "2026-11-01"}, "invalid"),
        ({"by": "year"}, "invalid"),
    ],
)  # fmt: skip
async def test_a_report_on_days_that_are_none_is_refused(shop, report, params, code):
    problem(await shop.client.get(f"/v1/{program(shop, f'reports/{report}')}", params=params), 422, code)


@pytest.mark.parametrize("path", ["liability", "reports/points", "reports/cohorts"])
async def test_of_no_program_nothing_is_said(client, path):
    problem(await client.get(f"/v1/programs/{uuid4()}/{path}"), 404, "program_not_found")


async def test_the_scopes_of_insights(shop, sari):
    for path, scope in (
        (f"contacts/{sari}/loyalty/statement", "loyalty:read"),
        (f"contacts/{sari}/loyalty/statement.html", "loyalty:read"),
        (program(shop, "liability"), "insights:read"),
        (program(shop, "reports/points"), "insights:read"),
        (program(shop, "reports/cohorts"), "insights:read"),
    ):
        for other in ("loyalty:read", "insights:read", "programs:read"):
            async with await shop.client.limited_to(other) as limited:
                assert (await limited.get(f"/v1/{path}")).status_code == (200 if other == scope else 403), (path, other)
        async with await shop.client.limited_to() as stranger:
            problem(await stranger.get(f"/v1/{path}"), 401, "unauthenticated")
