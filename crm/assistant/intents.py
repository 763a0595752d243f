"""What somebody wants, by the words they use, in Indonesian and English. Pure."""

import re
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from crm.care import wording

Fact: TypeAlias = Literal["balance", "tier", "expiring_points", "orders"]
Intent: TypeAlias = Literal["person", "complaint", "somebody_else", "greeting", "thanks", "facts", "article"]


def _any_of(words: str) -> str:
    """A pattern for any of these words; `*` stands for an ending, `+` for a space within."""
    return rf"\b(?:{'|'.join(word.replace('*', '[a-z]*').replace('+', ' ') for word in words.split())})\b"


def _near(first: str, then: str, *, gap: int = 40) -> str:
    return rf"{first}.{{0,{gap}}}{then}"


_POINTS: Final = _any_of("poin* point points saldo* balance")
_OWNED: Final = _any_of(
    """
    poin* point points saldo* balance tier level tingkat* pesanan* order orders purchase purchases pembelian belanja
    paket alamat address data akun account nomor number
    """
)
_RELATIVES: Final = (
    "(?:teman|kawan|suami|istri|isteri|pacar|ibu|ayah|bapak|mama|papa|kakak|adik|anak|tetangga|bos|saudara|sahabat)"
)
_THEIRS: Final = _any_of(f"{_RELATIVES}ku {_RELATIVES}nya {_RELATIVES}+saya {_RELATIVES}+aku")
_FRIENDS: Final = _any_of(
    """
    friend husband wife mother father mom mum dad brother sister son daughter boss neighbour neighbor partner girlfriend
    boyfriend colleague
    """
)
_PEOPLE: Final = _any_of("customer customers member members contact contacts person people pelanggan anggota kontak")
_STAFF: Final = _any_of(
    """
    human person people agent operator representative staff someone somebody manager colleague orang manusia cs admin
    agen petugas customer+service staf manajer
    """
)
_TALK: Final = _any_of(
    """
    talk speak chat connect transfer put+me pass hand escalate bicara berbicara ngomong ngobrol hubung* sambung*
    terhubung panggil* kontak
    """
)
_ENDS: Final = _any_of(
    "expir* run+out end ends kedaluwarsa kadaluarsa kadaluwarsa hangus habis berlaku berakhir lapse* valid"
)
_EXPIRES: Final = _any_of("expir* kedaluwarsa kadaluarsa kadaluwarsa hangus lapse*")
_HOW_MANY: Final = _any_of("berapa brp cek check lihat see show sisa jumlah total how+many how+much what+s what+is")
_TIER: Final = _any_of("tier level tingkat* status+member* status+keanggotaan status+anggota membership+level")
_ORDER: Final = _any_of(
    "pesanan* order orders orderan paket* kiriman package parcel delivery shipment purchase purchases"
)
_STATE: Final = _any_of(
    """
    mana dimana where status sampai arrive* kapan when sudah udah belum track* lacak resi terakhir last latest late
    terlambat telat cek check
    """
)

_PERSON: Final = (
    _near(_TALK, _STAFF),
    _near(_any_of("real actual live"), _any_of("human person agent"), gap=1),
    rf"^\W*{_STAFF}\W*(?:please|dong|ya|tolong)?\W*$",
)
_COMPLAINT: Final = (
    _any_of(
        """
        complain* disappoint* terrible horrible awful unacceptable angry furious scam* fraud* rude ripped+off lawyer sue
        komplain* keluhan mengeluh* kecewa mengecewakan marah parah buruk penipu* tertipu ditipu menipu nipu
        (tidak|nggak|gak)+puas kasar lapor* pengacara
        """
    ),
)
_SOMEBODY_ELSE: Final = (
    _near(_OWNED, _THEIRS, gap=8),
    _near(_OWNED, rf" of (?:my|his|her|their|a) {_FRIENDS}", gap=1),
    _near(rf"{_FRIENDS} s\b", _OWNED, gap=30),
    _near(_any_of("another other all every semua daftar list"), _PEOPLE, gap=20),
    _any_of("someone+else somebody+else anyone+else"),
    _near(_any_of("orang pelanggan member anggota pembeli kontak"), _any_of("lain*"), gap=1),
)
_FACTS: Final[tuple[tuple[Fact, tuple[str, ...]], ...]] = (
    (
        "balance",
        (
            _near(_HOW_MANY, _POINTS, gap=30),
            _near(_POINTS, _any_of("berapa brp sisa"), gap=30),
            _any_of("saldo* my+balance point+balance points+balance"),
            rf"^\W*(?:my )?{_POINTS}(?: saya| aku| ku)?\W*$",
        ),
    ),
    ("tier", (_TIER,)),
    ("expiring_points", (_near(_POINTS, _ENDS, gap=60), _near(_EXPIRES, _POINTS, gap=60))),
    ("orders", (_near(_ORDER, _STATE, gap=60), _near(_STATE, _ORDER))),
)
_HELD: Final = (_POINTS, _TIER, _ORDER)
_HOW: Final = _any_of(
    """
    cara* bagaimana gimana gmn how+do how+can how+to how+does how+is how+are apa+itu what+are syarat aturan rule rules
    policy kebijakan mengapa kenapa why
    """
)
_GREETING: Final = re.compile(
    rf"^\W*{_any_of('halo hai hei hi hello hey pagi siang sore malam permisi assalamualaikum good+morning')}"
    r"(?: (?:pagi|siang|sore|malam|kak|min|gan|sis|admin|there))?\W*$"
    r"|^\W*(?:selamat|good) (?:pagi|siang|sore|malam|morning|afternoon|evening)\W*$"
)
_THANKS: Final = re.compile(
    rf"^\W*(?:ok[a-z]* )?{_any_of('terima+kasih terimakasih makasih thanks thank+you thx tq')}.{{0,30}}$"
)
_ADDRESS: Final = re.compile(
    r"[\w.+-]+@[\w-]+\.[\w.-]+|\+?\d[\d\s().-]{7,}\d|"
    r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"
)
_REFERENCE: Final = re.compile(r"(?=[\w/-]*\d)[A-Za-z0-9][\w/-]{2,39}")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a question is: `facts` are those of the person's own that it asks for, in the order of the answer.

    `how` asks how something is done, of which an article tells more than a fact. `owned` speaks of what is somebody's.
    """

    intent: Intent
    facts: tuple[Fact, ...] = ()
    how: bool = False
    owned: bool = False


def of(text: str) -> Wanted:
    """What somebody wants. People, complaints and what is another's come before anything that could be answered."""
    said = " ".join(wording.folded(text).replace("'", " ").replace("\u2019", " ").split())
    if _any(_PERSON, said):
        return Wanted("person")
    if _any(_SOMEBODY_ELSE, said):
        return Wanted("somebody_else")
    if _any(_COMPLAINT, said):
        return Wanted("complaint")
    if _GREETING.search(said):
        return Wanted("greeting")
    if _THANKS.search(said):
        return Wanted("thanks")
    facts = tuple(fact for fact, patterns in _FACTS if _any(patterns, said))
    return Wanted("facts" if facts else "article", facts, how=_any((_HOW,), said), owned=_any(_HELD, said))


def addresses(text: str) -> list[str]:
    """What looks like an address, number or id of somebody."""
    return [found.strip() for found in _ADDRESS.findall(text)]


def references(text: str) -> list[str]:
    """What may be the number of an order, such as INV-1001."""
    return _REFERENCE.findall(_ADDRESS.sub(" ", text))[:5]


def _any(patterns: tuple[str, ...], text: str) -> bool:
    return any(re.search(pattern, text) for pattern in patterns)
