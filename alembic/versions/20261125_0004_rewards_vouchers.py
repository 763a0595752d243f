"""Rewards, what is issued of them, and vouchers with their one name space of codes."""

from alembic import op

revision = "20261125_0004"
down_revision = "20261125_0003"
branch_labels = None
depends_on = None

CATALOGUE = (
    """
    CREATE TABLE rewards (
        program_id uuid NOT NULL REFERENCES programs,
        id uuid NOT NULL,
        status text NOT NULL,
        definition jsonb NOT NULL,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        ended_at timestamptz,
        PRIMARY KEY (program_id, id)
    )
    """,
    # A redemption names a reward and not always its program.
    "CREATE UNIQUE INDEX rewards_id_key ON rewards (id)",
    # Apart from the reward, because many members' redemptions change it; there is none for a reward that never had a
    # stock. fillfactor leaves room for heap-only updates.
    """
    CREATE TABLE reward_stocks (
        program_id uuid NOT NULL,
        reward_id uuid NOT NULL,
        limited boolean NOT NULL,
        stocked bigint NOT NULL,
        remaining bigint NOT NULL CHECK (remaining >= 0),
        PRIMARY KEY (program_id, reward_id)
    ) WITH (fillfactor = 20)
    """,
)

# Constant defaults: no row is rewritten. The constraints are proved without keeping anybody out.
REDEMPTIONS = (
    """
    ALTER TABLE redemptions
        ADD COLUMN reward_id uuid,
        ADD COLUMN quantity bigint NOT NULL DEFAULT 1,
        ADD COLUMN stock_taken bigint NOT NULL DEFAULT 0,
        ADD COLUMN voucher_id uuid,
        ADD COLUMN expires_at timestamptz,
        ADD COLUMN cause text NOT NULL DEFAULT 'redemption',
        ADD COLUMN natural_key text,
        DROP CONSTRAINT redemptions_points_check,
        DROP CONSTRAINT redemptions_status_check,
        ADD CONSTRAINT redemptions_check CHECK (
            points >= 0 AND quantity > 0 AND stock_taken >= 0
            AND CASE WHEN reward_id IS NULL THEN points > 0 AND status IN ('redeemed', 'reversed')
                ELSE status IN ('requested', 'ready', 'fulfilled', 'issued', 'used', 'reversed') END
        ) NOT VALID
    """,
    "ALTER TABLE redemptions VALIDATE CONSTRAINT redemptions_check",
    "DROP INDEX redemptions_contact_id_program_id_order_ref_key",
    """
    CREATE UNIQUE INDEX redemptions_contact_id_program_id_order_ref_reward_id_key
        ON redemptions (contact_id, program_id, order_ref, reward_id) NULLS NOT DISTINCT WHERE order_ref IS NOT NULL
    """,
    """
    CREATE UNIQUE INDEX redemptions_contact_id_program_id_natural_key_key
        ON redemptions (contact_id, program_id, natural_key) WHERE natural_key IS NOT NULL
    """,
    # What counts towards a member's limits.
    """
    CREATE INDEX redemptions_reward_id_idx ON redemptions (contact_id, program_id, reward_id, occurred_at)
        INCLUDE (quantity, points) WHERE reward_id IS NOT NULL
    """,
)

# In canonical form. Whose a code is and what it stands for: a voucher, an offer, a referral or a card.
CODES = (
    """
    CREATE TABLE code_directory (
        code text COLLATE "C" PRIMARY KEY,
        kind text NOT NULL,
        program_id uuid NOT NULL,
        contact_id uuid,
        subject_id uuid NOT NULL
    )
    """,
)

VOUCHERS = (
    # Of a voucher that anybody may use, contact_id is the UUID of zeros. `uses_left` is NULL where nothing limits them.
    """
    CREATE TABLE vouchers (
        contact_id uuid NOT NULL,
        id uuid NOT NULL,
        program_id uuid NOT NULL,
        code text NOT NULL,
        uses_max bigint,
        uses_max_per_member bigint,
        uses_left bigint,
        benefit jsonb,
        reward_id uuid,
        redemption_id uuid,
        pool_id uuid,
        expires_at timestamptz,
        issued_at timestamptz NOT NULL,
        cancelled_at timestamptz,
        PRIMARY KEY (contact_id, id),
        CHECK (uses_left >= 0 AND uses_left <= uses_max)
    ) WITH (fillfactor = 80)
    """,
    "CREATE INDEX vouchers_program_id_id_idx ON vouchers (program_id, id)",
    "CREATE INDEX vouchers_pool_id_id_idx ON vouchers (pool_id, id) WHERE pool_id IS NOT NULL",
    """
    CREATE TABLE voucher_uses (
        contact_id uuid NOT NULL,
        id uuid NOT NULL,
        program_id uuid NOT NULL,
        voucher_id uuid NOT NULL,
        ref text NOT NULL,
        used_at timestamptz NOT NULL,
        rolled_back_at timestamptz,
        PRIMARY KEY (contact_id, id)
    )
    """,
    "CREATE INDEX voucher_uses_contact_id_voucher_id_idx ON voucher_uses (contact_id, voucher_id)",
    """
    CREATE TABLE voucher_use_directory (
        voucher_id uuid NOT NULL,
        ref text NOT NULL,
        contact_id uuid NOT NULL,
        use_id uuid NOT NULL,
        PRIMARY KEY (voucher_id, ref),
        UNIQUE (voucher_id, use_id)
    )
    """,
    """
    CREATE TABLE voucher_pools (
        program_id uuid NOT NULL REFERENCES programs,
        id uuid NOT NULL,
        name text NOT NULL,
        reward_id uuid,
        codes_count bigint NOT NULL,
        created_at timestamptz NOT NULL,
        PRIMARY KEY (program_id, id)
    )
    """,
    "CREATE INDEX voucher_pools_reward_id_idx ON voucher_pools (program_id, reward_id) WHERE reward_id IS NOT NULL",
    # Codes that wait to be issued with a reward; a row goes when its code does. In the order in which they go.
    """
    CREATE TABLE voucher_pool_codes (
        program_id uuid NOT NULL,
        reward_id uuid NOT NULL,
        id uuid NOT NULL,
        pool_id uuid NOT NULL,
        code text NOT NULL,
        canonical text NOT NULL,
        PRIMARY KEY (program_id, reward_id, id)
    )
    """,
    "CREATE INDEX voucher_pool_codes_pool_id_idx ON voucher_pool_codes (pool_id)",
)


def upgrade() -> None:
    bind = op.get_bind()
    for statement in (*CATALOGUE, *REDEMPTIONS, *CODES, *VOUCHERS):
        bind.exec_driver_sql(statement)


def downgrade() -> None:
    raise RuntimeError("Rewards that members paid for would be lost: restore a backup from before instead.")
