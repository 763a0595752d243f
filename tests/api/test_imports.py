"""Imports over HTTP: a file, where its columns go, what became of its rows, and taking it back."""

import asyncio
import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from crm.api import routes
from crm.db.ids import uuid7
from crm.exchange.imports import KEPT
from crm.jobs import JOBS, SCHEDULES
from tests.exchange.desk import HEADER, MAPPED, XLSX, Desk, table, workbook
from tests.loyalty.shop import Shop, checksum

SARI = ("Sari Dewi", "0812-3456-789", "Sari@Example.com", "Bandung")
BUDI = ("Budi", "0813 1111 222", "", "Jakarta")
VIEW = {
    "id", "kind", "status", "filename", "format", "encoding", "delimiter", "sheet", "program_id", "columns", "sample",
    "mapping", "unmapped", "on_duplicate", "dry_run", "progress", "failure", "reversion", "by", "created_at",
    "started_at", "finished_at",
}  # fmt: skip
ORDERS = ("nota", "pelanggan", "tanggal", "total belanja", "catatan")


@pytest.fixture
async def desk(live_client: Any) -> Desk:
    return Desk(live_client)


def problem(answer: Any, status: int, code: str) -> dict[str, Any]:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    return document


def counts(found: dict[str, Any]) -> tuple[int, int, int, int]:
    progress = found["progress"]
    assert progress["rows"] == progress["processed"] == sum(list(progress.values())[2:])
    return progress["created"], progress["updated"], progress["skipped"], progress["failed"]


# The file


async def test_a_file_is_shown_with_a_guess_before_anything_is_imported(desk):
    answer = await desk.send(table(SARI, BUDI, delimiter=";"), filename="C:/Data/pelanggan.csv")

    made = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/v1/imports/{made['id']}"
    assert made.keys() == VIEW
    assert (made["status"], made["format"], made["delimiter"], made["filename"]) == (
        "pending",
        "csv",
        ";",
        "pelanggan.csv",
    )
    assert made["columns"] == list(HEADER)
    assert made["sample"] == [list(SARI), list(BUDI)]
    assert list(made["mapping"]["columns"].items()) == list(MAPPED.items())
    assert made["unmapped"] == []
    assert await desk.count() == 0
    assert await desk.read(made["id"]) == made


@pytest.mark.parametrize(
    ("content", "media_type", "status", "code"),
    [
        (b"", "text/csv", 422, "unreadable_file"),
        (b"\n\n", "text/csv", 422, "unreadable_file"),
        (b"a,b\n\x00,\n", "text/csv", 422, "unreadable_file"),
        (b"PK\x03\x04xx", XLSX, 422, "unreadable_file"),
        (b"{}", "application/json", 415, "no_table"),
        (b"--x", "multipart/form-data; boundary=x", 415, "no_table"),
        (b"a,b\n1,2\n", "", 415, "no_table"),
    ],
)
async def test_what_is_no_table_is_refused_and_leaves_nothing(desk, content, media_type, status, code):
    problem(await desk.send(content, media_type=media_type), status, code)
    assert (await desk.client.get("/v1/imports")).json()["items"] == []


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("", 422, "invalid"),
        ("kind=people", 422, "invalid"),
        ("kind=contacts&nope=1", 422, "invalid"),
        ("kind=purchases", 422, "program_required"),
        ("kind=purchases&program=01a21589-0000-7000-8000-000000000001", 404, "program_not_found"),
        ("kind=contacts&program=01a21589-0000-7000-8000-000000000001", 422, "not_importable"),
    ],
)
async def test_what_is_asked_for_must_make_sense(desk, query, status, code):
    answer = await desk.client.post(f"/v1/imports?{query}", content=table(SARI), headers={"Content-Type": "text/csv"})
    problem(answer, status, code)


