from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crm.contacts import contacts, drafts
from crm.contacts.contacts import Contact
from crm.contacts.drafts import Draft, InvalidContact, NewIdentity
from crm.contacts.identities import Identity
from crm.contacts.tags import InvalidTag

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def contact_of(**given: Any) -> Contact:
    return drafts.contact_of(Draft(**{"name": "Sari Dewi", **given}), region="ID", now=NOW)


def errors_of(**given: Any) -> list[str]:
    with pytest.raises(InvalidContact) as caught:
        contact_of(**given)
    return [error.pointer for error in caught.value.errors]


def test_a_draft_says_everything_that_is_wrong_with_it() -> None:
    assert errors_of(
        name=" ", given_name="", locale="??", time_zone="Mars/Olympus", birth_on=date(2030, 1, 1), tags=[""],
        identities=[NewIdentity(kind="card", value="A1"), NewIdentity(kind="email", value="x")],
        attributes={"1st": "x", "big": 2**60},
    ) == [
        "/name", "/given_name", "/locale", "/time_zone", "/birth_on", "/tags", "/identities/1/value", "/attributes/1st",
        "/attributes/big",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("id-ID", "id-ID"), ("ID_id", "id-ID"), ("id", "id"), ("zh-hant-tw", "zh-Hant-TW"), ("es-419", "es-419"),
        ("de-DE-1996", "de-DE-1996"),
    ],
)  # fmt: skip
def test_a_locale_is_a_language_tag(given: str, kept: str) -> None:
    assert contact_of(locale=given).locale == kept


@pytest.mark.parametrize("given", ["", "i", "english", "id--ID", "id-ID-", "id ID", "id-ID\n"])
def test_what_is_no_language_tag_is_refused(given: str) -> None:
    assert errors_of(locale=given) == ["/locale"]


@pytest.mark.parametrize("born", [date(1900, 1, 1), date(2026, 11, 22), date(2026, 11, 23)])
def test_somebody_was_born_up_to_today_wherever_that_is(born: date) -> None:
    assert contact_of(birth_on=born).birth_on == born


@pytest.mark.parametrize("born", [date(1899, 12, 31), date(2026, 11, 24)])
def test_nobody_was_born_in_the_future_or_in_another_age(born: date) -> None:
    assert errors_of(birth_on=born) == ["/birth_on"]


def test_an_identity_given_twice_is_kept_once_and_verified_if_one_of_them_was() -> None:
    contact = contact_of(
        identities=[
            NewIdentity(kind="phone", value="0812 3456 789"),
            NewIdentity(kind="email", value="sari@example.com"),
            NewIdentity(kind="phone", value="+628123456789", verified=True),
        ]
    )
    assert contact.identities == [
        Identity("phone", "", "+628123456789", "0812 3456 789", verified=True),
        Identity("email", "", "sari@example.com", "sari@example.com", verified=False),
    ]


def test_a_contact_has_only_so_many_identities_tags_and_attributes() -> None:
    many = [NewIdentity(kind=f"kind{i % 6}", value=f"C{i}") for i in range(51)]
    assert errors_of(identities=many) == ["/identities"]
    assert errors_of(identities=[NewIdentity(kind="card", value=f"C{i}") for i in range(11)]) == ["/identities"]
    assert (
        len(contact_of(identities=[NewIdentity(kind="card", value=f"C{i % 10}") for i in range(20)]).identities) == 10
    )
    assert errors_of(tags=[str(i) for i in range(101)]) == ["/tags"]
    assert errors_of(attributes={f"a{i}": i for i in range(101)}) == ["/attributes"]
    assert errors_of(attributes={f"a{i}": "x" * 1_000 for i in range(40)}) == ["/attributes"]


@pytest.mark.parametrize(
    "value", ["x" * 1_001, "a\x00", ["x"] * 101, ["a\x00"], 2**53, -(2**53), float("inf"), float("nan"), 1e300]
)
def test_an_attribute_that_can_not_be_kept_is_refused(value: Any) -> None:
    assert errors_of(attributes={"a": value}) == ["/attributes/a"]


def test_tags_are_trimmed_and_kept_once() -> None:
    assert contact_of(tags=["vip", " vip ", "b2b", "VIP"]).tags == ["VIP", "b2b", "vip"]


def test_a_merge_patch_leaves_what_it_does_not_name() -> None:
    contact = contact_of(given_name="Sari", attributes={"store": "Bandung", "size": 7, "old": True})
    after = drafts.merged(contact, {"name": "Sari D.", "attributes": {"size": 8, "old": None, "new": ["a"]}}, now=NOW)
    assert (after.name, after.given_name) == ("Sari D.", "Sari")
    assert after.attributes == {"store": "Bandung", "size": 8, "new": ["a"]}


def test_null_clears_a_field_but_not_the_name() -> None:
    contact = contact_of(given_name="Sari", birth_on=date(1990, 3, 10), tags=["vip"], attributes={"a": 1})
    after = drafts.merged(contact, {"given_name": None, "birth_on": None, "tags": None, "attributes": None}, now=NOW)
    assert (after.given_name, after.birth_on, after.tags, after.attributes) == (None, None, [], {})
    with pytest.raises(InvalidContact):
        drafts.merged(contact, {"name": None}, now=NOW)


def test_a_patch_can_not_make_more_attributes_than_a_draft() -> None:
    contact = contact_of(attributes={f"a{i}": i for i in range(100)})
    with pytest.raises(InvalidContact):
        drafts.merged(contact, {"attributes": {"one_more": 1}}, now=NOW)
    assert len(drafts.merged(contact, {"attributes": {"a0": None, "one_more": 1}}, now=NOW).attributes) == 100


_values = (
    st.none() | st.booleans() | st.integers(0, 1) | st.sampled_from(["", "x"]) | st.lists(st.just("x"), max_size=1)
)
_patches = st.dictionaries(st.sampled_from("abc"), _values)


@settings(deadline=None)
@given(_patches, _patches)
def test_the_told_changes_turn_the_attributes_before_into_those_after(first: Any, second: Any) -> None:
    before = contact_of(attributes=first)
    after = drafts.merged(before, {"attributes": second}, now=NOW)
    told = contacts.changes(before, after)
    lost, gained = told["before"].get("attributes", {}), told["after"].get("attributes", {})
    rebuilt = {name: value for name, value in before.attributes.items() if name not in lost} | gained
    assert {k: repr(v) for k, v in rebuilt.items()} == {k: repr(v) for k, v in after.attributes.items()}


@pytest.mark.parametrize("tag", ["", " ", "x" * 65, "a\x00", "a\nb"])
def test_what_can_be_no_tag_is_refused(tag: str) -> None:
    with pytest.raises(InvalidTag):
        drafts.tagged(contact_of(), tag)
