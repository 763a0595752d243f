"""Which field a column is probably for, by its name: in English, in Indonesian, or as we name our own. Pure."""

import difflib
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Final

from crm.contacts import addresses
from crm.exchange import cells
from crm.exchange.cells import DateOrder
from crm.exchange.mappings import ATTRIBUTE, FIELDS, IDENTITY, ColumnMapping, Kind, own_columns

SURE: Final = 0.86
"""How alike a column's name and a known one have to be: a slip of one letter in seven."""

_EVERYBODY: Final[Mapping[str, str]] = {
    "identity:email": "email, e mail, mail, email address, alamat email, surel, alamat surel",
    "identity:phone": (
        "phone, phone number, telephone, mobile, mobile number, mobile phone, cell, cell phone, contact number, "
        "telepon, no telepon, nomor telepon, telp, no telp, nomor telp, tlp, no tlp, hp, no hp, nomor hp, handphone, "
        "no handphone, nomor handphone, ponsel, nomor ponsel, no kontak, nomor kontak"
    ),
    "identity:whatsapp": "whatsapp, whatsapp number, wa, no wa, nomor wa, no whatsapp, nomor whatsapp",
    "identity:card": (
        "card, card number, loyalty card, member card, kartu, no kartu, nomor kartu, kartu member, no kartu member, "
        "kartu anggota, no anggota, nomor anggota, no member, nomor member, member no, member number, membership number"
    ),
    "identity:customer_id": (
        "customer id, customer number, customer no, customer code, client id, id pelanggan, kode pelanggan, "
        "no pelanggan, nomor pelanggan, id customer, kode customer, id konsumen"
    ),
    "identity:instagram": "instagram, ig, akun instagram, akun ig",
    "identity:telegram": "telegram, akun telegram",
    "identity:line": "line, line id, id line, akun line",
}
_KNOWN: Final[Mapping[Kind, Mapping[str, str]]] = {
    "contacts": {
        "name": (
            "name, full name, customer, customer name, contact name, client name, nama, nama lengkap, nama pelanggan, "
            "nama customer, nama konsumen, nama anggota, nama member, pelanggan"
        ),
        "given_name": "given name, first name, forename, nama depan, nama panggilan",
        "family_name": "family name, last name, surname, nama belakang, nama keluarga, marga",
        "locale": "locale, language, bahasa",
        "time_zone": "time zone, timezone, zona waktu",
        "birth_on": (
            "birth on, birthday, birth date, birthdate, date of birth, dob, tanggal lahir, tgl lahir, ulang tahun, "
            "hari lahir, tanggal ulang tahun"
        ),
        "tags": "tags, tag, label, labels, group, groups, segment, grup, kelompok, kategori pelanggan",
        **_EVERYBODY,
        "attributes.city": "city, town, kota, kota kabupaten, kabupaten, kota domisili",
        "attributes.address": "address, street, street address, alamat, alamat lengkap, alamat rumah",
        "attributes.province": "province, state, region, provinsi, propinsi",
        "attributes.postcode": "postcode, post code, postal code, zip, zip code, kode pos, kodepos",
        "attributes.country": "country, negara",
        "attributes.gender": "gender, sex, jenis kelamin, kelamin, l p",
        "attributes.company": "company, organisation, organization, perusahaan, instansi",
        "attributes.job": "job, job title, occupation, profession, pekerjaan, profesi, jabatan",
        "attributes.note": "note, notes, remark, remarks, comment, catatan, keterangan",
    },
    "purchases": {
        "order_ref": (
            "order ref, order, order id, order number, order no, invoice, invoice number, invoice no, receipt, "
            "receipt number, transaction id, transaction number, nota, no nota, nomor nota, faktur, no faktur, struk, "
            "no struk, no transaksi, nomor transaksi, id transaksi, no pesanan, nomor pesanan, no order, no invoice"
        ),
        "occurred_at": (
            "occurred at, date, time, order date, purchase date, purchased on, purchased at, sold at, sale date, "
            "transaction date, tanggal, tgl, tanggal transaksi, tgl transaksi, tanggal pembelian, tanggal order, "
            "tanggal pesanan, waktu, waktu transaksi"
        ),
        "total": (
            "total, amount, grand total, total amount, order total, sum, jumlah, total belanja, total harga, "
            "total bayar, total transaksi, nilai, nilai transaksi, nominal"
        ),
        "currency": "currency, mata uang",
        "shipping": "shipping, shipping cost, delivery fee, ongkir, ongkos kirim, biaya kirim",
        "shipping_tax": "shipping tax, pajak ongkir",
        "code": "code, coupon, coupon code, promo code, discount code, kode promo, kode kupon, kupon",
        "store": "store, shop, branch, outlet, location, toko, cabang, gerai",
        "till": "till, register, pos, terminal, kasir, mesin kasir",
        **_EVERYBODY,
    },
}
_REPEATABLE: Final = ("tags", IDENTITY)
_WORDS: Final = re.compile(r"[^\w]+|_+")
_DATES: Final = ("birth_on", "occurred_at")


