"""Offers, whom they name, and what members claim of them."""

from alembic import op

revision = "20261125_0010"
down_revision = "20261125_0006"
branch_labels = None
depends_on = None

OFFERS = (
    # `kind` is that of the benefit. `contacts_count` is how many people it names, NULL where it names nobody.
    """
    CREATE TABLE offers (
        program_id uuid NOT NULL REFERENCES programs,
        id uuid NOT NULL,
        version bigint NOT NULL,
        kind text NOT NULL,
        status text NOT NULL,
        contacts_count bigint,
        definition jsonb NOT NULL,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        ended_at timestamptz,
        PRIMARY KEY (program_id, id)
    )
    """,
    # A claim names an offer and not its program.
    "CREATE UNIQUE INDEX offers_id_key ON offers (id)",
    # What anybody may turn out to be meant by, however many offers there are to single people.
    """
    CREATE INDEX offers_unnamed_idx ON offers (program_id, id)
        WHERE ended_at IS NULL AND status = 'active' AND contacts_count IS NULL
    """,
    # What every purchase of the program is judged by.
    "CREATE INDEX offers_multipliers_idx ON offers (program_id, id) WHERE ended_at IS NULL AND kind = 'multiplier'",
    # Of an offer that may be claimed so often in all, and of no other: many members' claims change it. fillfactor
    # leaves room for heap-only updates.
    """
    CREATE TABLE offer_counts (
        program_id uuid NOT NULL,
        offer_id uuid NOT NULL,
        claimed bigint NOT NULL CHECK (claimed >= 0),
        PRIMARY KEY (program_id, offer_id)
    ) WITH (fillfactor = 20)
    """,
)

MEMBERS = (
    # Whom an offer names, and whose own code it has. `told_at` is when the timeline was told of it.
    """
    CREATE TABLE offer_recipients (
        contact_id uuid NOT NULL,
        offer_id uuid NOT NULL,
        program_id uuid NOT NULL,
        named boolean NOT NULL,
        code text,
        added_at timestamptz NOT NULL,
        told_at timestamptz,
        PRIMARY KEY (contact_id, offer_id)
    )
    """,
    "CREATE INDEX offer_recipients_offer_id_idx ON offer_recipients (offer_id, contact_id)",
    # `number` counts the member's own claims of the offer.
    """
    CREATE TABLE offer_claims (
        contact_id uuid NOT NULL,
        id uuid NOT NULL,
        program_id uuid NOT NULL,
        offer_id uuid NOT NULL,
        number bigint NOT NULL CHECK (number > 0),
        benefit jsonb NOT NULL,
        points bigint NOT NULL CHECK (points >= 0),
        transaction_id uuid,
        voucher_id uuid,
        redemption_id uuid,
        occurred_at timestamptz NOT NULL,
        recorded_at timestamptz NOT NULL,
        by text NOT NULL,
        PRIMARY KEY (contact_id, id),
        UNIQUE (contact_id, offer_id, number),
        CHECK ((transaction_id IS NOT NULL) = (points > 0))
    )
    """,
    "CREATE INDEX offer_claims_offer_id_idx ON offer_claims (offer_id)",
    """
    CREATE TRIGGER offer_claims_append_only BEFORE UPDATE OR DELETE ON offer_claims
        FOR EACH ROW EXECUTE FUNCTION refuse_change()
    """,
)


def upgrade() -> None:
    bind = op.get_bind()
    for statement in (*OFFERS, *MEMBERS):
        bind.exec_driver_sql(statement)


def downgrade() -> None:
    raise RuntimeError("What members claimed of offers would be lost: restore a backup from before instead.")
