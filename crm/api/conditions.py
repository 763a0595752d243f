"""How the contract describes a condition. What it means, and what is wrong with one: see `crm.contacts.conditions`."""

from typing import Annotated, Any, Literal

from pydantic import Field, GetJsonSchemaHandler, TypeAdapter
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from crm.api.schemas import Body, Code
from crm.contacts.attribute_types import Kind
from crm.contacts.comparisons import Op
from crm.contacts.conditions import COUNT_MAX, DEPTH_MAX, NODES_MAX
from crm.interactions.contribution import INTERACTIONS
from crm.vocabulary import VOCABULARY

_Count = Annotated[
    dict[Literal["eq", "gt", "gte", "lt", "lte"], Annotated[int, Field(ge=0, le=COUNT_MAX)]], Field(min_length=1)
]
_Parts = Annotated[list["Condition"], Field(min_length=1, max_length=NODES_MAX)]


class AllCondition(Body):
    """Each of these holds."""

    parts: _Parts = Field(alias="all")


class AnyCondition(Body):
    """One of these holds at least."""

    parts: _Parts = Field(alias="any")


class NotCondition(Body):
    """This does not hold."""

    part: "Condition" = Field(alias="not")


class FieldCondition(Body):
    """A field compared with a value. What is absent is true of no comparison but `ne`, `not_in` and `exists` false."""

    field: str = Field(
        description=f"Of a contact: {', '.join(VOCABULARY.fields.names)}; programs don't ask for `open_cases`. "
        f"Of an interaction, within `where`: {', '.join(INTERACTIONS.names)}."
    )
    op: Op = Field(description="The ones that the type of the field has; a refusal lists them.")
    value: Any = Field(
        None,
        description="Of the field's type: a list of values for `in` and `not_in`; `day` or `month` for `anniversary`; "
        'for dates and instants, also how long ago: `{"ago": "P30D"}`.',
    )
    type: Kind | None = Field(
        None, description="As what an attribute is read. It comes from the attribute's definition, whatever is sent."
    )


class HistoryCondition(Body):
    """How often something happened before, by default at least once."""

    did: Code = Field(description="The kind of interaction, such as `purchase` or `message`.")
    count: _Count | None = Field(None, description="How many times; each of the bounds is kept.")
    within: str | None = Field(None, description="An ISO 8601 duration, back from now; left out, it is ever.")
    where: "Condition | None" = Field(None, description="About each of these interactions.")


Condition = AllCondition | AnyCondition | NotCondition | FieldCondition | HistoryCondition


class _Described:
    """Shows the grammar of what is plain JSON to the body: the domain parses it, and says better what is wrong."""

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(TypeAdapter(Condition).core_schema)


ConditionBody = Annotated[
    dict[str, Any],
    _Described,
    Field(description=f"A condition; nested at most {DEPTH_MAX} deep, with at most {NODES_MAX} nodes."),
]
