"""What a member buys, as far as their last purchases tell."""

from datetime import datetime
from typing import Final

from crm.db.session import Session
from crm.loyalty.books import Book
from crm.loyalty.ranking import Bought, Profile

PURCHASES_READ: Final = 50
LINES_READ: Final = 200
"""How many lines of the last purchases make the profile; older habits fade by themselves."""

_BOUGHT: Final = """
    SELECT l.sku, l.category, count(*)::int AS lines FROM (
        SELECT line ->> 'sku' AS sku, line ->> 'category' AS category
        FROM (
            SELECT occurred_at, order_ref, content FROM purchases WHERE contact_id = $1 AND program_id = $2
            ORDER BY occurred_at DESC, order_ref DESC LIMIT $3
        ) p
        CROSS JOIN LATERAL jsonb_array_elements(p.content -> 'lines') WITH ORDINALITY AS e (line, place)
        ORDER BY p.occurred_at DESC, p.order_ref DESC, e.place LIMIT $4
    ) l
    GROUP BY l.sku, l.category
"""


async def read(session: Session, *, book: Book, now: datetime) -> Profile:
    """The profile of a settled book's member, in one query."""
    rows = await session.fetch(_BOUGHT, book.contact_id, book.program_id, PURCHASES_READ, LINES_READ)
    return Profile(
        available=book.available, now=now, bought={Bought(row["sku"], row["category"]): row["lines"] for row in rows}
    )
