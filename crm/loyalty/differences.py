"""How a check of the audit is written: the values that a table keeps beside those that its facts say."""

from typing import NamedTuple


class Value(NamedTuple):
    """A value to compare, in SQL; `place` says where it stands if that is not where its row does."""

    what: str
    expected: str
    found: str
    place: str | None = None


def differences(
    source: str, *values: Value, contact: str = "contact_id", program: str = "program_id", place: str = "NULL"
) -> str:
    """A check: the values of the rows of `source` that are not as expected; where one side is NULL, nothing is.

    `source` selects `FINDINGS`.
    """
    rows = ", ".join(
        f"('{value.what}', {value.place or place}, ({value.expected})::text, ({value.found})::text)" for value in values
    )
    # Said twice, because most rows are sound, and comparing numbers costs far less than their texts.
    some = " OR ".join(f"({value.expected}) <> ({value.found})" for value in values)
    return f"""
        {source.replace("FINDINGS", f"{program}, {contact}, v.what, v.place, v.expected, v.found")}
        CROSS JOIN LATERAL (VALUES {rows}) v (what, place, expected, found)
        WHERE ({some}) AND v.expected <> v.found
    """
