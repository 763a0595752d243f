"""The contract: a valid OpenAPI 3.1 document that says all of every route, and a page that shows it to anybody."""

import asyncio
import json
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import jsonschema_rs
import pytest
import schemathesis
import uvicorn
from litestar.routes import HTTPRoute

from crm.api import contract, docs, inbox
from crm.api.auth import MEMBER, SCOPES
from crm.app import create_app

CHROMIUM = Path("/usr/bin/chromium")
BROWSE_SECONDS_MAX = 120

APP, _ = create_app(lambda: nullcontext(None))
DOCUMENT = json.loads(json.dumps(contract.document(APP)))
SCHEMAS = DOCUMENT["components"]["schemas"]
OPERATIONS = {
    operation["operationId"]: (path, method, operation)
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
}
HANDLERS = {
    handler.operation_id: (route.path_format, method.lower(), handler)
    for route in APP.routes
    if isinstance(route, HTTPRoute)
    for handler in route.route_handlers
    for method in handler.http_methods
    if method != "OPTIONS" and handler.opt["documented"]
}
EACH = pytest.mark.parametrize("name", sorted(OPERATIONS))

CORE = (
    "create_contact", "record_interaction", "record_interaction_by_identity", "create_program", "create_earning_rule",
    "create_tier", "set_tier_policy", "award_points", "adjust_points", "record_purchase", "record_purchase_by_identity",
    "redeem_points", "reverse_redemption", "create_key", "issue_member_token", "get_me", "redeem_my_points",
    "create_reward", "create_offer", "claim_offer", "claim_my_offer",
    "simulate_redemption", "issue_voucher", "fill_voucher_pool", "use_voucher",
    "get_statement", "get_liability", "report_points",
    "report_cohorts",
    "simulate_purchase", "record_event", "set_membership", "pin_tier",
    "create_challenge", "set_referral_policy", "record_referral",
    "search_contacts", "create_segment", "preview_segment", "get_segment_evaluation",
    "record_consent", "check_consent", "define_attribute", "block_identity",
    "create_channel_account", "test_channel_account", "get_delivery", "list_threads",
    "create_article_category", "create_article", "list_articles", "search_articles", "list_article_searches",
    "get_article", "update_article", "list_article_versions", "ask_assistant", "get_assistant_reply",
    "ask_my_assistant", "get_self_service_results",
    "create_playbook", "get_playbook_run", "simulate_playbook",
)  # fmt: skip

HELP = ("/help", "/help/{locale:str}", "/help/{locale:str}/{slug:str}", "/help/votes/{article_id:uuid}")
"""Pages for people."""
BODILESS = {
    "add_tag", "make_offer_code", "make_my_offer_code", "evaluate_segment", "replay_delivery", "test_channel_account",
    "start_duplicate_scan", "dismiss_duplicate", "hand_over_case", "reopen_case",
}  # fmt: skip
"""What says all in its path."""
ASKING = ("simulate_", "search_", "preview_")
"""How the operations begin that are a POST for the size of the question, and write nothing."""


def resolved(value):
    """What a reference stands for."""
    while isinstance(value, dict) and "$ref" in value:
        name, here = value["$ref"], DOCUMENT
        assert name.startswith("#/"), name
        for part in name.removeprefix("#/").split("/"):
            here = here[part]
        value = here
    return value


def parts(value):
    """Every object within."""
    if isinstance(value, dict):
        yield value
        for part in value.values():
            yield from parts(part)
    elif isinstance(value, list):
        for part in value:
            yield from parts(part)


def contents(operation):
    """Each (place, content by media type) that is sent or answered."""
    if "requestBody" in operation:
        yield "body", operation["requestBody"]["content"]
    for status, response in operation["responses"].items():
        yield status, resolved(response).get("content", {})


def assert_valid(value, schema):
    validator = jsonschema_rs.Draft202012Validator(
        {**schema, "components": DOCUMENT["components"]}, validate_formats=True
    )
    assert not [str(error) for error in validator.iter_errors(value)]


async def test_the_document_is_served_to_anybody(client):
    stranger = await client.limited_to()
    answer = await stranger.get("/schema/openapi.json")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == DOCUMENT
    assert (await stranger.get("/schema/openapi.json")).content == answer.content


def test_the_document_is_valid():
    assert DOCUMENT["openapi"].startswith("3.1.")
    schemathesis.openapi.from_dict(DOCUMENT).validate()
    for name, schema in SCHEMAS.items():
        jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})
        assert re.fullmatch(r"([A-Z][a-z]+)+", name), name
    for part in parts(DOCUMENT):
        if isinstance(part.get("$ref"), str):
            resolved(part)


