"""The language of templates: Liquid, without what could read elsewhere, or grow without end.

A template can ask for `contact`, `loyalty`, and the variables that it declares. What it asks for besides is refused
when it is written, and what is missing when it is filled in.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final

from liquid import BoundTemplate, Environment, Expression, Node, RenderContext, StrictDefaultUndefined
from liquid.builtin.expressions.primitive import RangeLiteral
from liquid.exceptions import LiquidError

from crm.errors import FieldError, Invalid

CONTACT: Final = "contact"
LOYALTY: Final = "loyalty"
ATTRIBUTES: Final = "attributes"
KNOWN: Final[Mapping[str, frozenset[str]]] = {
    CONTACT: frozenset({"name", "given_name", "family_name", "greeting", "locale", ATTRIBUTES}),
    LOYALTY: frozenset({"program", "points", "tier"}),
}
"""What every template can ask for."""
SOURCE_MAX: Final = 10_000
OUTPUT_BYTES_MAX: Final = 20_000
WORDS_MAX: Final = 200

# Those that make a text at most so much longer as their arguments are.
_FILTERS: Final = frozenset({
    "abs", "append", "at_least", "at_most", "capitalize", "ceil", "default", "divided_by", "downcase", "first", "floor",
    "last", "lstrip", "minus", "modulo", "plus", "prepend", "remove", "remove_first", "rstrip", "size", "slice",
    "squish", "strip", "strip_newlines", "times", "truncate", "truncatewords", "upcase",
})  # fmt: skip
_TAGS: Final = frozenset({
    "#", "assign", "break", "case", "comment", "content", "continue", "echo", "for", "if", "illegal", "output",
    "unless",
})  # fmt: skip


class InvalidTemplate(Invalid):
    code = "invalid_template"
    title = "This template can't be understood"


class TemplateNotFilled(Invalid):
    code = "template_not_filled"
    title = "The template can't be filled in"


class _Environment(Environment):
    context_depth_limit = 10
    loop_iteration_limit = 500
    local_namespace_limit = 50_000
    output_stream_limit = OUTPUT_BYTES_MAX


def _environment() -> Environment:
    made = _Environment(undefined=StrictDefaultUndefined)
    for name in set(made.tags) - _TAGS:
        del made.tags[name]
    for name in set(made.filters) - _FILTERS:
        del made.filters[name]
    return made


_ENVIRONMENT: Final = _environment()


def check(sources: Mapping[str, str], *, variables: Iterable[str]) -> None:
    """See whether texts, by their pointers, can be filled in. Raises InvalidTemplate."""
    errors = wrong(sources, variables=variables)
    if errors:
        raise InvalidTemplate("`errors` says for each place what is wrong.", errors=errors)


def wrong(sources: Mapping[str, str], *, variables: Iterable[str]) -> list[FieldError]:
    """What keeps texts, by their pointers, from being filled in."""
    declared = frozenset(variables)
    return [error for pointer, source in sources.items() for error in _errors(pointer, source, declared)]


def asked(sources: Iterable[str]) -> frozenset[str]:
    """What texts ask for: the first names of what stands in them. Raises InvalidTemplate."""
    return frozenset(name for source in sources for name in _parsed(source).analyze().globals)


def fill(source: str, *, known: Mapping[str, Any], pointer: str) -> str:
    """The text with what is `known`, without space around it. Raises InvalidTemplate, TemplateNotFilled."""
    try:
        return _parsed(source).render(**known).strip()
    except (LiquidError, ArithmeticError, ValueError, TypeError, RecursionError) as error:
        words = _words(error)
        raise TemplateNotFilled(
            f"In {pointer}: {words}.", errors=[FieldError(pointer, "template_not_filled", words)]
        ) from error


def _errors(pointer: str, source: str, declared: frozenset[str]) -> list[FieldError]:
    try:
        template = _parsed(source)
        found = template.analyze()
    except InvalidTemplate as error:
        return [FieldError(pointer, InvalidTemplate.code, error.detail)]
    except (LiquidError, RecursionError) as error:
        return [FieldError(pointer, InvalidTemplate.code, _words(error))]
    errors = [
        FieldError(pointer, "unknown_filter", f"there is no filter '{name}'; there are {', '.join(sorted(_FILTERS))}")
        for name in found.filters
        if name not in _FILTERS
    ]
    if any(isinstance(each, RangeLiteral) for each in _expressions(template)):
        errors.append(FieldError(pointer, "no_ranges", "can't count from one number to another"))
    for name, places in found.globals.items():
        if name not in KNOWN and name not in declared:
            known = ", ".join(sorted({*KNOWN, *declared}))
            errors.append(
                FieldError(pointer, "unknown_variable", f"'{name}' is not among the variables; known are {known}")
            )
        for member in {_member(each.segments) for each in places} if name in KNOWN else ():
            if member not in KNOWN[name]:
                fields = ", ".join(sorted(KNOWN[name]))
                errors.append(FieldError(pointer, "unknown_variable", f"'{name}' has no '{member}', but {fields}"))
    return errors


def _member(segments: Iterable[object]) -> str:
    return next((str(each) for each in list(segments)[1:2]), "")


@lru_cache(maxsize=256)
def _parsed(source: str) -> BoundTemplate:
    try:
        return _ENVIRONMENT.from_string(source)
    except (LiquidError, RecursionError, ValueError) as error:
        raise InvalidTemplate(_words(error)) from error


def _expressions(template: BoundTemplate) -> Iterable[Expression]:
    context = RenderContext(template)
    nodes: list[Node] = list(template.nodes)
    while nodes:
        node = nodes.pop()
        nodes += node.children(context)
        found = list(node.expressions())
        while found:
            each = found.pop()
            found += each.children()
            yield each


def _words(error: Exception) -> str:
    """What is wrong, in one line: the library adds a picture of the place."""
    return (str(error).partition("\n")[0].strip() or type(error).__name__)[:WORDS_MAX]
