"""`crm demo`: a coffee chain that never existed, with a year behind it, so that there is something to look at.

Everything goes through the verbs that a real shop uses, told the time of then; the same seed makes the same year.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock
from decimal import Decimal
from typing import Annotated, Final
from uuid import UUID
from zoneinfo import ZoneInfo

import typer
from rich.console import Console
from rich.progress import Progress

from crm.cli import logs, loop, place
from crm.contacts import drafts
from crm.contacts.contacts import Contact
from crm.contacts.drafts import Draft, NewIdentity
from crm.db.session import Database, Session
from crm.errors import Conflict
from crm.interactions import people, timeline
from crm.interactions.timeline import Report
from crm.loyalty import catalogue, challenges, ledger, offers, programs, purchases, redemptions, rewards, rules
from crm.loyalty.basket import Line, Payment, Purchase
from crm.loyalty.books import InsufficientPoints
from crm.loyalty.ledger import Award
from crm.loyalty.programs import ProgramView
from crm.loyalty.purchases import Bought
from crm.loyalty.tiers import TierPolicy
from crm.settings import Settings

ZONE: Final = ZoneInfo("Asia/Jakarta")
SHOP: Final = "Kopi Senja"
STORES: Final = ("Bandung Dago", "Jakarta Kemang", "Surabaya Gubeng", "Yogyakarta Prawirotaman")
DAYS: Final = 365
BY: Final = "demo"

GIVEN_NAMES: Final = (
    "Sari", "Budi", "Dewi", "Agus", "Putri", "Rizky", "Ayu", "Hendra", "Wulan", "Fajar", "Intan", "Yusuf", "Maya",
    "Dimas", "Ratna", "Bayu", "Nadia", "Eko", "Citra", "Gilang", "Lestari", "Arif", "Melati", "Joko", "Kirana",
)  # fmt: skip
FAMILY_NAMES: Final = (
    "Wijaya", "Santoso", "Pratama", "Lestari", "Nugroho", "Siregar", "Halim", "Kusuma", "Hidayat", "Simanjuntak",
    "Saputra", "Maharani", "Gunawan", "Rahayu", "Setiawan", "Tanjung", "Permata", "Hartono",
)  # fmt: skip
MENU: Final = (
    ("ESP-1", "Espresso", "coffee", 18_000), ("KSA-1", "Kopi Susu Senja", "coffee", 24_000),
    ("CAP-1", "Cappuccino", "coffee", 32_000), ("V60-1", "V60 Gayo", "coffee", 38_000),
    ("TEH-1", "Teh Tarik", "tea", 22_000), ("ROT-1", "Roti Bakar", "food", 28_000),
    ("PIS-1", "Pisang Goreng", "food", 25_000), ("BJI-250", "Biji Kopi Toraja 250 g", "beans", 115_000),
)  # fmt: skip
TALKS: Final = (
    ("whatsapp", "Halo, cabang Dago buka sampai jam berapa ya?", "Halo Kak! Kami buka sampai pukul 22.00."),
    ("whatsapp", "Poin saya dari kemarin belum masuk.", "Mohon maaf, Kak. Sudah kami cek dan poinnya sudah masuk."),
    ("instagram", "Kopi Susu Senja kapan ada yang less sugar?", "Sudah ada, Kak! Tinggal bilang ke barista."),
    ("instagram", "Biji Toraja masih ada?", "Masih, Kak, di semua cabang."),
    ("email", "Apakah bisa pesan untuk rapat 30 orang?", "Tentu bisa. Penawarannya kami kirim hari ini."),
    ("telegram", "Is there oat milk in the Kemang store?", "Yes, and it is free for Gold members."),
    ("messenger", "Apakah poin bisa dipakai di Surabaya?", "Bisa, Kak, poin berlaku di semua cabang."),
)  # fmt: skip


class NotEmpty(Conflict):
    code = "not_empty"
    title = "There is something here already"


@dataclass(slots=True)
class Regular:
    """A made-up customer: how often they come, and from which day on."""

    contact: Contact
    store: str
    habit: float
    first_day: int
    points: int = 0


@dataclass(slots=True)
class Year:
    """What was made."""

    contacts: int = 0
    messages: int = 0
    purchases: int = 0
    points: int = 0
    redemptions: int = 0
    program: ProgramView | None = None
    rewards: Sequence[UUID] = ()


def demo(
    contacts: Annotated[int, typer.Option(min=1, max=5_000, help="How many customers.")] = 240,
    seed: Annotated[int, typer.Option(help="Another seed, another year.")] = 7,
) -> None:
    """Fill an empty place with a made-up coffee chain in Indonesia and a year of its history."""
    settings = Settings()
    logs.configure(settings)
    console = Console()
    with place.database(settings) as found:
        year = loop.run(_make(found.dsn, contacts, random.Random(seed), Console(stderr=True)))  # noqa: S311 - a story
    console.print(
        f"{SHOP}: {year.contacts:,} contacts, {year.messages:,} messages, {year.purchases:,} purchases, "
        f"{year.points:,} points earned, {year.redemptions:,} redemptions."
    )


async def _make(dsn: str, count: int, chance: random.Random, console: Console) -> Year:
    database = await Database.connect(dsn, size_max=1)
    now = datetime.now(UTC)
    first_on = now.astimezone(ZONE).date() - timedelta(days=DAYS)
    year = Year(contacts=count)
    try:
        async with database.begin() as session:
            await _refuse_what_is_not_empty(session)
            year.program, year.rewards = await _program(session, _at(first_on, clock(6)))
        regulars = _regulars(count, chance, first_on)
        with Progress(console=console) as progress:
            for day in progress.track(range(DAYS), description=f"A year of {SHOP}"):
                async with database.begin() as session:
                    await _live(session, year.program.id, regulars, day, first_on, year, chance)
    finally:
        await database.close()
    return year


async def _refuse_what_is_not_empty(session: Session) -> None:
    if await session.fetchval("SELECT EXISTS (SELECT 1 FROM programs) OR EXISTS (SELECT 1 FROM contacts)"):
        raise NotEmpty("The demo is only for an empty place: choose another folder with CRM_DATA_DIR.")


async def _program(session: Session, now: datetime) -> tuple[ProgramView, Sequence[UUID]]:
    """The program, and the rewards that can be bought."""
    settings = {
        "expiry": {"kind": "after", "months": 6, "round_up_to": "month"}, "cost_per_point": "10",
        "expected_breakage": "0.2", "redemption": {"points": 100, "amount": "1000", "max_share": "0.5"},
        "milestones": [1_000, 5_000],
    }  # fmt: skip
    program = await programs.create(
        session, name=f"Sahabat {SHOP}", currency="IDR", time_zone=str(ZONE), default=True, settings=settings, now=now
    )
    for definition in (
        {"name": "1 poin per Rp 1.000", "kind": "per_amount", "points": 1, "per": "1000"},
        {"name": "Selasa ganda", "kind": "multiplier", "factor": "2", "window": {"weekdays": ["tue"]}},
        {"name": "Bonus biji kopi", "kind": "per_unit", "points": 25, "per": "1", "filter": {"categories": ["beans"]}},
        {"name": "Selamat ulang tahun", "kind": "per_event", "event": "birthday", "points": 100},
    ):
        await rules.create(session, program_id=program.id, definition=definition, now=now)
    coffee, tote, roastery = [
        (await catalogue.create(session, program_id=program.id, definition=definition, stock=stock, now=now)).id
        for definition, stock in (
            ({"name": "Kopi gratis", "cost": 300, "fulfilment": "voucher", "valid_days": 30,
              "categories": ["coffee"]}, None),
            ({"name": "Tas kanvas Kopi Senja", "cost": 1_500, "fulfilment": "manual",
              "limits": [{"times": 1, "per": "year"}]}, 40),
            ({"name": "Kunjungan ke tempat sangrai", "cost": 2_500, "fulfilment": "manual",
              "condition": {"field": "tier", "op": "eq", "value": "Emas"}}, 12),
        )
    ]  # fmt: skip
    for name, threshold, benefits in (
        ("Teman", 0, {"earn_factor": "1"}),
        ("Perak", 1_000, {"earn_factor": "1.25"}),
        ("Emas", 4_000, {"earn_factor": "1.5", "reward_ids": [str(coffee)]}),
    ):
        await programs.add_tier(
            session, program_id=program.id, name=name, threshold=threshold, benefits=benefits, now=now
        )
    policy = TierPolicy("points", "rolling_months", months=12, downgrade="one_level", grace_days=30)
    await programs.set_tier_policy(session, program_id=program.id, policy=policy, now=now)
    card = {"name": "Sepuluh kali ngopi", "event": "purchase", "goal": 10, "points": 50}
    await challenges.create(session, program_id=program.id, definition=card, now=now)
    regulars_only = {"field": "tier", "op": "in", "value": ["Perak", "Emas"]}
    afternoon = {
        "name": "Sore santai untuk Perak dan Emas", "audience": {"condition": regulars_only}, "auto": True,
        "benefit": {"kind": "multiplier", "factor": "1.5"}, "window": {"hours": ["15:00", "17:00"]},
        "categories": ["tea", "food"],
    }  # fmt: skip
    await offers.create(session, program_id=program.id, definition=afternoon, contact_ids=None, by=BY, now=now)
    return program, (coffee, tote, roastery)


def _regulars(count: int, chance: random.Random, first_on: date) -> list[Regular]:
    made = []
    for number in range(count):
        given, family = chance.choice(GIVEN_NAMES), chance.choice(FAMILY_NAMES)
        handle = f"{given}.{family}{number}".lower()
        phone = f"+62812{10_000_000 + number * 37_199 % 89_999_999}"
        known_by = [NewIdentity(kind="phone", value=phone, verified=True)]
        if chance.random() < 0.6:
            known_by.append(NewIdentity(kind="email", value=f"{handle}@example.com"))
        if chance.random() < 0.7:
            known_by.append(NewIdentity(kind="whatsapp", value=phone))
        if chance.random() < 0.3:
            known_by.append(NewIdentity(kind="instagram", value=str(17_841_400_000_000_000 + number)))
        known_by.append(NewIdentity(kind="card", value=f"KS{number:06}"))
        store = chance.choice(STORES)
        first_day = int(chance.triangular(0, DAYS * 0.8, 0))
        joined_at = _at(first_on + timedelta(days=first_day), clock(7))
        draft = Draft(
            name=f"{given} {family}", given_name=given, family_name=family, time_zone=str(ZONE),
            locale=chance.choice(("id-ID",) * 6 + ("en-ID",)),
            birth_on=date(chance.randint(1965, 2006), chance.randint(1, 12), chance.randint(1, 28)),
            tags=chance.sample(("mahasiswa", "kantor", "pecinta-v60", "vegan", "keluarga"), chance.randint(0, 2)),
            attributes={"favourite_store": store}, identities=known_by,
        )  # fmt: skip
        contact = drafts.contact_of(draft, region="ID", now=joined_at)
        made.append(Regular(contact, store, chance.choice((0.02, 0.05, 0.1, 0.25, 0.5)), first_day))
    return made


async def _live(
    session: Session, program_id: UUID, regulars: Sequence[Regular], day: int, first_on: date, year: Year,
    chance: random.Random,
) -> None:  # fmt: skip
    """One day: who comes buys, some write, some pay with points, somebody gets points for their trouble."""
    today = first_on + timedelta(days=day)
    closing = _at(today, clock(22))
    newcomers = [one.contact for one in regulars if one.first_day == day]
    await people.create_all(session, made=newcomers, by=BY, now=_at(today, clock(7)))
    # A tide over the week and the year, with the crowd of Ramadan's end and of December.
    tide = (1.3 if today.weekday() >= 5 else 0.9) * (1.25 if today.month in {3, 12} else 1.0)
    visitors = [one for one in regulars if one.first_day <= day and chance.random() < one.habit * tide]
    bought = [_purchase(one, today, number, chance) for number, one in enumerate(visitors)]
    bought.sort(key=lambda item: item.purchase.occurred_at)
    if bought:
        by_contact = {one.contact.id: one for one in visitors}
        for item, result in zip(
            bought,
            await purchases.record_all(session, program_id=program_id, bought=bought, by=BY, now=closing),
            strict=True,
        ):
            assert isinstance(result, tuple)
            year.purchases += 1
            year.points += result[0].points
            assert isinstance(item.who, UUID)
            by_contact[item.who].points = result[0].balance.available
    for one in visitors:
        if one.points >= 400 and chance.random() < 0.25:
            await _redeem(session, program_id, one, chance, closing, year)
    reports = [
        report
        for one in regulars
        if one.first_day <= day and chance.random() < 0.01
        for report in _talk(one, today, chance)
    ]
    if reports:
        await timeline.record_all(session, reports=reports, by=BY, now=closing)
        year.messages += len(reports)
    known = [one.contact for one in regulars if one.first_day <= day]
    if known and chance.random() < 0.1:
        sorry = chance.choice(known)
        await ledger.award(
            session, program_id=program_id, by=BY, once=None, now=closing,
            award=Award(sorry.id, 50, "goodwill", note="Maaf atas antrean yang panjang."),
        )  # fmt: skip


def _purchase(one: Regular, today: date, number: int, chance: random.Random) -> Bought:
    minute = int(chance.triangular(7 * 60, 21 * 60, 8 * 60 + 30))
    chosen = chance.choices(MENU, weights=(2, 6, 4, 2, 2, 3, 2, 1), k=chance.choice((1, 1, 2, 3)))
    lines = tuple(
        Line(
            sku=sku, category=category, labels=(name,), quantity=Decimal(chance.choice((1, 1, 1, 2))),
            unit_price=Decimal(price),
        )
        for sku, name, category, price in chosen
    )  # fmt: skip
    due = sum((line.quantity * line.unit_price for line in lines), Decimal(0))
    purchase = Purchase(
        order_ref=f"{today:%Y%m%d}-{number:04}", occurred_at=_at(today, clock(minute // 60, minute % 60)),
        currency="IDR", lines=lines, payments=(Payment(chance.choice(("cash", "qris", "card")), due),),
    )  # fmt: skip
    return Bought(one.contact.id, purchase, place={"store": one.store, "till": chance.choice(("1", "2"))})


async def _redeem(
    session: Session, program_id: UUID, one: Regular, chance: random.Random, now: datetime, year: Year
) -> None:
    if chance.random() < 0.5:
        await _choose(session, program_id, one, chance, now, year)
        return
    try:
        redemption, _ = await redemptions.redeem(
            session, program_id=program_id, contact_id=one.contact.id, points=chance.choice((100, 200, 300)),
            order_ref=None, place={"store": one.store}, by=BY, once=None, now=now,
        )  # fmt: skip
    except InsufficientPoints:
        return
    year.redemptions += 1
    one.points = redemption.balance.available
    if chance.random() < 0.03:
        await redemptions.reverse(
            session,
            contact_id=one.contact.id,
            redemption_id=redemption.id,
            reason="salah_tekan",
            by=BY,
            once=None,
            now=now,
        )


async def _choose(
    session: Session, program_id: UUID, one: Regular, chance: random.Random, now: datetime, year: Year
) -> None:
    try:
        chosen, _ = await rewards.redeem(
            session, program_id=program_id, contact_id=one.contact.id, reward_id=chance.choice(year.rewards),
            quantity=1, order_ref=None, place={"store": one.store}, by=BY, once=None, now=now,
        )  # fmt: skip
    except Conflict:  # not enough points, none left, not for them: they look at the shelf and go
        return
    year.redemptions += 1
    one.points = chosen.balance.available


def _talk(one: Regular, today: date, chance: random.Random) -> list[tuple[UUID, Report]]:
    channel, question, answer = chance.choice(TALKS)
    asked_at = _at(today, clock(chance.randint(8, 20), chance.randint(0, 59)))
    answered_at = asked_at + timedelta(minutes=chance.randint(2, 90))
    return [
        (one.contact.id, Report(channel, "message", asked_at, direction="inbound", body=question)),
        (one.contact.id, Report(channel, "message", answered_at, direction="outbound", body=answer)),
    ]


def _at(day: date, hour: clock) -> datetime:
    return datetime.combine(day, hour, ZONE).astimezone(UTC)
