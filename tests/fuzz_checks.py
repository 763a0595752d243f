"""What the fuzzer of test_fuzz.py checks beside its own checks, and what it has to know of our formats."""

import itertools
import os
import re
from datetime import UTC, date, datetime, timedelta
from functools import cache
from uuid import uuid4
from zoneinfo import available_timezones

import jsonschema_rs
import schemathesis
from hypothesis import strategies as st

SCOPES = frozenset(os.environ.get("SETIA_FUZZ_SCOPES", "*").split())
"""Those of the key that it runs with."""
MEMBER = "member"
"""Stands for a member's token among the scopes: it opens what no key does, and nothing else."""
KEY_IDS = frozenset(os.environ.get("SETIA_FUZZ_KEY_IDS", "").split())
"""Keys that it must not revoke: it runs with one of them."""
CONTACT = os.environ.get("SETIA_FUZZ_CONTACT", "")
"""Somebody with points in the default program, which counts in IDR."""

_INSIDE = re.compile(
    r"Traceback|File \"|site-packages|\.py\b|asyncpg|pydantic|litestar|msgspec|\bpg_\w+|\bSQLSTATE\b|"
    r"\b(?:SELECT|INSERT|UPDATE|DELETE|WITH)\b.*\b(?:FROM|INTO|SET)\b|violates|relation \"|column \"|"
    r"/(?:usr|home|tmp|root)/"
)
_LEDGER = frozenset({
    "award_points", "award_points_batch", "adjust_points", "redeem_points",
    "record_purchase", "record_purchase_by_identity", "record_purchases_batch", "simulate_purchase", "record_event",
})  # fmt: skip
_KNOWN = {"program_id": None, "currency": "IDR"}
_POINT_ZERO = re.compile(rb"\d(\.0|e\+?\d)", re.IGNORECASE)

# A form that only we know how to check: the caller is told with a code of its own.
_RULES = frozenset(
    {
        "above_share",
        "below_minimum",
        "broken_cursor",
        "channel_cannot_send",  # each provider has its own channels
        "currency_mismatch",
        "expires_before_it_is_earned",
        "expires_in_the_past",
        "idempotency_key_reused",
        "in_the_future",
        "invalid_calendar",  # spans have an order
        "invalid_channel_account",  # each provider has its own settings and secrets
        "invalid_condition",
        "invalid_identity",
        "invalid_period",
        "invalid_playbook",  # what it names has to be there, and its words have their own placeholders
        "invalid_tag",
        "invalid_template",  # in a language of its own
        "no_conversion",
        "no_sample",  # of a provider without one
        "not_a_multiple",
        "not_a_voucher_reward",
        "not_an_etag",
        "nothing_to_say",
        "not_importable",  # a file has its own columns
        "occurred_in_the_future",
        "one_at_a_time",
        "pattern_too_narrow",
        "pin_ends_too_early",
        "points_out_of_range",
        "program_required",
        "reserved_kind",
        "search_too_broad",
        "unknown_agent",
        "unknown_calendar",
        "unknown_discount_line",
        "template_not_filled",
        "template_of_other_channels",
        "text_too_long",  # for the channel that is chosen
        "unknown_contact",
        "unknown_reference",
        "unknown_reward",
        "unknown_tier",
        "unknown_variable",
        "unspecific_message",
        "unreadable_file",
    }
)
# The same within `errors` of an `invalid` body.
_FIELD_RULES = frozenset(
    {
        "auto",  # only a multiplier can be
        "agent_by_hand",  # and only by hand
        "attribute_value",  # all of them together have a size
        "birth_on",  # nobody was born tomorrow
        "claims_max_per_member",  # a multiplier is claimed once
        "currency",  # money has one, and nothing else
        "date_out_of_range",
        "discount_line",  # it points into `lines`
        "duration_out_of_range",
        "event",  # what goes with a purchase goes with no other event
        "invalid_identity",
        "invalid_tag",
        "number_out_of_range",  # anywhere in `data`
        "options",  # a choice has some
        "per",  # of a streak, and of no other kind
        "points_or_reward",  # what a patch leaves has one of them
        "points_for_nobody",  # one side of a referral gets some
        "streak",  # it has neither limits nor units
        "too_large",
        "too_many",
        "window",  # it must not end before it begins
    }
)

_YEARS = {"min_value": datetime(1901, 1, 1), "max_value": datetime(2198, 12, 31)}  # noqa: DTZ001 - the zone comes after
_INSTANTS = st.datetimes(**_YEARS, timezones=st.just(UTC)) | st.datetimes(
    min_value=datetime.now() - timedelta(days=400),  # noqa: DTZ005
    max_value=datetime.now(),  # noqa: DTZ005
    timezones=st.just(UTC),
)
schemathesis.openapi.format("date-time", _INSTANTS.map(datetime.isoformat))
schemathesis.openapi.format("date", st.dates(date(1901, 1, 1), date(2198, 12, 31)).map(date.isoformat))
schemathesis.openapi.format("time-zone", st.sampled_from(sorted(available_timezones())))


_TURNS = itertools.cycle((True, True, False))
_called = set()