def test_every_route_is_in_the_document():
    assert {name: found[:2] for name, found in OPERATIONS.items()} == {n: found[:2] for n, found in HANDLERS.items()}
    left_out = {
        route.path
        for route in APP.routes
        for handler in route.route_handlers
        if handler.http_methods != {"OPTIONS"} and not handler.opt["documented"]
    }
    inner = {"/metrics", "/schema", docs.DOCUMENT_PATH, docs.SCRIPT_PATH}
    assert left_out == inner | {"/s/{token:str}", f"/v1{inbox.PATH}"} | set(HELP)


def test_every_tag_is_explained():
    tags = {tag["name"]: tag["description"] for tag in DOCUMENT["tags"]}
    assert tags.keys() == {tag for _, _, operation in OPERATIONS.values() for tag in operation["tags"]}
    assert all(tags.values())


@EACH
def test_an_operation_says_what_it_does_and_who_may(name):
    path, method, operation = OPERATIONS[name]
    scopes = HANDLERS[name][2].opt["scopes"]
    assert 5 < len(operation["summary"]) < 80
    assert len(operation["tags"]) == 1
    if not scopes:
        assert path.startswith("/health/")
        assert "security" not in operation
        return
    if scopes == MEMBER:
        assert operation["security"] == [{"member": []}]
    else:
        assert operation["security"] == [{"bearer": sorted(scopes)}]
        assert scopes <= SCOPES
    assert {"401", "403", "422", "503"} <= operation["responses"].keys()
    assert ("404" in operation["responses"]) >= ("{" in path)
    assert ("requestBody" in operation) == (method in ("post", "patch", "put") and name not in BODILESS)
    if "requestBody" in operation:
        assert {"400", "413", "415"} <= operation["responses"].keys()


@EACH
def test_an_operation_names_its_headers(name):
    _, method, operation = OPERATIONS[name]
    asked = {resolved(parameter)["name"] for parameter in operation.get("parameters", [])}
    handler = HANDLERS[name][2]
    writes = method == "post" and not name.startswith(ASKING)
    assert ("Idempotency-Key" in asked) == writes
    assert ("If-Match" in asked) == ("if_match" in handler.parsed_fn_signature.parameters)
    assert ("412" in operation["responses"]) == ("If-Match" in asked)
    for status, response in operation["responses"].items():
        answered = resolved(response)["headers"]
        assert "X-Request-Id" in answered
        assert ("Idempotency-Replayed" in answered) == (writes and int(status) < 300)
        assert ("WWW-Authenticate" in answered) == (status == "401")
        assert ("Retry-After" in answered) == (status == "503")
        assert all(resolved(header)["description"] for header in answered.values())


@EACH
def test_an_answer_is_described_in_our_words(name):
    operation = OPERATIONS[name][2]
    for status, response in operation["responses"].items():
        described = resolved(response)
        assert described["description"].endswith(".")
        assert "Document created" not in described["description"]
        if int(status) < 300:
            assert (status == "204") == ("content" not in described)
            assert (
                status != "200"
                or "201" not in operation["responses"]
                or re.search("before|already", described["description"])
            )
        else:
            [(kind, content)] = described["content"].items()
            assert kind == "application/problem+json"
            assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
            for code, example in content["examples"].items():
                problem = resolved(example)["value"]
                assert (problem["code"], problem["status"]) == (code, int(status))


@EACH
def test_every_example_is_valid(name):
    for place, content in contents(OPERATIONS[name][2]):
        for media in content.values():
            for example in [media.get("example"), *(resolved(e)["value"] for e in media.get("examples", {}).values())]:
                if example is not None:
                    assert_valid(example, media["schema"])
        if name in CORE and place in ("body", "200", "201"):
            assert "example" in content["application/json"], place


def test_the_stable_codes_are_documented_with_their_numbers():
    examples = {code: example["value"] for code, example in DOCUMENT["components"]["examples"].items()}
    statuses = {
        "insufficient_points": 409, "identity_taken": 409, "order_ref_reused": 409, "idempotency_key_reused": 422,
        "currency_mismatch": 422, "program_required": 422, "stale_version": 412, "out_of_stock": 409,
        "limit_reached": 409, "not_eligible": 409, "voucher_invalid": 409,
    }  # fmt: skip
    assert statuses.items() <= {code: problem["status"] for code, problem in examples.items()}.items()
    refused = examples["insufficient_points"]
    assert refused["missing"] == refused["required"] - refused["available"]
    assert examples["identity_taken"]["contact_id"]
    for operation, code in (
        ("redeem_points", "insufficient_points"), ("create_contact", "identity_taken"),
        ("record_purchase", "order_ref_reused"), ("award_points", "idempotency_key_reused"),
    ):  # fmt: skip
        response = resolved(OPERATIONS[operation][2]["responses"][str(statuses[code])])
        assert code in response["content"]["application/problem+json"]["examples"]