async def test_a_file_that_is_too_large_is_refused_before_it_is_read(desk):
    async def endless() -> Any:
        for _ in range(routes.UPLOAD_MAX // 1_000_000 + 1):
            yield b"x" * 1_000_000

    answer = await desk.client.post(
        "/v1/imports?kind=contacts", content=endless(), headers={"Content-Type": "text/csv"}
    )
    assert answer.status_code == 413
    assert answer.json()["code"] == "body_too_large"


async def test_the_same_upload_under_one_key_is_one_import(desk):
    first = await desk.send(table(SARI), key="a")
    again = await desk.send(table(SARI), key="a")
    other = await desk.send(table(BUDI), key="a")
    elsewhere = await desk.send(table(SARI), key="a", filename="x.csv")

    assert again.status_code == 201
    assert again.json() == first.json()
    assert again.headers["idempotency-replayed"] == "true"
    problem(other, 422, "idempotency_key_reused")
    problem(elsewhere, 422, "idempotency_key_reused")
    assert len((await desk.client.get("/v1/imports")).json()["items"]) == 1


async def test_imports_are_listed_in_pages_newest_first(desk):
    made = [(await desk.upload(table(SARI)))["id"] for _ in range(3)]

    first = (await desk.client.get("/v1/imports?limit=2")).json()
    rest = (await desk.client.get(f"/v1/imports?limit=2&cursor={first['next_cursor']}")).json()

    assert [each["id"] for each in first["items"] + rest["items"]] == made[::-1]
    assert rest["next_cursor"] is None


# Rows


async def test_rows_become_contacts_with_all_that_they_say(desk):
    header = ("Nama", "Nama Depan", "HP", "HP 2", "Lahir", "Grup", "Ukuran", "Kosong")
    made = await desk.upload(
        table(
            ("Sari Dewi", "Sari", "0812-3456-789", "0813 1111 222", "10/03/1990", "vip, bazar", "M", ""), header=header
        )
    )
    mapping = {
        "columns": {
            "Nama": "name", "Nama Depan": "given_name", "HP": "identity:phone", "HP 2": "identity:whatsapp",
            "Lahir": "birth_on", "Grup": "tags", "Ukuran": "attributes.size",
        },
        "constants": {"locale": "id-ID", "time_zone": "Asia/Jakarta", "tags": "from-file"},
        "date_order": "dmy",
    }  # fmt: skip

    mapped = await desk.client.put(f"/v1/imports/{made['id']}/mapping", json=mapping)
    done = await desk.run(made["id"])

    assert mapped.json()["mapping"] == mapping
    assert mapped.json()["unmapped"] == ["Kosong"]
    assert (done["status"], counts(done), done["sample"]) == ("completed", (1, 0, 0, 0), [])
    contact = await desk.contact("phone", "+628123456789")
    expected = {
        "name": "Sari Dewi", "given_name": "Sari", "family_name": None, "locale": "id-ID",
        "time_zone": "Asia/Jakarta", "birth_on": "1990-03-10",
    }  # fmt: skip
    assert {name: contact[name] for name in expected} == expected
    assert contact["tags"] == ["bazar", "from-file", "vip"]
    assert contact["attributes"] == {"size": "M"}
    assert [(i["kind"], i["value"], i["raw"]) for i in contact["identities"]] == [
        ("phone", "+628123456789", "0812-3456-789"),
        ("whatsapp", "628131111222", "0813 1111 222"),
    ]
    told = (await desk.client.get(f"/v1/contacts/{contact['id']}/timeline")).json()["items"]
    assert [(each["kind"], each["data"], each["by"]) for each in told] == [
        ("contact.created", {"import_id": made["id"]}, "key:test")
    ]


@pytest.mark.parametrize(
    ("row", "name"),
    [
        (("Sari", "Dewi", "a@x.id"), "Sari Dewi"),
        (("Sari", "", "a@x.id"), "Sari"),
        (("", "", "a@x.id"), "a@x.id"),
    ],
)
async def test_a_row_without_a_name_is_called_by_what_it_has(desk, row, name):
    await desk.bring(table(row, header=("First Name", "Last Name", "Email")))
    assert (await desk.contact("email", "a@x.id"))["name"] == name


async def test_an_excel_workbook_is_imported_as_a_csv_is(desk, tmp_path: Path):
    book = workbook(
        tmp_path / "x.xlsx", ["Sari", 8123456789, "a@x.id", "Bandung"], ["Budi", "0813 1111 222", None, None]
    )

    done = await desk.bring(book.read_bytes(), media_type=XLSX)

    assert (done["format"], done["sheet"], counts(done)) == ("xlsx", "Pelanggan", (2, 0, 0, 0))
    assert (await desk.contact("phone", "08123456789"))["name"] == "Sari"


async def test_a_refused_row_says_which_field_and_why_and_stops_nobody(desk):
    header = ("Nama", "HP", "Email", "Lahir", "Bahasa")
    rows = [
        ("A", "8.12E+10", "", "", ""),
        ("B", "123", "no mail", "", ""),
        ("C", "", "", "", ""),
        ("D", "", "d@x.id", "31/02/1990", ""),
        ("E", "", "e@x.id", "", "Indonesisch"),
        ("F" * 201, "", "f@x.id", "", ""),
        ("G", "null", "", "", ""),
        ("H", "", "h@x.id", "", "", "extra"),
        ("I", "#N/A", "i@x.id", "", ""),
        ("J", "", "j@x.id", "1800-01-01", ""),
        ("OK", "", "ok@x.id", "", ""),
    ]
    made = await desk.upload(table(*rows, header=header))
    mapping = dict(zip(header, ("name", "identity:phone", "identity:email", "birth_on", "locale"), strict=True))
    await desk.client.put(f"/v1/imports/{made['id']}/mapping", json={"columns": mapping})

    done = await desk.run(made["id"])

    assert counts(done) == (1, 0, 0, 10)
    found = await desk.errors(made["id"])
    assert [(each["row"], [(e["field"], e["column"], e["code"]) for e in each["errors"]]) for each in found] == [
        (2, [("identity:phone", "HP", "number_shortened")]),
        (3, [("identity:phone", "HP", "invalid_identity"), ("identity:email", "Email", "invalid_identity")]),
        (4, [(None, None, "identity_missing")]),
        (5, [("birth_on", "Lahir", "date")]),
        (6, [("locale", "Bahasa", "locale")]),
        (7, [("name", "Nama", "name")]),
        (8, [("identity:phone", "HP", "invalid_identity")]),
        (9, [(None, None, "too_many_cells")]),
        (10, [("identity:phone", "HP", "cell_error")]),
        (11, [("birth_on", "Lahir", "birth_on")]),
    ]
    assert all(error["message"] for each in found for error in each["errors"])
    assert found[0]["cells"] == list(rows[0])
    assert await desk.count() == 1


async def test_the_refused_rows_come_as_a_file_that_is_mended_and_sent_again(desk):
    broken = ("=cmd()", "8.12E+10", "", "Bandung")
    done = await desk.bring(table(SARI, broken, BUDI))

    answer = await desk.client.get(f"/v1/imports/{done['id']}/errors.csv")

    assert answer.headers["content-type"].startswith("text/csv")
    header, row = csv.reader(answer.text.splitlines())
    assert header == [*HEADER, "line", "error"]
    assert row[:5] == ["'=cmd()", "8.12E+10", "", "Bandung", "3"]
    assert row[5].startswith("identity:phone: A spreadsheet has shortened")
    again = await desk.upload(answer.content.replace(b"8.12E+10", b"081234567890"))
    assert again["unmapped"] == []
    assert counts(await desk.run(again["id"])) == (1, 0, 0, 0)
    assert (await desk.contact("phone", "081234567890"))["name"] == "=cmd()"


async def test_refused_rows_are_listed_in_pages(desk):
    done = await desk.bring(table(*((f"N{n}", "1", "", "") for n in range(5))))

    rows: list[int] = []
    cursor = ""
    while True:
        page = (await desk.client.get(f"/v1/imports/{done['id']}/errors?limit=2{cursor}")).json()
        rows += [each["row"] for each in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"

    assert rows == [2, 3, 4, 5, 6]


# Who is there already


async def test_the_same_file_again_imports_nothing_twice(desk):
    first = await desk.bring(table(SARI, BUDI))
    before = await desk.client.get("/v1/contacts")

    again = await desk.bring(table(SARI, BUDI))

    assert (counts(first), counts(again)) == ((2, 0, 0, 0), (0, 0, 2, 0))
    assert (await desk.client.get("/v1/contacts")).json() == before.json()


@pytest.mark.parametrize(
    ("on_duplicate", "outcome", "expected"),
    [
        (
            "skip",
            (0, 0, 1, 0),
            {"name": "Sari", "attributes": {"city": "Medan"}, "tags": [], "emails": 0, "version": 1},
        ),
        (
            "fill",
            (0, 1, 0, 0),
            {"name": "Sari", "attributes": {"city": "Medan", "size": "M"}, "tags": ["vip"], "emails": 1, "version": 2},
        ),
        (
            "update",
            (0, 1, 0, 0),
            {
                "name": "Sari Dewi",
                "attributes": {"city": "Bandung", "size": "M"},
                "tags": ["vip"],
                "emails": 1,
                "version": 2,
            },
        ),
        (
            "reject",
            (0, 0, 0, 1),
            {"name": "Sari", "attributes": {"city": "Medan"}, "tags": [], "emails": 0, "version": 1},
        ),
    ],
)
async def test_what_is_done_about_somebody_who_is_there(desk, on_duplicate, outcome, expected):
    await desk.client.post(
        "/v1/contacts",
        json={
            "name": "Sari",
            "identities": [{"kind": "phone", "value": "0812-3456-789"}],
            "attributes": {"city": "Medan"},
        },
    )
    header = (*HEADER, "Grup", "attributes.size")

    done = await desk.bring(table((*SARI, "vip", "M"), header=header), on_duplicate=on_duplicate)

    assert counts(done) == outcome
    contact = await desk.contact("phone", "0812-3456-789")
    assert {
        "name": contact["name"],
        "attributes": contact["attributes"],
        "tags": contact["tags"],
        "emails": sum(i["kind"] == "email" for i in contact["identities"]),
        "version": contact["version"],
    } == expected
    if on_duplicate == "reject":
        [refused] = await desk.errors(done["id"])
        assert refused["errors"][0]["code"] == "duplicate"
        assert contact["id"] in refused["errors"][0]["message"]


async def test_what_a_contact_gains_is_told_and_what_it_has_is_no_gain(desk):
    await desk.bring(table(SARI))
    contact_id = (await desk.contact("email", "sari@example.com"))["id"]

    same = await desk.bring(table(SARI), on_duplicate="update")
    more = await desk.bring(table(("", SARI[1], "", "Medan")), on_duplicate="update")

    assert (counts(same), counts(more)) == ((0, 0, 1, 0), (0, 1, 0, 0))
    newest = (await desk.client.get(f"/v1/contacts/{contact_id}/timeline")).json()["items"][0]
    assert (newest["kind"], newest["data"]) == (
        "contact.updated",
        {
            "before": {"attributes": {"city": "Bandung"}},
            "after": {"attributes": {"city": "Medan"}},
            "import_id": more["id"],
        },
    )


async def test_a_contact_that_is_called_by_its_number_gets_its_name(desk):
    await desk.bring(table(("", SARI[1], "", "")))

    await desk.bring(table(SARI), on_duplicate="fill")

    assert (await desk.contact("phone", SARI[1]))["name"] == "Sari Dewi"


@pytest.mark.parametrize(
    ("on_duplicate", "outcome"),
    [("skip", (2, 0, 2, 0)), ("fill", (2, 1, 1, 0)), ("reject", (2, 0, 0, 2))],
)
async def test_a_person_who_stands_in_the_file_twice_is_one_contact(desk, on_duplicate, outcome):
    rows = (SARI, BUDI, ("Sari D.", "", SARI[2], "Medan"), ("Sari", SARI[1], "other@x.id", ""))
    if on_duplicate == "fill":
        rows = (SARI, BUDI, ("Sari", SARI[1], "other@x.id", ""), ("Sari D.", "", SARI[2], "Medan"))
    content = table(*rows)

    tried = await desk.run((await desk.upload(content))["id"], how="validation", on_duplicate=on_duplicate)
    done = await desk.bring(content, on_duplicate=on_duplicate)

    assert counts(done) == outcome
    assert counts(tried) == outcome
    assert await desk.count() == 2


async def test_a_row_that_is_two_people_is_refused_but_for_skipping(desk):
    await desk.bring(table(("Sari", SARI[1], "", ""), ("Dewi", "", SARI[2], "")))

    filled = await desk.bring(table(SARI), on_duplicate="fill")
    skipped = await desk.bring(table(SARI))

    assert (counts(filled), counts(skipped)) == ((0, 0, 0, 1), (0, 0, 1, 0))
    assert (await desk.errors(filled["id"]))[0]["errors"][0]["code"] == "several_contacts"


# Validating


async def test_validating_foretells_and_writes_nothing(desk):
    await desk.bring(table(BUDI))
    made = await desk.upload(table(SARI, BUDI, ("X", "1", "", "")))
    before = await desk.client.get("/v1/contacts")

    tried = await desk.run(made["id"], how="validation")

    assert (tried["status"], tried["dry_run"], counts(tried)) == ("pending", True, (1, 0, 1, 1))
    assert len(await desk.errors(made["id"])) == 1
    assert (await desk.client.get("/v1/contacts")).json() == before.json()
    assert (await desk.client.get(f"/v1/imports/{made['id']}/contacts")).json()["items"] == []

    done = await desk.run(made["id"])

    assert (done["status"], done["dry_run"], counts(done)) == ("completed", False, (1, 0, 1, 1))
    assert len(await desk.errors(made["id"])) == 1


async def test_a_new_mapping_forgets_what_the_old_one_came_to(desk):
    made = await desk.upload(table(("X", "1", "x@x.id", "")))
    await desk.run(made["id"], how="validation")

    mapping = {"columns": {"Nama": "name", "E-Mail": "identity:email"}}
    mapped = (await desk.client.put(f"/v1/imports/{made['id']}/mapping", json=mapping)).json()

    assert (mapped["dry_run"], mapped["progress"]["processed"], mapped["unmapped"]) == (False, 0, ["No HP", "Kota"])
    assert await desk.errors(made["id"]) == []
    assert counts(await desk.run(made["id"])) == (1, 0, 0, 0)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"columns": {"Nama": "nama", "No HP": "identity:phone"}}, 422),
        ({"columns": {"Nama": "name"}}, 422),
        ({"columns": {"Nope": "identity:phone"}}, 422),
        ({"columns": {}, "date_order": "ydm"}, 422),
        ({"columns": {"": "name"}}, 422),
        ({}, 422),
    ],
)
async def test_a_mapping_that_makes_no_sense_is_refused(desk, body, status):
    made = await desk.upload(table(SARI))
    answer = await desk.client.put(f"/v1/imports/{made['id']}/mapping", json=body)
    assert answer.status_code == status
    assert await desk.read(made["id"]) == made


