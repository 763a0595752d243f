"""What the package that owns rows of a contact contributes about it: its fields for conditions.

Each package has one file `contribution.py` with its `CONTRIBUTION`. What Python compares is read by the expressions
that stand in SQL, so that the two can't disagree on what a field is.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from crm.contacts.fields import Field, Fields
from crm.contacts.predicates import Bind, bound_to, column
from crm.db.session import Session


@dataclass(frozen=True, slots=True)
class Contribution:
    """Fields whose `sql` speaks of a contact `c` and of what `joins` adds to it, at most one row for each contact.

    `asks` names parameters with their types, such as the program; the SQL finds each as a column of `asked`.
    """

    fields: tuple[Field, ...]
    joins: str = ""
    asks: tuple[tuple[str, str], ...] = ()

    def knows(self, field: Field) -> bool:
        """Whether it has this field, or the open set that it is of."""
        return any(
            field.name.startswith(each.name) if each.is_open and field.key is not None else field.name == each.name
            for each in self.fields
        )


def fields_of(contributions: Iterable[Contribution]) -> Fields:
    """All that conditions can ask about."""
    return Fields(field for contribution in contributions for field in contribution.fields)


async def read(
    session: Session,
    *,
    contributions: Iterable[Contribution],
    fields: Sequence[Field],
    contact_ids: Sequence[UUID],
    asked: Mapping[str, Any],
) -> dict[UUID, dict[str, Any]]:
    """What is in these fields of these contacts, by name, in one query. `asked` has what the contributions ask for.

    Contacts that do not exist are left out.
    """
    args: list[Any] = [contact_ids]
    bind = bound_to(args)
    columns = [column(field, bind) for field in fields]
    rows = await session.fetch(
        f"""
        SELECT {", ".join(["c.id", *columns])}
        FROM {source(contributions=contributions, fields=fields, asked=asked, bind=bind)}
        WHERE c.id = ANY ($1)
        """,
        *args,
    )
    return {row[0]: {field.name: value for field, value in zip(fields, row[1:], strict=True)} for row in rows}


def source(
    *, contributions: Iterable[Contribution], fields: Iterable[Field], asked: Mapping[str, Any], bind: Bind
) -> str:
    """What stands behind FROM where these fields are to be read: one row for each contact `c`."""
    needed = [contribution for contribution in contributions if any(map(contribution.knows, fields))]
    parameters = [
        f"{bind(asked[name], kind)} AS {name}"
        for name, kind in dict.fromkeys(pair for contribution in needed for pair in contribution.asks)
    ]
    questions = f"CROSS JOIN (SELECT {', '.join(parameters)}) asked" if parameters else ""
    return " ".join(["contacts c", questions, *(contribution.joins for contribution in needed)])
