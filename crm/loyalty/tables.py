"""The ledger's tables: accounts, their lots, and what happened on them."""

from sqlalchemy import BigInteger, Boolean, Column, Date, LargeBinary, Numeric, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import ENUM, JSONB

from crm.db.tables import Instant, metadata
from crm.loyalty.movements import BUCKETS, KINDS

loyalty_accounts = Table(
    "loyalty_accounts",
    metadata,
    Column("contact_id", Uuid, primary_key=True),
    Column("program_id", Uuid, primary_key=True),
    Column("available", BigInteger, nullable=False),
    Column("pending", BigInteger, nullable=False),
    Column("held", BigInteger, nullable=False),
    Column("deficit", BigInteger, nullable=False),
    Column("lifetime_earned", BigInteger, nullable=False),
    Column("lifetime_redeemed", BigInteger, nullable=False),
    Column("qualifying_points", BigInteger, nullable=False),
    Column("qualifying_spend", Numeric, nullable=False),
    Column("qualifying_visits", BigInteger, nullable=False),
    Column("tier_id", Uuid),
    Column("tier_since", Instant),
    Column("tier_until", Instant),
    Column("pin", JSONB),
    Column("status", Text, nullable=False),
    Column("terms_version", Text),
    Column("seq", BigInteger, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("next_due_at", Instant),
    Column("enrolled_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
)

points_lots = Table(
    "points_lots",
    metadata,
    Column("contact_id", Uuid, primary_key=True),
    Column("program_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("kind", ENUM("regular", "deficit", name="points_lot_kind"), nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("remaining", BigInteger, nullable=False),
    Column("held", BigInteger, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("qualifying", Boolean, nullable=False),
    Column("earned_at", Instant, nullable=False),
    Column("activates_at", Instant),
    Column("cancels_at", Instant),
    Column("expires_at", Instant),
    Column("fixed", Boolean, nullable=False),
    Column("order_ref", Text),
)

points_lot_changes = Table(
    "points_lot_changes",
    metadata,
    Column("contact_id", Uuid, primary_key=True),
    Column("program_id", Uuid, nullable=False),
    Column("id", Uuid, primary_key=True),
    Column("lot_id", Uuid, nullable=False),
    Column("expires_before", Instant),
    Column("expires_after", Instant),
    Column("reason", Text, nullable=False),
    Column("occurred_at", Instant, nullable=False),
    Column("recorded_at", Instant, nullable=False),
    Column("by", Text, nullable=False),
)

points_transactions = Table(
    "points_transactions",
    metadata,
    Column("contact_id", Uuid, primary_key=True),
    Column("program_id", Uuid, nullable=False),
    Column("id", Uuid, primary_key=True),
    Column("first_seq", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("kind", ENUM(*KINDS, name="points_transaction_kind"), nullable=False),
    Column("cause", Text, nullable=False),
    Column("points", BigInteger, nullable=False),
    Column("reason", Text),
    Column("order_ref", Text),
    Column("reverses", Uuid),
    Column("rules", JSONB),
    Column("available_after", BigInteger, nullable=False),
    Column("occurred_at", Instant, nullable=False),
    Column("recorded_at", Instant, nullable=False),
    Column("by", Text, nullable=False),
)

points_movements = Table(
    "points_movements",
    metadata,
    Column("contact_id", Uuid, primary_key=True),
    Column("program_id", Uuid, primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("transaction_id", Uuid, nullable=False),
    Column("lot_id", Uuid, nullable=False),
    Column("from_bucket", ENUM(*BUCKETS, name="points_bucket"), nullable=False),
    Column("to_bucket", ENUM(*BUCKETS, name="points_bucket"), nullable=False),
    Column("points", BigInteger, nullable=False),
    Column("available_after", BigInteger, nullable=False),
    Column("pending_after", BigInteger, nullable=False),
    Column("held_after", BigInteger, nullable=False),
    Column("occurred_at", Instant, nullable=False),
    Column("recorded_at", Instant, nullable=False),
    Column("digest", LargeBinary, nullable=False),
)

order_directory = Table(
    "order_directory",
    metadata,
    Column("program_id", Uuid, primary_key=True),
    Column("order_ref", Text, primary_key=True),
    Column("contact_id", Uuid, nullable=False),
)

qualifying_days = Table(
    "qualifying_days",
    metadata,
    Column("contact_id", Uuid, primary_key=True),
    Column("program_id", Uuid, primary_key=True),
    Column("local_on", Date, primary_key=True),
    Column("points", BigInteger, nullable=False),
    Column("spend", Numeric, nullable=False),
    Column("visits", BigInteger, nullable=False),
)

rule_usages = Table(
    "rule_usages",
    metadata,
    Column("contact_id", Uuid, primary_key=True),
    Column("program_id", Uuid, primary_key=True),
    Column("rule_id", Uuid, primary_key=True),
    Column("period", Text, primary_key=True),
    Column("points", BigInteger, nullable=False),
    Column("times", BigInteger, nullable=False),
)

holds = Table(
    "holds",
    metadata,
    Column("contact_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("program_id", Uuid, nullable=False),
    Column("points", BigInteger, nullable=False),
    Column("captured", BigInteger, nullable=False),
    Column("status", Text, nullable=False),
    Column("reference", Text),
    Column("expires_at", Instant, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("resolved_at", Instant),
)