async def test_an_import_whose_columns_tell_nobody_is_not_started(desk):
    made = await desk.upload(table(("a", "b"), header=("foo", "bar")))
    problem(await desk.client.post(f"/v1/imports/{made['id']}/processing", json={}), 422, "not_importable")


# States


async def test_an_import_is_processed_once(desk):
    made = await desk.upload(table(SARI))
    path = f"/v1/imports/{made['id']}"
    first = await desk.client.post(f"{path}/processing", json={}, headers={"Idempotency-Key": "k"})
    again = await desk.client.post(f"{path}/processing", json={}, headers={"Idempotency-Key": "k"})

    assert (first.status_code, first.json()["status"]) == (202, "processing")
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json() == first.json()
    problem(await desk.client.post(f"{path}/processing", json={}), 409, "import_not_pending")
    problem(await desk.client.put(f"{path}/mapping", json={"columns": MAPPED}), 409, "import_not_pending")
    await desk.work()
    for how in ("processing", "validation"):
        problem(await desk.client.post(f"{path}/{how}", json={}), 409, "import_not_pending")
    problem(await desk.client.delete(path), 409, "import_not_pending")


async def test_a_cancelled_import_is_left_alone_by_the_worker(desk):
    made = await desk.upload(table(SARI))
    await desk.client.post(f"/v1/imports/{made['id']}/processing", json={})

    answers = [await desk.client.delete(f"/v1/imports/{made['id']}") for _ in range(2)]
    await desk.work()

    assert [answer.status_code for answer in answers] == [204, 204]
    found = await desk.read(made["id"])
    assert (found["status"], found["progress"]["processed"], found["sample"]) == ("cancelled", 0, [])
    assert await desk.count() == 0
    async with desk.database.reading() as session:
        assert await session.fetchval("SELECT count(*) FROM import_chunks") == 0


