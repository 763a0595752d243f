import random
from datetime import UTC, datetime
from uuid import UUID

import pytest

from crm.contacts import addresses, drafts, search
from crm.contacts.contacts import Contact
from crm.contacts.drafts import Draft, NewIdentity
from crm.db.session import Session
from crm.interactions import people

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
SYLLABLES = ["sa", "ri", "de", "wi", "bu", "di", "an", "to", "mü", "é", "%", "_", "x\\", "Sa", "MÜ"]
TAGS = ["vip", "b2b", "new"]


async def store(session: Session, *wanted: Draft) -> list[Contact]:
    made = [drafts.contact_of(draft, region="ID", now=NOW) for draft in wanted]
    assert await people.create_all(session, made=made, by="test", now=NOW) == made
    return made


async def found(session: Session, q: str, tag: str | None = None) -> list[UUID]:
    hits = await search.find(session, q=q, tag=tag, limit=10_000, region="ID")
    assert [(hit.rank, hit.contact.id) for hit in hits] == sorted(
        ((hit.rank, hit.contact.id) for hit in hits), reverse=True
    )
    return [hit.contact.id for hit in hits]


async def names_found(session: Session, q: str) -> list[str]:
    return [hit.contact.name for hit in await search.find(session, q=q, limit=100, region="ID")]


def name_of(chance: random.Random) -> str:
    words = ["".join(chance.choices(SYLLABLES, k=chance.randint(1, 3))) for _ in range(chance.randint(1, 3))]
    return " ".join(words)


def crowd(chance: random.Random, count: int) -> list[Draft]:
    return [
        Draft(
            name=name_of(chance),
            tags=[tag for tag in TAGS if chance.random() < 0.3],
            identities=[
                identity
                for identity in (
                    NewIdentity(kind="email", value=f"u{i}.{chance.choice('abc')}@example.com"),
                    NewIdentity(kind="phone", value=f"+62812{chance.randint(0, 99):02}{i:05}"),
                    NewIdentity(kind="card", value=f"C{chance.randint(0, 9)} {i:03}"),
                    NewIdentity(kind="customer_id", value=f"%{i}" if i % 2 else f"sa_{i}"),
                )
                if chance.random() < 0.6
            ],
        )
        for i in range(count)
    ]


def holds(contact: Contact, q: str) -> bool:
    name, part = search.folded(contact.name), search.folded(q)
    if part in name if len(part) >= 3 else f" {part}" in f" {name}":
        return True
    values = [identity.value for identity in contact.identities]
    return any(
        value == beginning or (len(beginning) >= 3 and value.startswith(beginning))
        for beginning in addresses.beginnings(q, region="ID")
        for value in values
    )


@pytest.mark.parametrize("seed", range(3))
async def test_a_search_finds_what_looking_at_every_contact_finds(session: Session, seed: int) -> None:
    chance = random.Random(seed)
    everybody = await store(session, *crowd(chance, 300))
    queries = [name_of(chance) for _ in range(25)] + [chance.choice(SYLLABLES) for _ in range(10)]
    queries += [contact.name[1:4] for contact in everybody[:15] if contact.name[1:4].strip()]
    queries += [i.raw[: chance.randint(2, 12)] for c in everybody[:40] for i in c.identities]
    queries += [
        "0812",
        "0812 01",
        "62812",
        "+62812",
        "812",
        "%",
        "_",
        "%%%",
        "a%b",
        "\\",
        "C1",
        "c 2",
        "U1",
        "@example",
    ]
    for q in queries:
        tag = chance.choice([None, *TAGS])
        alike = await session.fetch(
            "SELECT id FROM contacts WHERE word_similarity($1, name_folded) >= 0.4", search.folded(q)
        )
        expected = {row["id"] for row in alike} | {contact.id for contact in everybody if holds(contact, q)}
        tagged = {contact.id for contact in everybody if tag is None or tag in contact.tags}
        assert set(await found(session, q, tag)) == expected & tagged, (q, tag)


async def test_names_are_folded_here_as_in_the_database(session: Session) -> None:
    for text in ("Sari Dewi", "MÜLLER", "Ærø Łódź", "Đặng Thị", "Ὀδυσσεύς", "İstanbul", "ǅ", "ﬁ", "王伟", "Ё ё"):
        assert await session.fetchval("SELECT folded($1)", text) == f" {search.folded(text)}"


