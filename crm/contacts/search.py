"""Finding contacts by what somebody remembers of them."""

import sys
import unicodedata
from dataclasses import dataclass
from uuid import UUID

from crm.contacts import addresses, contacts
from crm.contacts.contacts import SELECTED, Contact
from crm.db.session import Session

RANK_MAX = 20_000

_LIST = f"SELECT {SELECTED} FROM contacts c WHERE $1::uuid IS NULL OR c.id < $1 ORDER BY c.id DESC LIMIT $2"
_TAGGED = f"""
    SELECT {SELECTED} FROM contact_tags k JOIN contacts c ON c.id = k.contact_id
    WHERE k.tag = $3 AND ($1::uuid IS NULL OR k.contact_id < $1) ORDER BY k.contact_id DESC LIMIT $2
"""
_FIND = f"""
    SELECT f.rank, {SELECTED} FROM find_contacts($1, $2, $3, $4, $5, $6, $7, $8, $9) f
    JOIN contacts c ON c.id = f.id ORDER BY f.rank DESC, f.id DESC
"""

_PLAIN = str.maketrans("đøłς", "dol\u03c3")
_TRIGRAM = 3
_SURROGATES = range(0xD800, 0xE000)


@dataclass(frozen=True, slots=True)
class Hit:
    """A contact that was found; the higher the rank, the better it fits."""

    contact: Contact
    rank: int


async def page(session: Session, *, tag: str | None = None, before: UUID | None = None, limit: int) -> list[Contact]:
    """Contacts, the newest first, older than `before`."""
    if tag is None:
        rows = await session.fetch(_LIST, before, limit)
    else:
        rows = await session.fetch(_TAGGED, before, limit, tag)
    return [contacts.of_row(row) for row in rows]


async def find(
    session: Session,
    *,
    q: str,
    tag: str | None = None,
    after: tuple[int, UUID] | None = None,
    limit: int,
    region: str,
) -> list[Hit]:
    """Contacts that `q` may mean, best first, that come after a rank and an id.

    It is any part of the name, a name spelled nearly so, an identity however it is typed, or how an identity of three
    characters or more begins. What stands in a LIKE pattern for other characters stands for itself.
    """
    values = addresses.beginnings(q, region=region)
    prefixes = [value for value in values if len(value) >= addresses.PREFIX_LENGTH_MIN]
    rank, contact_id = after or (None, None)
    rows = await session.fetch(
        _FIND, folded(q), _pattern(folded(q)), values, prefixes, [_beyond(prefix) for prefix in prefixes], tag, rank,
        contact_id, limit,
    )  # fmt: skip
    return [Hit(contacts.of_row(row), row["rank"]) for row in rows]


def folded(text: str) -> str:
    """A text as names are compared, without case and accents: what the database's function of this name makes of it."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text.strip()) if not "\u0300" <= c <= "\u036f")
    return plain.lower().translate(_PLAIN)


def _pattern(name: str) -> str:
    literal = name.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    # Fewer than three characters are no trigram: only as the beginning of a word can the index find them.
    return f"%{literal}%" if len(name) >= _TRIGRAM else f"% {literal}%"


def _beyond(prefix: str) -> str:
    """The least text, by code points, greater than all that begin with `prefix`."""
    last = ord(prefix[-1])
    if last == sys.maxunicode:
        return _beyond(prefix[:-1])
    return prefix[:-1] + chr(_SURROGATES.stop if last + 1 in _SURROGATES else last + 1)