@pytest.mark.parametrize("path", ["", "/errors", "/errors.csv", "/contacts"])
async def test_an_unknown_import_is_not_found(desk, path):
    problem(await desk.client.get(f"/v1/imports/{uuid7()}{path}"), 404, "import_not_found")


@pytest.mark.parametrize("path", ["/validation", "/processing", "/reversion"])
async def test_an_unknown_import_can_t_be_started(desk, path):
    problem(await desk.client.post(f"/v1/imports/{uuid7()}{path}", json={}), 404, "import_not_found")


# Taking it back


async def test_what_an_import_created_goes_unless_something_has_happened_with_it(desk):
    shop = await Shop.open(desk.client)
    await desk.bring(table(("Old", "0811 1111 111", "", "")))
    rows = [(f"N{n}", f"0812 0000 00{n}", "", "") for n in range(4)]
    done = await desk.bring(table(("Old", "0811 1111 111", "old@x.id", ""), *rows), on_duplicate="fill")
    ids = {name: (await desk.contact("phone", number))["id"] for name, number, *_ in [("Old", "0811 1111 111"), *rows]}
    await shop.buy(UUID(ids["N0"]), order_ref="A")
    await desk.client.patch(f"/v1/contacts/{ids['N1']}", json={"name": "Somebody"})
    await desk.client.delete(f"/v1/contacts/{ids['N2']}")

    answer = await desk.client.post(f"/v1/imports/{done['id']}/reversion", json={})
    assert (answer.status_code, answer.json()["status"]) == (202, "reverting")
    await desk.work()

    found = await desk.read(done["id"])
    assert (found["status"], found["reversion"]) == ("reverted", {"removed": 1, "kept": 4})
    touched = (await desk.client.get(f"/v1/imports/{done['id']}/contacts")).json()["items"]
    assert [
        (each["contact_id"], each["row"], each["removed"], each["kept"] and each["kept"]["code"]) for each in touched
    ] == [
        (ids["Old"], 2, False, "was_there_before"),
        (ids["N0"], 3, False, "has_history"),
        (ids["N1"], 4, False, "changed_since"),
        (ids["N2"], 5, False, "gone"),
        (ids["N3"], 6, True, None),
    ]
    kept = (await desk.client.get(f"/v1/imports/{done['id']}/contacts?kept=true&limit=2")).json()
    more = (await desk.client.get(f"/v1/imports/{done['id']}/contacts?kept=true&cursor={kept['next_cursor']}")).json()
    assert [each["contact_id"] for each in kept["items"] + more["items"]] == [ids[n] for n in ("Old", "N0", "N1", "N2")]
    assert (await desk.client.get(f"/v1/contacts/{ids['N3']}")).status_code == 404
    # Its identities are free again.
    assert counts(await desk.bring(table(rows[3]))) == (1, 0, 0, 0)


