import pytest
from email_validator import EmailNotValidError, validate_email
from hypothesis import given, settings
from hypothesis import strategies as st

from crm.contacts.addresses import InvalidIdentity, address, beginnings


def value_of(kind: str, typed: str, region: str = "ID") -> str:
    return address(kind=kind, value=typed, region=region).value


@pytest.mark.parametrize(
    ("typed", "canonical"),
    [
        ("Sari@Example.COM", "sari@example.com"),
        (" sari@example.com ", "sari@example.com"),
        ("Sari.Dewi+shop@Example.com", "sari.dewi+shop@example.com"),
        ("sari@münchen.de", "sari@münchen.de"),
        ("sari@MÜNCHEN.de", "sari@münchen.de"),
        ("sari@xn--mnchen-3ya.de", "sari@münchen.de"),
        ("jose\u0301@example.com", "jos\u00e9@example.com"),
    ],
)
def test_an_email_address_is_one_text_however_it_is_typed(typed: str, canonical: str) -> None:
    assert value_of("email", typed) == canonical


@pytest.mark.parametrize(
    "typed", ["sari", "sari@", "@example.com", "a@b", "a b@example.com", "Sari <sari@example.com>"]
)
def test_what_is_no_email_address_is_refused(typed: str) -> None:
    with pytest.raises(InvalidIdentity):
        value_of("email", typed)


@settings(deadline=None)
@given(st.emails() | st.from_regex(r"[a-zA-Z0-9.+_-]{1,70}@[a-z0-9.-]{1,30}", fullmatch=True))
def test_the_short_way_through_an_email_address_ends_where_the_long_one_does(typed: str) -> None:
    try:
        expected = validate_email(typed, check_deliverability=False, test_environment=True).normalized.lower()
    except EmailNotValidError:
        with pytest.raises(InvalidIdentity):
            value_of("email", typed)
    else:
        assert value_of("email", typed) == expected


@pytest.mark.parametrize(
    "typed",
    [
        "+62 812-3456-789", "+628123456789", "0812 3456 789", "08123456789", "(0812) 3456.789", "812 3456 789",
        "628123456789", "0062 812 3456 789", "tel:+62-812-3456-789", "+62 (0)812 3456 789", "٠٨١٢٣٤٥٦٧٨٩",
        "\uff0b62 812\u20113456\u2011789",
    ],
)  # fmt: skip
def test_a_phone_number_is_one_text_however_it_is_typed(typed: str) -> None:
    assert value_of("phone", typed) == "+628123456789"


def test_a_phone_number_without_its_country_is_of_the_given_region() -> None:
    assert value_of("phone", "0171 2345678", region="DE") == "+491712345678"


@pytest.mark.parametrize(
    "typed",
    [
        "12", "0812", "+999 123 456 789", "0812-3456-789/0813-3456-789", "0812345678901234567", "call me", "+", "()",
        "+1 415 555 2671 ext 12", "0812 3456 O89",
    ],
)  # fmt: skip
def test_what_is_no_phone_number_is_refused(typed: str) -> None:
    with pytest.raises(InvalidIdentity):
        value_of("phone", typed)


@pytest.mark.parametrize("typed", ["628123456789", "+62 812-3456-789", "0812 3456 789", "whatsapp:+628123456789"])
def test_a_whatsapp_id_is_the_digits_of_its_number(typed: str) -> None:
    assert value_of("whatsapp", typed) == "628123456789"


def test_digits_alone_are_a_whatsapp_id_of_any_country() -> None:
    assert value_of("whatsapp", "14155552671") == "14155552671"


def test_a_card_has_no_spaces_and_no_small_letters() -> None:
    assert value_of("card", " ab 12\t34 ") == "AB1234"


@pytest.mark.parametrize("kind", ["whatsapp_bsuid", "messenger", "instagram", "telegram", "line", "customer_id", "pos"])
def test_any_other_identity_is_its_text(kind: str) -> None:
    assert value_of(kind, " Us.1349 x ") == "Us.1349 x"


@pytest.mark.parametrize(
    "typed",
    ["0", "000", "0-0", "null", "NULL", " None ", "anonymous", "Unknown", "undefined", "-", "n/a", "guest", "-1",
     "00000000-0000-0000-0000-000000000000", "[object Object]"],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["customer_id", "card", "email", "phone", "whatsapp", "telegram"])
def test_what_stands_for_nobody_identifies_nobody(kind: str, typed: str) -> None:
    with pytest.raises(InvalidIdentity):
        value_of(kind, typed)


@pytest.mark.parametrize("typed", ["", "  ", "a\x00b", "x" * 256])
def test_what_can_not_be_kept_is_refused(typed: str) -> None:
    with pytest.raises(InvalidIdentity):
        value_of("customer_id", typed)


@pytest.mark.parametrize("kind", ["", "Email", "e mail", "1st", "x" * 64, "é"])
def test_a_kind_is_a_short_lower_case_name(kind: str) -> None:
    with pytest.raises(InvalidIdentity):
        value_of(kind, "x1")


@pytest.mark.parametrize("kind", ["email", "phone", "whatsapp"])
def test_an_address_of_the_whole_world_has_no_account(kind: str) -> None:
    typed = {"email": "sari@example.com"}.get(kind, "+628123456789")
    assert address(kind=kind, value=typed, account="page 1", region="ID").account == ""


def test_an_address_within_an_account_keeps_it() -> None:
    assert address(kind="messenger", value="42", account=" page 1 ", region="ID").account == "page 1"


@settings(deadline=None)
@given(
    st.sampled_from(["email", "phone", "whatsapp", "card", "customer_id"]),
    st.emails() | st.from_regex(r"\+?[0-9 ()-]{6,16}", fullmatch=True) | st.text(max_size=30),
)
def test_the_canonical_form_of_a_canonical_form_is_itself(kind: str, typed: str) -> None:
    try:
        canonical = value_of(kind, typed)
    except InvalidIdentity:
        return
    assert value_of(kind, canonical) == canonical


@settings(deadline=None)
@given(st.from_regex(r"08[1-9][0-9]{7,9}", fullmatch=True), st.integers(min_value=4, max_value=12))
def test_the_beginning_of_a_local_number_is_one_of_the_canonical_numbers(number: str, length: int) -> None:
    canonical = value_of("phone", number)
    typed = " ".join(number[:length])
    assert any(canonical.startswith(beginning) for beginning in beginnings(typed, region="ID"))


@pytest.mark.parametrize("typed", ["0", "08", "6", "+6"])
def test_a_country_is_not_found_by_a_digit_or_two(typed: str) -> None:
    assert beginnings(typed, region="ID") == [typed]


@pytest.mark.parametrize(
    ("kind", "stored", "typed"),
    [
        ("email", "sari@example.com", "SARI@Example.com"),
        ("email", "sari@example.com", "Sari@ex"),
        ("email", "sari@münchen.de", "sari@xn--mnchen-3ya.de"),
        ("phone", "+62 812-3456-789", "0812 3456 789"),
        ("phone", "+62 812-3456-789", "62812"),
        ("phone", "+62 812-3456-789", "(0812) 34"),
        ("phone", "+1 415 555 2671", "001 415"),
        ("whatsapp", "628123456789", "0812 3456"),
        ("whatsapp", "628123456789", "+62 812"),
        ("card", "AB 12 34", "ab 12"),
        ("customer_id", "C-17", "C-1"),
    ],
)
def test_an_address_is_found_by_its_beginning_in_any_form(kind: str, stored: str, typed: str) -> None:
    canonical = value_of(kind, stored)
    assert any(canonical.startswith(beginning) for beginning in beginnings(typed, region="ID"))