def test_a_repeat_by_natural_key_answers_200_beside_201():
    both = {name for name, (_, _, operation) in OPERATIONS.items() if {"200", "201"} <= operation["responses"].keys()}
    dry_runs = {"create_merge"}
    assert both - dry_runs == {
        "add_identity", "block_identity", "capture_hold", "create_contact", "record_consent", "record_interaction",
        "record_interaction_by_identity", "record_purchase",
        "record_purchase_by_identity", "redeem_my_points", "redeem_points", "reopen_case", "link_case",
        "refund_purchase", "reverse_redemption", "record_event", "use_voucher",
    }  # fmt: skip


def test_another_form_of_an_answer_is_documented_beside_the_first():
    for name, media_types in (
        ("report_points", ["application/json", "text/csv"]), ("report_cohorts", ["application/json", "text/csv"]),
        *(
            (f"report_{name}", ["application/json", "text/csv"])
            for name in ("volume", "replies", "surveys", "cases", "journey", "overview")
        ),
        ("show_statement", ["text/html"]), ("get_statement", ["application/json"]),
    ):  # fmt: skip
        content = OPERATIONS[name][2]["responses"]["200"]["content"]
        assert list(content) == media_types
        assert all(content[kind]["schema"] == {"type": "string"} for kind in media_types if kind.startswith("text/"))


def test_money_is_text_and_points_are_whole():
    for name, schema in SCHEMAS.items():
        for field, described in schema["properties"].items():
            numbers = [part for part in parts(described) if part.get("type") == "number"]
            # What surveys come to is a statistic, not an amount.
            allowed = field == "attributes" or field.endswith("_rate") or name == "Score"
            assert not numbers or allowed, f"{name}.{field}"
    assert SCHEMAS["LineBody"]["properties"]["unit_price"]["type"] == "string"
    assert SCHEMAS["Contact"]["properties"]["id"] == {"type": "string", "format": "uuid"}
    assert SCHEMAS["Contact"]["properties"]["created_at"] == {"type": "string", "format": "date-time"}


def test_a_body_takes_no_unknown_field_and_a_problem_may_have_more():
    for _, _, operation in OPERATIONS.values():
        for kind, part in operation.get("requestBody", {}).get("content", {}).items():
            if kind == "application/json":
                assert resolved(part["schema"])["additionalProperties"] is False
    assert "additionalProperties" not in SCHEMAS["Problem"]


def test_nothing_in_it_leads_to_another_host():
    assert "://" not in json.dumps(DOCUMENT)


async def test_the_page_refers_to_its_own_host_only(client):
    stranger = await client.limited_to()
    answer = await stranger.get("/schema")
    assert answer.headers["content-type"].startswith("text/html")
    references = re.findall(r"(?:src|href|data-url)=[\"']([^\"']*)", answer.text)
    assert sorted(references) == ["/schema/openapi.json", "/schema/scalar.js", "data:,"]
    assert "://" not in answer.text
    assert "default-src 'self'" in answer.text
    script = await stranger.get("/schema/scalar.js")
    assert script.headers["content-type"].startswith("text/javascript")
    assert len(script.content) > 1_000_000


# In a browser


@pytest.fixture
def page() -> Iterator[str]:
    """The address of the page on a real server, without a database: the page needs none."""
    _, asgi = create_app(lambda: nullcontext(None))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        server = uvicorn.Server(uvicorn.Config(asgi, log_level="error", lifespan="on", loop="asyncio"))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listening])))
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/schema"
        server.should_exit = True
        thread.join()


@pytest.mark.skipif(
    not CHROMIUM.exists(), reason=f"NO BROWSER at {CHROMIUM}: nobody has seen the page of the reference"
)
def test_a_browser_shows_every_operation_and_asks_nobody_else(page, tmp_path):
    log = tmp_path / "net.json"
    browsing = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic",
            "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
            f"--user-data-dir={tmp_path / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            f"--log-net-log={log}", "--virtual-time-budget=60000", "--dump-dom", page,
        ],
        capture_output=True,
        text=True,
        timeout=BROWSE_SECONDS_MAX,
    )  # fmt: skip
    shutil.rmtree(tmp_path / "profile", ignore_errors=True)
    shown = re.sub(r"\s+", " ", browsing.stdout.replace("&amp;", "&").replace("&#39;", "'"))
    assert [name for name, (_, _, each) in OPERATIONS.items() if each["summary"] not in shown] == [], browsing.stderr

    origin = page.removesuffix("/schema")
    asked = {
        parameters["url"]
        for event in json.loads(log.read_text())["events"]
        # What the browser asks for on its own account has no origin of ours.
        if (parameters := event.get("params")) and parameters.get("initiator", "").startswith(origin)
    }
    assert asked == {f"{origin}/schema/scalar.js", f"{origin}/schema/openapi.json"}