async def test_a_file_imported_taken_back_and_imported_again(desk):
    done = await desk.bring(table(SARI, BUDI))
    await desk.client.post(f"/v1/imports/{done['id']}/reversion", json={})
    await desk.work()
    assert await desk.count() == 0
    async with desk.database.reading() as session:
        assert await session.fetchval("SELECT count(*) FROM identity_directory") == 0

    assert counts(await desk.bring(table(SARI, BUDI))) == (2, 0, 0, 0)


async def test_what_can_t_be_taken_back_says_why(desk):
    shop = await Shop.open(desk.client)
    pending = await desk.upload(table(SARI))
    sold = await desk.upload(table(("A", "0812", "2026-11-01", "5", ""), header=ORDERS), kind="purchases")
    assert sold["program_id"] == shop.program_id

    for made in (pending, sold):
        problem(await desk.client.post(f"/v1/imports/{made['id']}/reversion", json={}), 409, "not_revertible")


# Purchases


async def sell(desk: Desk, *rows: tuple[str, ...], columns: dict[str, str] | None = None) -> dict[str, Any]:
    made = await desk.upload(table(*rows, header=ORDERS), kind="purchases")
    mapping = {
        "columns": columns
        or {"nota": "order_ref", "pelanggan": "identity:phone", "tanggal": "occurred_at", "total belanja": "total"},
        "constants": {"currency": "IDR", "store": "Bandung"},
    }
    answer = await desk.client.put(f"/v1/imports/{made['id']}/mapping", json=mapping)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_purchases_earn_and_are_recorded_once(desk):
    await Shop.open(desk.client)
    rows = [(f"A{n}", f"0812 0000 00{n % 3}", "01/11/2026", "45000.00", "terima kasih") for n in range(6)]

    made = await sell(desk, *rows)
    tried = await desk.run(made["id"], how="validation")
    done = await desk.run(made["id"])
    again = await desk.run((await sell(desk, *rows))["id"])

    assert made["unmapped"] == ["catatan"]
    assert (counts(tried), counts(done), counts(again)) == ((6, 0, 0, 0), (6, 0, 0, 0), (0, 0, 6, 0))
    assert await desk.count() == 3
    contact = await desk.contact("phone", "0812 0000 001")
    bought = (await desk.client.get(f"/v1/contacts/{contact['id']}/purchases")).json()["items"]
    assert [(each["order_ref"], each["points"], each["occurred_at"]) for each in bought] == [
        ("A4", 45, "2026-11-01T05:00:00Z"),
        ("A1", 45, "2026-11-01T05:00:00Z"),
    ]
    assert bought[0]["content"]["data"] == {"catatan": "terima kasih"}
    assert bought[0]["content"]["store"] == "Bandung"


