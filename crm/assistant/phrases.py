"""How the bot says what it knows, in Indonesian and English. Pure."""

from collections.abc import Mapping
from typing import Any, Final

from crm.assistant.facts import Source

LANGUAGES: Final = ("id", "en")

_SAID: Final[Mapping[str, Mapping[str, str]]] = {
    "en": {
        "greeting": "Hello! Ask me about your points, your tier, an order, or anything about our shop.",
        "thanks": "You're welcome. Is there anything else?",
        "somebody_else": "I can only tell you about your own account, never about somebody else's.",
        "handed_over": "I have passed this on to a colleague, who will get back to you.",
        "unsure": "I am not sure about this.",
        "complaint": "I am sorry about that.",
        "no_program": "There is no points program at the moment.",
        "balance": "You have {available} points in {program}.",
        "pending": "{pending} more are on their way.",
        "held": "{held} are set aside for an open order.",
        "tier": "Your tier in {program} is {tier}.",
        "no_tier": "You have not reached a tier in {program} yet.",
        "until": "It holds until {until}.",
        "next_points": "{missing} points more take you to {name}.",
        "next_spend": "Spending {missing} more takes you to {name}.",
        "next_visits": "{missing} visits more take you to {name}.",
        "expiring": "{points} points can be used until {last_day}.",
        "expiring_later": "The rest end later.",
        "not_expiring": "None of your {available} points in {program} has an end.",
        "order": "Order {order_ref}: {state}, as of {since}.",
        "no_orders": "I find no order of yours on record.",
        "no_such_order": "I find no order {ref} among yours.",
        "read_on": "Read on: {title} ({path})",
        "recorded": "recorded", "refunded": "refunded",
    },
    "id": {
        "greeting": "Halo! Tanyakan soal poin, tingkat keanggotaan, pesanan, atau apa saja tentang toko kami.",
        "thanks": "Sama-sama. Ada lagi yang bisa dibantu?",
        "somebody_else": "Saya hanya bisa memberi tahu tentang akun Anda sendiri, tidak tentang akun orang lain.",
        "handed_over": "Sudah saya teruskan ke rekan kami; ia akan menghubungi Anda.",
        "unsure": "Saya kurang yakin soal ini.",
        "complaint": "Mohon maaf atas hal itu.",
        "no_program": "Saat ini belum ada program poin.",
        "balance": "Anda punya {available} poin di {program}.",
        "pending": "{pending} poin lagi masih diproses.",
        "held": "{held} poin disisihkan untuk pesanan yang masih terbuka.",
        "tier": "Tingkat Anda di {program} adalah {tier}.",
        "no_tier": "Anda belum mencapai tingkat apa pun di {program}.",
        "until": "Berlaku sampai {until}.",
        "next_points": "{missing} poin lagi menuju {name}.",
        "next_spend": "Belanja {missing} lagi menuju {name}.",
        "next_visits": "{missing} kunjungan lagi menuju {name}.",
        "expiring": "{points} poin bisa dipakai sampai {last_day}.",
        "expiring_later": "Sisanya berakhir sesudahnya.",
        "not_expiring": "Tidak ada batas waktu untuk {available} poin Anda di {program}.",
        "order": "Pesanan {order_ref}: {state}, per {since}.",
        "no_orders": "Saya tidak menemukan pesanan atas nama Anda.",
        "no_such_order": "Saya tidak menemukan pesanan {ref} di antara pesanan Anda.",
        "read_on": "Selengkapnya: {title} ({path})",
        "recorded": "tercatat", "refunded": "dikembalikan dananya",
    },
}  # fmt: skip
_MONTHS: Final[Mapping[str, tuple[str, ...]]] = {
    "en": (
        "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
        "December",
    ),
    "id": (
        "Januari", "Februari", "Maret", "April", "Mei", "Juni", "Juli", "Agustus", "September", "Oktober", "November",
        "Desember",
    ),
}  # fmt: skip


def say(phrase: str, locale: str) -> str:
    """One of the sentences that need no figures."""
    return _SAID[locale][phrase]


def fact(source: Source, locale: str) -> str:
    """What a fact is, in sentences."""
    data = source.data or {}
    if source.name == "orders":
        return " ".join(_orders(data, locale))
    if data["program"] is None:
        return _SAID[locale]["no_program"]
    tell = {"balance": _balance, "tier": _tier, "expiring_points": _expiring}[source.name]
    return " ".join(tell(data, locale))


def article(title: str, path: str, passage: str, locale: str) -> str:
    """A passage, and where the rest of it stands."""
    return f"{passage}\n\n{_SAID[locale]['read_on'].format(title=title, path=path)}"


def number(value: int, locale: str) -> str:
    """With marks between thousands."""
    return f"{value:,}".replace(",", "." if locale == "id" else ",")


def _balance(data: Mapping[str, Any], locale: str) -> list[str]:
    said = _SAID[locale]
    told = [said["balance"].format(available=number(data["available"], locale), program=data["program"])]
    told += [said[name].format(**{name: number(data[name], locale)}) for name in ("pending", "held") if data[name] > 0]
    return told


def _tier(data: Mapping[str, Any], locale: str) -> list[str]:
    said = _SAID[locale]
    told = [said["tier" if data["tier"] else "no_tier"].format(tier=data["tier"], program=data["program"])]
    if data["until"]:
        told.append(said["until"].format(until=_day(data["until"], locale)))
    if following := data["next"]:
        phrase = said[f"next_{following['unit']}"]
        told.append(phrase.format(missing=number(following["missing"], locale), name=following["name"]))
    return told


def _expiring(data: Mapping[str, Any], locale: str) -> list[str]:
    said = _SAID[locale]
    if not data["expiring"]:
        if data["more_expire_later"]:
            return [said["expiring_later"]]
        return [said["not_expiring"].format(available=number(data["available"], locale), program=data["program"])]
    told = [
        said["expiring"].format(points=number(one["points"], locale), last_day=_day(one["last_day"], locale))
        for one in data["expiring"]
    ]
    return [*told, said["expiring_later"]] if data["more_expire_later"] else told


def _orders(data: Mapping[str, Any], locale: str) -> list[str]:
    said = _SAID[locale]
    if data["not_found"]:
        return [said["no_such_order"].format(ref=ref) for ref in data["not_found"]]
    if not data["orders"]:
        return [said["no_orders"]]
    return [
        said["order"].format(
            order_ref=one["order_ref"], state=said.get(one["state"], one["state"]), since=_day(one["since"], locale)
        )
        for one in data["orders"]
    ]


def _day(day: str, locale: str) -> str:
    year, month, of_month = day.split("-")
    return f"{int(of_month)} {_MONTHS[locale][int(month) - 1]} {year}"