def guess(kind: Kind, columns: Sequence[str], sample: Sequence[Sequence[str]]) -> ColumnMapping:
    """The most probable mapping; what nothing tells is left out. `sample` says how days are written."""
    own = own_columns(columns)
    ranked = sorted(
        (
            (score, -position, name, field)
            for position, name in enumerate(columns)
            if name not in own
            for score, field in _scores(kind, name)
        ),
        reverse=True,
    )
    mapped: dict[str, str] = {}
    for _, _, name, field in ranked:
        if name not in mapped and not any(_exclude(kind, field, other) for other in mapped.values()):
            mapped[name] = field
    in_order = {name: mapped[name] for name in columns if name in mapped}
    return ColumnMapping(columns=in_order, date_order=date_order(in_order, columns, sample))


def date_order(mapped: Mapping[str, str], columns: Sequence[str], sample: Sequence[Sequence[str]]) -> DateOrder:
    """How days are probably written in the columns that are `mapped` to some."""
    dates = [position for position, name in enumerate(columns) if mapped.get(name) in _DATES]
    return cells.date_order([row[position] for row in sample for position in dates])


def _exclude(kind: Kind, field: str, other: str) -> bool:
    """Whether there can't be columns for both: a contact may have several identities, a purchase has one buyer."""
    if kind == "purchases" and field.startswith(IDENTITY):
        return other.startswith(IDENTITY)
    return field == other and not field.startswith(_REPEATABLE)


def _scores(kind: Kind, column: str) -> list[tuple[float, str]]:
    """The fields that a column may be for, each with how sure that is."""
    if _names_field(kind, column):
        return [(2.0, column)]
    words = _words(column)
    if not words:
        return []
    return [
        (score, field)
        for field, names in _NAMES[kind].items()
        if (score := max(_alike(words, name) for name in names)) >= SURE
    ]


def _names_field(kind: Kind, column: str) -> bool:
    """Whether a column is called as a field is, which is how our own files call them."""
    if column.startswith(IDENTITY):
        return addresses.is_kind(column.removeprefix(IDENTITY))
    return column in FIELDS[kind] or (kind == "contacts" and column.startswith(ATTRIBUTE))


def _alike(words: str, name: str) -> float:
    if words == name:
        return 1.0
    matcher = difflib.SequenceMatcher(None, words, name)
    # Short names differ from others by a letter: "hp" is no slip of "hr".
    return matcher.ratio() - 0.01 if min(len(words), len(name)) >= _SHORT and matcher.quick_ratio() >= SURE else 0.0


def _words(text: str) -> str:
    """A name in lower case, without accents, its words between single spaces: "No. HP" is "no hp"."""
    letters = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return " ".join(_WORDS.sub(" ", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", letters)).casefold().split())


_SHORT: Final = 6
_NAMES: Final[Mapping[Kind, Mapping[str, Sequence[str]]]] = {
    kind: {field: names.split(", ") for field, names in fields.items()} for kind, fields in _KNOWN.items()
}
