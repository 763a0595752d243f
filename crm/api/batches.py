"""The answer to a batch: for each item, in order, a status with its body or with the problem that refused it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

from pydantic import GetCoreSchemaHandler, WithJsonSchema
from pydantic_core import CoreSchema, core_schema, to_json

from crm.api.errors import problem_of, request_id_of, status_of
from crm.api.requests import decode
from crm.api.routes import AnyRequest
from crm.api.schemas import Body
from crm.errors import CrmError, Invalid

T = TypeVar("T")
_PROBLEM = WithJsonSchema({"anyOf": [{"$ref": "#/components/schemas/Problem"}, {"type": "null"}]})


class Judged:
    """Items of a batch that are checked one by one: one that is not valid becomes the Invalid that says why."""

    def __get_pydantic_core_schema__(self, source: type[Body], handler: GetCoreSchemaHandler) -> CoreSchema:
        def judge(value: Any) -> Body | CrmError:
            try:
                return decode(source, to_json(value))
            except Invalid as error:
                return error

        return core_schema.no_info_plain_validator_function(judge, json_schema_input_schema=handler(source))


@dataclass(slots=True)
class BatchItem(Generic[T]):
    """One item's answer; exactly one of `body` and `problem` is there."""

    status: int
    body: T | None = None
    problem: Annotated[dict[str, Any] | None, _PROBLEM] = None


@dataclass(slots=True)
class BatchResult(Generic[T]):
    """What each item came to, in the order sent."""

    items: list[BatchItem[T]]


def answer(results: Sequence[tuple[int, T | CrmError]], request: AnyRequest) -> BatchResult[T]:
    """The answer for results with the status that each has where it is no refusal."""
    request_id = request_id_of(request)
    return BatchResult([
        BatchItem(status_of(result), problem=problem_of(result, request_id))
        if isinstance(result, CrmError)
        else BatchItem(status, body=result)
        for status, result in results
    ])  # fmt: skip
