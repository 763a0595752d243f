"""How a page for members says numbers, days and what happened, in Indonesian and in English."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from crm.loyalty.ladders import Basis

_MINUS: Final = "\N{MINUS SIGN}"
_DASH: Final = "\N{EN DASH}"


@dataclass(frozen=True, slots=True)
class Language:
    """A language by its code: `words` are the phrases of the page, `kinds` those for kinds of transactions, and
    `ways` say by what one comes to the next tier."""

    code: str
    thousands: str
    hours: str
    months: tuple[str, ...]
    words: Mapping[str, str]
    kinds: Mapping[str, str]
    ways: Mapping[Basis, str]

    def __getitem__(self, phrase: str) -> str:
        return self.words[phrase]

    def number(self, value: int) -> str:
        """With marks between thousands."""
        digits = f"{abs(value):,}".replace(",", self.thousands)
        return f"{_MINUS}{digits}" if value < 0 else digits

    def change(self, value: int) -> str:
        """A number that says in which direction it goes."""
        return f"+{self.number(value)}" if value > 0 else self.number(value)

    def day(self, day: date) -> str:
        """Such as 5 November 2026."""
        return f"{day.day} {self.months[day.month - 1]} {day.year}"

    def short_day(self, day: date, *, year: bool) -> str:
        """Such as 5 Nov 2026, or without the year."""
        short = f"{day.day} {self.months[day.month - 1][:3]}"
        return f"{short} {day.year}" if year else short

    def days(self, first: date, last: date) -> str:
        """From the one to the other, without saying anything twice."""
        if first == last:
            return self.day(last)
        if (first.year, first.month) == (last.year, last.month):
            return f"{first.day}{_DASH}{self.day(last)}"
        if first.year == last.year:
            return f"{first.day} {self.months[first.month - 1]} {_DASH} {self.day(last)}"
        return f"{self.day(first)} {_DASH} {self.day(last)}"

    def end(self, ends_at: datetime, zone: ZoneInfo) -> str:
        """Until when something holds: the last whole day before an instant at midnight, or else its hour."""
        local = ends_at.astimezone(zone)
        if local.time() == time():
            return self.day(local.date() - timedelta(days=1))
        return f"{self.day(local)}, {local.hour:02}{self.hours}{local.minute:02}"

    def kind(self, kind: str) -> str:
        """What happened; a kind that has no phrase yet goes by its own name."""
        return self.kinds.get(kind, kind)


ENGLISH: Final = Language(
    code="en",
    thousands=",",
    hours=":",
    months=(
        "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
        "December",
    ),
    words={
        "title": "Points statement",
        "opening": "Opening balance",
        "closing": "Closing balance",
        "pending": "Pending",
        "held": "Held",
        "date": "Date",
        "what": "What happened",
        "points": "Points",
        "balance": "Balance",
        "order": "Order",
        "summary": "Summary",
        "details": "Details",
        "times": "Times",
        "none": "No points moved in this period.",
        "omitted": "Earlier entries",
        "expiring": "How long points last",
        "expires": "Can be spent until",
        "expiring_later": "Later",
        "tier": "Your tier",
        "until": "Until",
        "to_stay": "Missing to stay, by",
        "made": "Made on",
        "zone": "Days as in",
    },
    kinds={
        "earn": "Points earned",
        "redeem": "Points spent",
        "hold": "Points held",
        "capture": "Held points spent",
        "release": "Held points released",
        "adjust": "Correction",
        "expire": "Points expired",
        "activate": "Pending points now available",
        "transfer": "Points transferred",
        "reverse": "Reversal",
    },
    ways={"points": "Points to reach", "spend": "Still to spend to reach", "visits": "Visits to reach"},
)  # fmt: skip

INDONESIAN: Final = Language(
    code="id",
    thousands=".",
    hours=".",
    months=(
        "Januari", "Februari", "Maret", "April", "Mei", "Juni", "Juli", "Agustus", "September", "Oktober", "November",
        "Desember",
    ),
    words={
        "title": "Laporan poin",
        "opening": "Saldo awal",
        "closing": "Saldo akhir",
        "pending": "Tertunda",
        "held": "Ditahan",
        "date": "Tanggal",
        "what": "Keterangan",
        "points": "Poin",
        "balance": "Saldo",
        "order": "Pesanan",
        "summary": "Ringkasan",
        "details": "Rincian",
        "times": "Kali",
        "none": "Tidak ada perubahan poin pada periode ini.",
        "omitted": "Entri sebelumnya",
        "expiring": "Masa berlaku poin",
        "expires": "Dapat dipakai sampai dengan",
        "expiring_later": "Sesudahnya",
        "tier": "Tingkat Anda",
        "until": "Sampai",
        "to_stay": "Kurang untuk bertahan, paling lambat",
        "made": "Dibuat pada",
        "zone": "Hari menurut",
    },
    kinds={
        "earn": "Poin diperoleh",
        "redeem": "Poin dipakai",
        "hold": "Poin ditahan",
        "capture": "Poin yang ditahan dipakai",
        "release": "Poin yang ditahan dilepas",
        "adjust": "Koreksi",
        "expire": "Poin kedaluwarsa",
        "activate": "Poin tertunda kini dapat dipakai",
        "transfer": "Pemindahan poin",
        "reverse": "Pembatalan",
    },
    ways={"points": "Poin menuju", "spend": "Belanja menuju", "visits": "Kunjungan menuju"},
)  # fmt: skip


def of(*locales: str | None) -> Language:
    """The language of the first locale that is given: Indonesian for Indonesians, English for everybody else."""
    locale = next((locale for locale in locales if locale), "")
    return INDONESIAN if locale.lower().replace("_", "-").partition("-")[0] in ("id", "in") else ENGLISH