async def test_a_refused_purchase_says_why(desk):
    await Shop.open(desk.client)
    rows = [
        ("A1", "0812 0000 001", "01/11/2026", "45.000,00", ""),
        ("", "0812 0000 001", "01/11/2026", "5", ""),
        ("A3", "", "01/11/2026", "5", ""),
        ("A4", "8.1E+10", "2026-11-32", "5", ""),
        ("A5", "0812 0000 001", "01/11/2099", "5", ""),
        ("A6", "0812 0000 001", "01/11/2026", "5", ""),
        ("A6", "0812 0000 001", "01/11/2026", "6", ""),
    ]

    made = await sell(desk, *rows)
    done = await desk.run(made["id"])

    assert counts(done) == (1, 0, 0, 6)
    found = await desk.errors(made["id"])
    assert [[(e["field"], e["code"]) for e in each["errors"]] for each in found] == [
        [("total", "amount")],
        [("order_ref", "missing")],
        [(None, "identity_missing")],
        [("identity:phone", "number_shortened"), ("occurred_at", "date")],
        [(None, "occurred_in_the_future")],
        [(None, "order_ref_reused")],
    ]


async def test_another_currency_is_found_by_validating(desk):
    await Shop.open(desk.client)
    made = await sell(desk, ("A1", "0812 0000 001", "01/11/2026", "5", ""))
    await desk.client.put(
        f"/v1/imports/{made['id']}/mapping",
        json={"columns": made["mapping"]["columns"], "constants": {"currency": "USD"}},
    )

    tried, done = await desk.run(made["id"], how="validation"), await desk.run(made["id"])

    assert (counts(tried), counts(done)) == ((0, 0, 0, 1), (0, 0, 0, 1))
    assert (await desk.errors(made["id"]))[0]["errors"][0]["code"] == "currency_mismatch"