@schemathesis.hook
def before_call(context, case, kwargs):
    if case.method == "DELETE" and (case.path_parameters or {}).get("key_id") in KEY_IDS:
        case.path_parameters["key_id"] = str(uuid4())
    if case.id in _called:
        return
    _called.add(case.id)
    if case.operation.definition.raw["operationId"] in _LEDGER and _is_positive(case) and next(_TURNS):
        # Else nearly everything would happen to nobody, in no program, in a currency that it does not have.
        if "contact_id" in case.path_parameters:
            case.path_parameters["contact_id"] = CONTACT
        case.body.update({name: value for name, value in _KNOWN.items() if name in case.body})


@schemathesis.check
def a_refusal_is_a_problem_document(ctx, response, case):
    assert len(response.headers.get("x-request-id", ())) == 1, "one X-Request-Id"
    if response.status_code < 400:
        return
    assert response.headers["content-type"] == ["application/problem+json"]
    problem = response.json()
    assert problem["request_id"] == response.headers["x-request-id"][0]
    assert problem["status"] == response.status_code
    for error in problem["errors"]:
        assert re.match(r"(/|query/|path/|header/|\Z)", error["pointer"]), error
    if response.status_code == 405 or problem["code"] == "not_found":
        return  # the router's: no operation was reached
    documented = _answers(case).get(str(response.status_code), {})
    examples = _resolved(case, documented).get("content", {}).get("application/problem+json", {}).get("examples", {})
    assert problem["code"] in examples, f"{problem['code']} is not among the documented codes: {', '.join(examples)}"


@schemathesis.check
def nothing_is_said_of_the_inside(ctx, response, case):
    if response.status_code >= 400:
        found = _INSIDE.search(response.text)
        assert found is None, f"{found[0]!r} is said"


@schemathesis.check
def an_answer_has_no_field_that_is_not_documented(ctx, response, case):
    if not 200 <= response.status_code < 300 or not response.content or not case.path.startswith("/v1/"):
        return
    answer = _answers(case).get(str(response.status_code))
    if answer is None:
        return  # status_code_conformance says so
    if not response.headers["content-type"][0].startswith("application/json"):
        return  # a page, or a table
    schema = answer["content"]["application/json"]["schema"]["$ref"]
    errors = [str(error) for error in _closed(schema, _Document(case)).iter_errors(response.json())]
    assert not errors, errors


@schemathesis.check
def what_is_sent_in_the_documented_form_is_not_refused_for_its_form(ctx, response, case):
    if not _is_positive(case) or response.status_code not in (400, 422):
        return
    problem = response.json()
    if problem["code"] in _RULES:
        return
    codes = {error["code"] for error in problem["errors"]}
    if _POINT_ZERO.search(response.request.body or b""):
        codes.discard("int_type")  # to JSON Schema 1.0 is an integer, to us it is not
        codes = codes or _FIELD_RULES
    assert codes, problem
    assert codes <= _FIELD_RULES, f"{problem['errors']} although the contract allows it"


@schemathesis.check
def a_key_does_what_its_scopes_allow_and_no_more(ctx, response, case):
    if case.method == "OPTIONS":
        return  # anybody may ask which methods there are
    security = case.operation.definition.raw.get("security", ())
    needed = {scope for each in security for scope in each.get("bearer", (MEMBER,))}
    if not needed <= SCOPES and (MEMBER in needed or "*" not in SCOPES):
        assert response.status_code in (401, 403, 404, 405, 413), f"{response.status_code} without {needed - SCOPES}"
    else:
        assert response.status_code != 403 or response.json()["code"] == "scope_missing"


@schemathesis.check
def a_repeated_key_gets_the_first_answer(ctx, response, case):
    if case.method != "POST" or not 200 <= response.status_code < 300 or response.headers.get("idempotency-replayed"):
        return
    if "Idempotency-Key" not in (case.headers or {}):
        return
    again = case.call(headers={"Authorization": response.request.headers["Authorization"]})
    assert again.status_code == response.status_code, again.text
    assert again.headers.get("idempotency-replayed") == ["true"], again.headers
    if case.operation.definition.raw["operationId"] != "create_key":  # the key itself is shown once
        assert again.json() == response.json(), again.text


def _is_positive(case):
    return case.meta is not None and case.meta.generation.mode.is_positive


class _Document:
    """The contract, as a key of a cache."""

    def __init__(self, case):
        self.raw = case.operation.schema.raw_schema

    def __hash__(self):
        return id(self.raw)

    def __eq__(self, other):
        return self.raw is other.raw


@cache
def _closed(reference, document):
    """The schema without room for further fields, but in problems, which may have more."""
    schemas = {
        name: schema if name == "Problem" or "properties" not in schema else {"additionalProperties": False} | schema
        for name, schema in document.raw["components"]["schemas"].items()
    }
    return jsonschema_rs.Draft202012Validator({"$ref": reference, "components": {"schemas": schemas}})


def _answers(case):
    return case.operation.definition.raw["responses"]


def _resolved(case, response):
    kind, _, name = response.get("$ref", "").rpartition("/")
    return case.operation.schema.raw_schema["components"]["responses"][name] if kind else response
