"""How the night finds birthdays and anniversaries."""

from alembic import op

revision = "20261125_0008"
down_revision = "20261125_0007"
branch_labels = None
depends_on = None

INDEXES = {
    # By the day of the year, whichever year it was.
    "contacts_birthday_idx": """
        contacts ((extract(month FROM birth_on)), (extract(day FROM birth_on)), id) WHERE birth_on IS NOT NULL
    """,
    # The days on which an anniversary falls are one range for each year that a program has existed.
    "loyalty_accounts_enrolled_at_idx": "loyalty_accounts (program_id, enrolled_at, contact_id)",
}


def upgrade() -> None:
    for name, definition in INDEXES.items():
        op.get_bind().exec_driver_sql(f"CREATE INDEX {name} ON {definition}")


def downgrade() -> None:
    for name in INDEXES:
        op.get_bind().exec_driver_sql(f"DROP INDEX {name}")