# Who may, and for how long


@pytest.mark.parametrize(
    ("scopes", "may_write", "may_read"),
    [
        (("contacts:read",), {"contacts": False, "purchases": False}, {"contacts": True, "purchases": False}),
        (("contacts:write",), {"contacts": True, "purchases": False}, {"contacts": False, "purchases": False}),
        (
            ("contacts:write", "loyalty:award"),
            {"contacts": True, "purchases": True},
            {"contacts": False, "purchases": False},
        ),
        (
            ("contacts:read", "loyalty:read"),
            {"contacts": False, "purchases": False},
            {"contacts": True, "purchases": True},
        ),
        (
            ("loyalty:award", "loyalty:read"),
            {"contacts": False, "purchases": False},
            {"contacts": False, "purchases": False},
        ),
    ],
)
async def test_purchases_need_the_scopes_of_the_ledger_too(desk, scopes, may_write, may_read):
    await Shop.open(desk.client)
    made = {
        "contacts": await desk.upload(table(SARI)),
        "purchases": await sell(desk, ("A1", "0812 0000 001", "01/11/2026", "5", "")),
    }
    limited = Desk(await desk.client.limited_to(*scopes))

    listed = await limited.client.get("/v1/imports")
    assert {each["kind"] for each in listed.json().get("items", [])} == {kind for kind in made if may_read[kind]}
    for kind, each in made.items():
        path = f"/v1/imports/{each['id']}"
        reads = [await limited.client.get(path + part) for part in ("", "/errors", "/errors.csv")]
        assert {answer.status_code for answer in reads} == {200 if may_read[kind] else 403}
        assert (await limited.send(table(SARI), kind=kind)).status_code == (201 if may_write[kind] else 403)
        mapped = await limited.client.put(f"{path}/mapping", json={"columns": each["mapping"]["columns"]})
        assert mapped.status_code == (200 if may_write[kind] else 403)
        started = await limited.client.post(f"{path}/validation", json={})
        assert started.status_code == (202 if may_write[kind] else 403)
        assert (await limited.client.delete(path)).status_code == (204 if may_write[kind] else 403)


