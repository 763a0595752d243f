"""Pages to print or to read on a phone: they stand alone and ask nobody for anything."""

import json
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from crm.db.session import Session
from crm.insights import languages, statements
from crm.insights.disclosures import Disclosure

_TEMPLATES: Final = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


async def statement(
    session: Session,
    *,
    program_id: UUID | None,
    contact_id: UUID,
    first: date | None,
    last: date | None,
    locale: str | None,
    now: datetime,
) -> str:
    """The statement that `statements.read` gives, in HTML, in the language of `locale` or else of the contact.

    Raises ContactNotFound, ProgramNotFound, ProgramRequired, InvalidPeriod.
    """
    stated = await statements.read(
        session, program_id=program_id, contact_id=contact_id, first=first, last=last, now=now
    )
    person = await session.fetchrow("SELECT name, locale FROM contacts WHERE id = $1", contact_id)
    return _TEMPLATES.get_template("statement.html").render(
        statement=stated,
        name=person["name"] if person is not None else "",
        say=languages.of(locale, person["locale"] if person is not None else None),
        zone=ZoneInfo(stated.time_zone),
    )


def disclosure(disclosed: Disclosure, *, locale: str | None) -> str:
    """All that is known of a person, in HTML; in Indonesian where `locale` or else the contact speaks it."""
    own = next((each.get("locale") for each in disclosed.sections["contact"]), None)
    language = languages.of(locale, own).code
    return _TEMPLATES.get_template("disclosure.html").render(
        language=language,
        say=_DISCLOSED[language],
        disclosed_at=disclosed.disclosed_at,
        sections=[(name, list(map(_fields, things))) for name, things in disclosed.sections.items() if things],
    )


def _fields(thing: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(field.replace("_", " "), text) for field, text in _flat("", thing) if text]


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from _flat(f"{prefix} {name}".strip(), part)
    elif isinstance(value, list) and any(isinstance(part, Mapping) for part in value):
        for number, part in enumerate(value, 1):
            yield from _flat(f"{prefix} {number}", part)
    elif value not in (None, [], ""):
        yield prefix, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


_DISCLOSED: Final[Mapping[str, Mapping[str, str]]] = {
    "en": {"title": "What we know of you", "as_of": "As of", "contact": "You"},
    "id": {
        "title": "Data kami tentang Anda", "as_of": "Per", "contact": "Anda", "identities": "Alamat dan nomor",
        "tags": "Label", "consents": "Persetujuan", "aliases": "Nomor lama", "timeline": "Riwayat",
        "merges": "Penggabungan",
        "memberships": "Keanggotaan", "points_transactions": "Transaksi poin", "points_lots": "Kelompok poin",
        "purchases": "Pembelian", "refunds": "Pengembalian", "redemptions": "Penukaran", "holds": "Poin yang ditahan",
        "vouchers": "Voucher", "voucher_uses": "Pemakaian voucher", "events": "Kejadian", "offers": "Penawaran",
        "offer_claims": "Klaim penawaran", "challenges": "Tantangan", "referral_codes": "Kode ajakan",
        "referrals": "Ajakan", "assistant_replies": "Jawaban asisten",
    },
}  # fmt: skip