@pytest.mark.parametrize(
    "q", ["Sari Dewi", "sari", "DEWI", "ari d", "sa", "Sarii", "Dewy", "sari dwi", "dewi sari", "SARI DEWY", " sari "]
)
async def test_a_contact_is_found_by_a_part_of_the_name_or_nearly_so(session: Session, q: str) -> None:
    await store(session, Draft(name="Sari Dewi"), Draft(name="Bambang Hartono"))
    assert await names_found(session, q) == ["Sari Dewi"]


@pytest.mark.parametrize("q", ["Muller", "müller", "MULLER", "jurgen m"])
async def test_accents_and_case_do_not_matter(session: Session, q: str) -> None:
    await store(session, Draft(name="Jürgen Müller"))
    assert await names_found(session, q) == ["Jürgen Müller"]


@pytest.mark.parametrize(
    "q",
    ["0812 3456 789", "+62 812", "62812345", "(0812) 3456", "SARI@EXAMPLE.COM", "sari@", "ab 12 34", "AB1", "gid://s"],
)
async def test_a_contact_is_found_by_an_identity_in_any_form(session: Session, q: str) -> None:
    identities = [
        NewIdentity(kind="phone", value="+62 812-3456-789"),
        NewIdentity(kind="email", value="Sari@Example.com"),
        NewIdentity(kind="card", value="AB 12 34"),
        NewIdentity(kind="customer_id", value="gid://shop/7"),
    ]
    await store(session, Draft(name="S.", identities=identities), Draft(name="Nobody Else"))
    assert await names_found(session, q) == ["S."]


async def test_the_best_comes_first(session: Session) -> None:
    card = NewIdentity(kind="card", value="SARI")
    prefix = NewIdentity(kind="email", value="sari.x@example.com")
    await store(
        session, Draft(name="Saritem"), Draft(name="Sari Dewi"), Draft(name="Xy", identities=[card]),
        Draft(name="Zz", identities=[prefix]), Draft(name="Sari"), Draft(name="Sary Wulandari"), Draft(name="Budi"),
    )  # fmt: skip
    assert await names_found(session, "sari") == ["Xy", "Sari", "Sari Dewi", "Saritem", "Zz", "Sary Wulandari"]


async def test_pages_put_together_are_the_whole_list(session: Session) -> None:
    chance = random.Random(7)
    await store(session, *crowd(chance, 200))
    for q in ("sari", "de", "0812", "C1"):
        whole = await found(session, q)
        pages: list[UUID] = []
        after = None
        while hits := await search.find(session, q=q, after=after, limit=7, region="ID"):
            pages.extend(hit.contact.id for hit in hits)
            after = (hits[-1].rank, hits[-1].contact.id)
            await store(session, Draft(name=f"Zzz {len(pages)}"))
        assert pages == whole, q


@pytest.mark.parametrize("tag", [None, *TAGS, "none has it"])
async def test_without_words_everybody_is_listed_newest_first(session: Session, tag: str | None) -> None:
    everybody = await store(session, *crowd(random.Random(1), 60))
    expected = [contact for contact in reversed(everybody) if tag is None or tag in contact.tags]
    pages: list[Contact] = []
    before = None
    while page := await search.page(session, tag=tag, before=before, limit=7):
        pages.extend(page)
        before = page[-1].id
        await store(session, Draft(name="Newer", tags=[tag] if tag else []))
    assert pages == expected


async def test_every_search_can_use_an_index(session: Session) -> None:
    await store(session, *crowd(random.Random(2), 300))
    await session.execute("ANALYZE contacts, identity_directory, contact_identities, contact_tags")
    await session.execute("SET LOCAL enable_seqscan = off")  # where an index would do
    scans = "SELECT relname, seq_scan FROM pg_stat_xact_user_tables WHERE schemaname = 'public' ORDER BY relname"
    before = await session.fetch(scans)
    for q in ("Sari Dewi", "0812 3456", "abc123", "sari@example.com", "ab", "x"):
        for tag in (None, "vip"):
            await search.find(session, q=q, tag=tag, limit=51, region="ID")
            await search.page(session, tag=tag, limit=51)
    assert await session.fetch(scans) == before


@pytest.mark.parametrize(
    ("prefix", "beyond"), [("abc", "abd"), ("a\ud7ff", "a\ue000"), ("a\U0010ffff", "b"), ("62~", "62\x7f")]
)
def test_beyond_a_beginning_lies_the_least_text_that_does_not_begin_so(prefix: str, beyond: str) -> None:
    assert search._beyond(prefix) == beyond
