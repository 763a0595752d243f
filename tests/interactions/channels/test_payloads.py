"""JSON from anybody: what is read of it, what is kept, and that nothing else happens."""

from typing import Any

import pytest

from crm.interactions.channels import payloads
from crm.interactions.channels.payloads import Unreadable


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"id": 820982911946154508}', {"id": "820982911946154508"}),
        (b'{"id": -9007199254740993}', {"id": "-9007199254740993"}),
        (b'{"id": 9007199254740992}', {"id": 9007199254740992}),
        (b'{"id": 123456789012345678901234567890}', {"id": "123456789012345678901234567890"}),
        (b'{"price": 0.1, "huge": 1e999}', {"price": 0.1, "huge": "inf"}),
        (rb'{"a\u0000b": "c\u0000d"}', {"a\ufffdb": "c\ufffdd"}),
        (rb'["\ud83d\ude2e", "\ud83d", "\ude2e", "\ud83d\ud83d\ude2e", "\\ud83d", "\\\ud83d"]',
         ["\U0001f62e", "\ufffd", "\ufffd", "\ufffd\U0001f62e", "\\ud83d", "\\\ufffd"]),
    ],
)  # fmt: skip
def test_json_is_read_as_it_can_be_stored(body: bytes, value: Any) -> None:
    assert payloads.decode(body) == value


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"null{}", b'{"a": NaN}', b'{"a": Infinity}', b'"\xff"', b"\x00", b'"\x00"', b"[" * 100_000,
        b'{"a":' * 300 + b"1" + b"}" * 300, b"1" * 5_000, b"a=1&b=2", rb'"\u12"', "[1]".encode("utf-16"),
    ],
)  # fmt: skip
def test_what_is_no_json_says_so(body: bytes) -> None:
    with pytest.raises(Unreadable, match="not JSON"):
        payloads.decode(body)


@pytest.mark.parametrize(
    ("value", "iso"),
    [
        (1697043223, "2023-10-11T16:53:43"), ("1697043223", "2023-10-11T16:53:43"),
        (1697043223123, "2023-10-11T16:53:43.123000"), ("1697043223123", "2023-10-11T16:53:43.123000"),
        (0, "1970-01-01T00:00:00"), (99_999_999_999, "5138-11-16T09:46:39"), (100_000_000_000, "1973-03-03T09:46:40"),
    ],
)  # fmt: skip
def test_a_time_is_in_seconds_or_milliseconds(value: Any, iso: str) -> None:
    assert payloads.instant({"at": value}, "at").isoformat() == f"{iso}+00:00"


@pytest.mark.parametrize(
    "value",
    [None, True, "", "soon", -1, "-1", 1.5, "1.5", 10**18, "9" * 19, 10**40, [], {}, "\u0661", "1_000", " 1"],
)
def test_what_is_no_time_says_so(value: Any) -> None:
    with pytest.raises(Unreadable, match="at"):
        payloads.instant({"at": value}, "at")


@pytest.mark.parametrize(
    ("value", "text"),
    [("a", "a"), (17, "17"), (0, "0"), ("", None), (True, None), (1.0, None), (None, None), ([], None)],
)
def test_an_id_may_be_a_number(value: Any, text: str | None) -> None:
    assert payloads.text({"a": {"b": value}}, "a", "b") == text


@pytest.mark.parametrize("of", [{}, {"a": None}, {"a": "text"}, {"a": ["b"]}, {"a": {"c": 1}}])
def test_a_path_that_leads_nowhere_finds_nothing(of: dict[str, Any]) -> None:
    assert payloads.text(of, "a", "b") is None
    assert payloads.part(of, "a", "b") == {}
    assert payloads.objects(of, "a", "b") == []
    with pytest.raises(Unreadable, match=r"It has no a\.b"):
        payloads.needed(of, "a", "b")
    with pytest.raises(Unreadable, match=r"Its a\.b is missing"):
        payloads.parts(of, "a", "b")


def test_what_has_no_id_is_known_by_its_content() -> None:
    one, same, other = ({"a": 1, "b": [2]}, {"b": [2], "a": 1}, {"a": 1, "b": [3]})
    assert payloads.digest(one) == payloads.digest(same) != payloads.digest(other)


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("in-progress", "call.in_progress"),
        ("RINGING", "call.ringing"),
        ("\u00e9 \n!", "call._"),
        ("x" * 99, f"call.{'x' * 58}"),
    ],
)
def test_a_providers_word_becomes_a_name(word: str, name: str) -> None:
    assert payloads.named("call", word) == name
