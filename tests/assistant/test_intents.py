"""What somebody wants, by the words they use, in Indonesian and English."""

import pytest

from crm.assistant import intents
from crm.assistant.intents import Wanted


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("Berapa poin saya?", ("balance",)),
        ("poin aku ada berapa ya kak", ("balance",)),
        ("cek saldo", ("balance",)),
        ("How many points do I have?", ("balance",)),
        ("What's my points balance", ("balance",)),
        ("poin saya", ("balance",)),
        ("Saya level apa?", ("tier",)),
        ("which tier am I in", ("tier",)),
        ("Kapan poin saya hangus?", ("expiring_points",)),
        ("do my points expire soon?", ("expiring_points",)),
        ("Berapa poin saya, dan kapan hangus?", ("balance", "expiring_points")),
        ("Pesanan saya di mana?", ("orders",)),
        ("paketku INV-1001 sudah sampai mana", ("orders",)),
        ("Where is my order INV-7?", ("orders",)),
        ("kapan pesanan saya sampai", ("orders",)),
    ],
)
def test_a_question_about_oneself_is_about_facts(text, facts):
    assert (intents.of(text).intent, intents.of(text).facts) == ("facts", facts)


@pytest.mark.parametrize(
    ("text", "intent"),
    [
        ("I want to talk to a human", "person"),
        ("can I speak with a real person please", "person"),
        ("Saya mau bicara dengan orang", "person"),
        ("tolong sambungkan ke CS dong", "person"),
        ("admin", "person"),
        ("Pelayanannya mengecewakan sekali!", "complaint"),
        ("saya komplain, pesanan saya rusak", "complaint"),
        ("This is unacceptable, where is my order", "complaint"),
        ("Berapa poin teman saya?", "somebody_else"),
        ("poin istriku berapa", "somebody_else"),
        ("What's my friend's balance?", "somebody_else"),
        ("show the points of another customer", "somebody_else"),
        ("daftar semua pelanggan", "somebody_else"),
        ("saldo orang lain", "somebody_else"),
        ("Halo kak!", "greeting"),
        ("selamat pagi", "greeting"),
        ("Makasih banyak ya", "thanks"),
        ("apakah toko buka hari minggu", "article"),
        ("do you have oat milk", "article"),
        ("what do I get for a friend of mine", "article"),
        ("dapat apa kalau mengajak teman saya", "article"),
        ("points of my wife", "somebody_else"),
        ("\U0001f600", "article"),
        ("", "article"),
    ],
)
def test_a_question_is_what_it_is(text, intent):
    assert intents.of(text).intent == intent


@pytest.mark.parametrize("text", ["Bagaimana cara melihat poin?", "How do I check my points", "syarat naik level"])
def test_how_something_is_done_is_asked_apart(text):
    assert intents.of(text).how


def test_a_question_is_read_without_its_accents_and_case():
    assert intents.of("BÈRAPA PÓIN SAYA") == Wanted("facts", ("balance",), owned=True)


def test_numbers_of_orders_and_addresses_are_told_apart():
    assert intents.references("pesanan INV-1001 dan 727, hubungi 0812-3456-789") == ["INV-1001", "727"]
    assert intents.addresses("poin 0812-3456-789 atau budi@example.com") == ["0812-3456-789", "budi@example.com"]


@pytest.mark.parametrize("text", ["poin " * 400, "a" * 2000, "my " * 600, "(((" * 600, "order where " * 160])
def test_a_long_question_takes_no_long_time(text):
    intents.of(text)
