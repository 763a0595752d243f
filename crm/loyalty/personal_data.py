"""What memberships tell of a person, and what of them goes: the ledger itself says nothing of who somebody was."""

from typing import Final

from crm.contacts.keeping import Erasing, PersonalData, Section
from crm.db.session import Session
from crm.loyalty import holds, journal
from crm.loyalty.books import MERGED

_OF: Final = "WHERE x.contact_id = ANY ($1)"
_OPEN_HOLDS: Final = "SELECT contact_id, id FROM holds WHERE contact_id = ANY ($1) AND status = 'held' ORDER BY id"
_PROGRAMS: Final = """
    SELECT program_id, array_agg(contact_id) AS contact_ids FROM loyalty_accounts WHERE contact_id = ANY ($1)
    GROUP BY program_id ORDER BY program_id
"""
_CLOSE: Final = """
    UPDATE loyalty_accounts SET status = 'erased', next_due_at = NULL, terms_version = NULL WHERE contact_id = ANY ($1)
"""


async def settle(session: Session, *, erasing: Erasing) -> None:
    """Release what is on hold, write off the points that are left and forgive debts, and close the accounts."""
    ids = list(erasing.contact_ids)
    for row in await session.fetch(_OPEN_HOLDS, ids):
        await holds.release(session, contact_id=row["contact_id"], hold_id=row["id"], by=erasing.by, now=erasing.now)
    for row in await session.fetch(_PROGRAMS, ids):
        locked = await journal.lock(
            session, program_id=row["program_id"], contact_ids=row["contact_ids"], now=erasing.now,
            lots_max=journal.LOTS_READ,
        )  # fmt: skip
        books = [book for book in locked.books.values() if book.status != MERGED]
        await journal.know_all_lots(session, books=books)
        for book in books:
            left = [lot for lot in book.lots.values() if lot.kind == "regular" and lot.remaining > 0]
            if not left and not book.deficit:
                continue
            points = book.deficit - sum(lot.remaining for lot in left)
            book.open(
                "adjust", cause="adjustment", points=points, occurred_at=erasing.now, by=erasing.by, reason="erasure"
            )
            for lot in left:
                book.write_off(lot)
            if book.deficit:
                book.credit(book.deficit, qualifying=False)
        await journal.write_down(session, locked)
    await session.execute(_CLOSE, ids)


PERSONAL_DATA: Final = PersonalData(
    settle=settle,
    tells=(
        Section(
            "memberships",
            f"""
            SELECT to_jsonb(x) - 'contact_id' - 'digest' || jsonb_build_object('program', p.name)
            FROM loyalty_accounts x JOIN programs p ON p.id = x.program_id {_OF} ORDER BY x.enrolled_at
            """,
        ),
        Section(
            "points_transactions",
            f"SELECT to_jsonb(x) - 'contact_id' FROM points_transactions x {_OF} ORDER BY x.occurred_at, x.id",
        ),
        Section(
            "points_lots",
            f"SELECT to_jsonb(x) - 'contact_id' FROM points_lots x {_OF} ORDER BY x.earned_at, x.id",
        ),
        Section(
            "purchases",
            f"""
            SELECT to_jsonb(x) - 'contact_id' - 'request_hash' - 'exact_points'
                || jsonb_build_object('total', x.total::text, 'basis', x.basis::text)
            FROM purchases x {_OF} ORDER BY x.occurred_at, x.order_ref
            """,
        ),
        Section(
            "refunds",
            f"""
            SELECT jsonb_build_object('order_ref', x.order_ref, 'refund_ref', x.refund_ref, 'content', x.content,
                'amount', x.amount::text, 'points_taken_back', x.points_taken_back,
                'points_returned', x.points_returned, 'occurred_at', x.occurred_at)
            FROM refunds x {_OF} ORDER BY x.occurred_at, x.id
            """,
        ),
        Section("redemptions", f"SELECT to_jsonb(x) - 'contact_id' FROM redemptions x {_OF} ORDER BY x.id"),
        Section("holds", f"SELECT to_jsonb(x) - 'contact_id' FROM holds x {_OF} ORDER BY x.id"),
        Section("vouchers", f"SELECT to_jsonb(x) - 'contact_id' FROM vouchers x {_OF} ORDER BY x.id"),
        Section("voucher_uses", f"SELECT to_jsonb(x) - 'contact_id' FROM voucher_uses x {_OF} ORDER BY x.id"),
        Section(
            "events",
            f"""
            SELECT to_jsonb(x) - 'contact_id' - 'request_hash' FROM loyalty_events x {_OF} ORDER BY x.occurred_at, x.id
            """,
        ),
        Section(
            "offers",
            f"""
            SELECT to_jsonb(x) - 'contact_id' || jsonb_build_object('offer', o.definition ->> 'name')
            FROM offer_recipients x JOIN offers o ON o.id = x.offer_id {_OF} ORDER BY x.added_at, x.offer_id
            """,
        ),
        Section("offer_claims", f"SELECT to_jsonb(x) - 'contact_id' FROM offer_claims x {_OF} ORDER BY x.id"),
        Section(
            "challenges",
            f"""
            SELECT to_jsonb(x) - 'contact_id' || jsonb_build_object('challenge', c.definition ->> 'name')
            FROM challenge_progress x JOIN challenges c ON c.program_id = x.program_id AND c.id = x.challenge_id {_OF}
            ORDER BY x.challenge_id
            """,
        ),
        Section(
            "referral_codes",
            f"SELECT to_jsonb(x) - 'contact_id' FROM referral_codes x {_OF} ORDER BY x.created_at",
        ),
        # Who the other was is theirs to tell.
        Section(
            "referrals",
            f"SELECT to_jsonb(x) - 'contact_id' - 'other_id' FROM referrals x {_OF} ORDER BY x.created_at, x.id",
        ),
    ),
    erases=(
        # What came with an order beside its lines, as from the columns of an import.
        Section(
            "purchases",
            "UPDATE purchases SET content = content - 'data' WHERE contact_id = ANY ($1) AND content ? 'data'",
        ),
        Section(
            "codes",
            """
            DELETE FROM code_directory
            WHERE contact_id = ANY ($1) AND kind IN ('referral', 'offer')
            """,
        ),
        Section("referral_codes", "DELETE FROM referral_codes WHERE contact_id = ANY ($1)"),
        Section("offers", "DELETE FROM offer_recipients WHERE contact_id = ANY ($1)"),
        Section("holds", "UPDATE holds SET reference = NULL WHERE contact_id = ANY ($1) AND reference IS NOT NULL"),
    ),
    keeps=(
        Section("points_transactions", "SELECT count(*) FROM points_transactions WHERE contact_id = ANY ($1)"),
        Section("points_movements", "SELECT count(*) FROM points_movements WHERE contact_id = ANY ($1)"),
        Section("purchases", "SELECT count(*) FROM purchases WHERE contact_id = ANY ($1)"),
    ),
)
