"""The award's own SQL as a pgbench script, so that Postgres' work can be compared with Postgres' own benchmark.

The statements are those that an award of this very version sends. What the application works out between them, pgbench
works out with `\\set`; ids, which pgbench has no way to make, come from the server.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import msgspec
from asyncpg.connection import LoggedQuery

from benchmarks import bare, history
from crm.db.session import Database
from crm.loyalty import ledger
from crm.loyalty.ledger import Award

POINTS: Final = 5

_INSERT = re.compile(r"INSERT INTO (\w+) \(([\w, ]+)\) SELECT \* FROM \(VALUES \(([^)]*)\)\)")
_UPDATE = re.compile(r"UPDATE (\w+) AS t SET .*? FROM \(VALUES \(([^)]*)\)\) AS v \(([\w, ]+)\)")
_PLACE = re.compile(r"\$(\d+)\b")

# What changes from one award to the next, by column; every other value is the same in all of them.
_VARIABLES: Final = {
    "contact_id": "contact_id", "available": "available_now", "available_after": "available_now",
    "lifetime_earned": "earned_now", "qualifying_points": "qualifying_now", "seq": "seq_now", "first_seq": "seq_now",
    "transaction_id": "transaction_id", "lot_id": "lot_id",
}  # fmt: skip
_NOW: Final = 2
"""The place of the present moment among the arguments of the lock."""
_IDS: Final = {"points_lots": "lot_id", "points_transactions": "transaction_id", "interactions": "transaction_id"}


@dataclass(frozen=True, slots=True)
class Script:
    """A file for pgbench, with the values of its variables."""

    path: Path
    variables: dict[str, str]

    def options(self) -> list[str]:
        """What pgbench must be told to run it."""
        defines = [f"--define={name}={value}" for name, value in self.variables.items()]
        return [f"--file={self.path}", "--protocol=prepared", *defines]


async def award_script(dsn: str, folder: Path, *, members: int) -> Script:
    """The award as this version of the application sends it, for a member at random."""
    begin, lock, write, commit = await _sent(dsn)
    assert (begin.query, commit.query) == ("BEGIN", "COMMIT"), "an award is a transaction of two statements"
    contact = history.member_sql("(:member)::bigint")
    arguments = iter([_literal(value, contact) for value in lock.args])
    locking = _PLACE.sub(lambda _: next(arguments), lock.query)
    made = "SELECT uuidv7() AS transaction_id, uuidv7() AS lot_id, now() AS moment, *"
    assert locking.startswith("SELECT *")
    columns = _columns(write.query)
    variables: dict[str, str] = {}

    def value(place: "re.Match[str]") -> str:
        number = int(place[1])
        table, column = columns[number]
        given = write.args[number - 1]
        if column == "id":
            return f":{_IDS[table]}"
        if column in _VARIABLES:
            return f":{_VARIABLES[column]}"
        if given is None:
            return "NULL"
        if given == lock.args[_NOW]:
            return ":moment"
        variables[f"p{number}"] = _text(given)
        return f":p{number}"

    lines = [
        f"\\set member random(1, {members})",
        "BEGIN;",
        # The last row is the account: that is what \aset keeps.
        f"{locking.replace('SELECT *', made, 1)} \\aset",
        f"\\set available_now :available + {POINTS}",
        f"\\set earned_now :lifetime_earned + {POINTS}",
        f"\\set qualifying_now :qualifying_points + {POINTS}",
        "\\set seq_now :seq + 1",
        f"{_PLACE.sub(value, write.query)};",
        "COMMIT;",
    ]
    return _script(folder / "award.sql", lines, variables)


def bare_script(folder: Path, *, members: int) -> Script:
    """The two statements that an award would be without any guarantee."""
    contact = history.member_sql("(:member)::bigint")
    values = {"1": contact, "2": str(POINTS), "3": "'goodwill'"}
    update, insert = (_PLACE.sub(lambda place: values[place[1]], text) for text in (bare.UPDATE, bare.INSERT))
    lines = [f"\\set member random(1, {members})", "BEGIN;", f"{update};", f"{insert};", "COMMIT;"]
    return _script(folder / "bare.sql", lines, {})


async def _sent(dsn: str) -> list[LoggedQuery]:
    """What one award says to the database."""
    heard: list[LoggedQuery] = []
    database = await Database.connect(dsn, size_max=1)
    for _ in range(2):  # the first one also reads the program
        heard.clear()
        async with database.reading() as session:
            session.driver.add_query_logger(heard.append)
        async with database.begin() as session:
            await ledger.award(
                session, program_id=None, award=Award(history.member(1), POINTS, "goodwill"), by="key:bench", once=None,
                now=datetime.now(UTC),
            )  # fmt: skip
    await database.close()
    return heard


def _columns(query: str) -> dict[int, tuple[str, str]]:
    """Which column of which table each placeholder of a write fills."""
    parts = [(table, names, values) for table, names, values in _INSERT.findall(query)]
    parts += [(table, names, values) for table, values, names in _UPDATE.findall(query)]
    found = {}
    for table, names, values in parts:
        places = _PLACE.findall(values)
        found.update({int(place): (table, name) for place, name in zip(places, names.split(", "), strict=True)})
    assert len(found) == len(_PLACE.findall(query)), "crm.db.writes writes in a form that is not known here"
    return found


def _literal(value: Any, contact: str) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, datetime):
        return "now()"
    if isinstance(value, int):
        return str(value)
    assert isinstance(value, Sequence)
    return f"ARRAY[{contact}]" if value else "'{}'"


def _text(value: Any) -> str:
    match value:
        case bytes():
            return f"\\x{value.hex()}"
        case bool():
            return "t" if value else "f"
        case str() | int() | Decimal() | UUID() | datetime():
            return str(value)
        case _:
            return msgspec.json.encode(value).decode()


def _script(path: Path, lines: Sequence[str], variables: dict[str, str]) -> Script:
    path.write_text("\n".join(" ".join(line.split()) for line in lines) + "\n")
    return Script(path, variables)