async def test_what_was_in_a_file_is_forgotten_after_a_month(desk):
    done = await desk.bring(table(SARI, ("X", "1", "", "")))
    waiting = await desk.upload(table(SARI))
    fresh = (await desk.read(done["id"]), await desk.read(waiting["id"]))
    forget = SCHEDULES["forget_imports"].run

    await forget(desk.database, now=datetime.now(UTC) + KEPT - timedelta(hours=1))
    assert (await desk.read(done["id"]), await desk.read(waiting["id"])) == fresh
    assert len(await desk.errors(done["id"])) == 1

    await forget(desk.database, now=datetime.now(UTC) + KEPT + timedelta(hours=1))
    assert await desk.errors(done["id"]) == []
    assert (await desk.read(done["id"]))["status"] == "completed"
    cancelled = await desk.read(waiting["id"])
    assert (cancelled["status"], cancelled["sample"]) == ("cancelled", [])
    async with desk.database.reading() as session:
        assert await session.fetchval("SELECT count(*) FROM import_chunks") == 0
    before = await checksum_of(desk)
    await forget(desk.database, now=datetime.now(UTC) + KEPT + timedelta(hours=2))
    assert await checksum_of(desk) == before


async def checksum_of(desk: Desk) -> Any:
    async with desk.database.reading() as session:
        return await checksum(session)


async def test_two_imports_of_one_file_at_the_same_time_make_one_contact_each(desk):
    content = table(*((f"N{n}", f"0812 1000 {n:04}", "", "") for n in range(1_500)))
    made = [await desk.upload(content) for _ in range(2)]
    for each in made:
        await desk.client.post(f"/v1/imports/{each['id']}/processing", json={})

    jobs = await desk.queued()
    await asyncio.gather(*(JOBS[name](desk.database, payload, now=datetime.now(UTC)) for name, payload in jobs))

    done = [await desk.read(each["id"]) for each in made]
    assert await desk.count() == 1_500
    assert sum(each["progress"]["created"] for each in done) == 1_500
    assert sum(each["progress"]["skipped"] for each in done) == 1_500
    assert {each["status"] for each in done} == {"completed"}
