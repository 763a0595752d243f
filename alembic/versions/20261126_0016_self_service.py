"""Self-service: articles, how they are found and used, and what the assistant answered."""

from alembic import op

revision = "20261126_0016"
down_revision = "20261126_0014"
branch_labels = None
depends_on = None

ARTICLES = (
    """
    CREATE TABLE article_categories (
        id uuid PRIMARY KEY,
        slug text NOT NULL UNIQUE,
        names jsonb NOT NULL,
        position integer NOT NULL,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL
    )
    """,
    """
    CREATE TABLE articles (
        id uuid PRIMARY KEY,
        slug text NOT NULL UNIQUE,
        category_id uuid REFERENCES article_categories (id),
        status text NOT NULL CHECK (status IN ('draft', 'published', 'archived')),
        version bigint NOT NULL,
        created_at timestamptz NOT NULL,
        created_by text NOT NULL,
        updated_at timestamptz NOT NULL,
        updated_by text NOT NULL,
        published_at timestamptz
    )
    """,
    "CREATE INDEX articles_category_id_idx ON articles (category_id)",
    # `plain` is the body without its marks. Its words are in three dictionaries at once, as those of messages: people
    # mix their languages; those of the title, which count more, are there once more by themselves.
    """
    CREATE TABLE article_texts (
        article_id uuid NOT NULL REFERENCES articles (id) ON DELETE CASCADE,
        locale text NOT NULL,
        title text NOT NULL,
        body text NOT NULL,
        plain text NOT NULL,
        title_words tsvector NOT NULL GENERATED ALWAYS AS (message_words(folded(title), NULL)) STORED,
        words tsvector NOT NULL GENERATED ALWAYS AS (message_words(folded(title), folded(plain))) STORED,
        PRIMARY KEY (article_id, locale)
    )
    """,
    "CREATE INDEX article_texts_words_idx ON article_texts USING gin (words)",
    # What a misspelled word may have meant.
    """
    CREATE TABLE article_terms (
        article_id uuid NOT NULL REFERENCES articles (id) ON DELETE CASCADE,
        locale text NOT NULL,
        term text NOT NULL,
        PRIMARY KEY (article_id, locale, term)
    )
    """,
    "CREATE INDEX article_terms_term_idx ON article_terms USING gin (term gin_trgm_ops)",
    """
    CREATE TABLE article_versions (
        article_id uuid NOT NULL REFERENCES articles (id) ON DELETE CASCADE,
        version bigint NOT NULL,
        data jsonb NOT NULL,
        by text NOT NULL,
        made_at timestamptz NOT NULL,
        PRIMARY KEY (article_id, version)
    )
    """,
)

USAGE = (
    # By the hour, so that days of any time zone can be summed; in several slots and without a key to the article, so
    # that the readers of one article do not wait for each other.
    """
    CREATE TABLE article_views (
        article_id uuid NOT NULL,
        hour timestamptz NOT NULL,
        locale text NOT NULL,
        slot smallint NOT NULL,
        views_count bigint NOT NULL,
        PRIMARY KEY (article_id, hour, locale, slot)
    )
    """,
    "CREATE INDEX article_views_hour_idx ON article_views (hour)",
    # `voter` is the hash of a name that holds for this article only: it leads to nobody.
    """
    CREATE TABLE article_votes (
        article_id uuid NOT NULL REFERENCES articles (id) ON DELETE CASCADE,
        voter bytea NOT NULL,
        locale text NOT NULL,
        helpful boolean NOT NULL,
        created_at timestamptz NOT NULL,
        PRIMARY KEY (article_id, voter)
    )
    """,
    "CREATE INDEX article_votes_created_at_idx ON article_votes (created_at)",
    """
    CREATE TABLE article_searches (
        hour timestamptz NOT NULL,
        source text NOT NULL,
        locale text NOT NULL,
        words text NOT NULL,
        searches_count bigint NOT NULL,
        found_count bigint NOT NULL,
        PRIMARY KEY (hour, source, locale, words)
    )
    """,
)

ASSISTANT = (
    # What was said stands on the timeline, under `question_id` and `answer_id`.
    """
    CREATE TABLE assistant_replies (
        contact_id uuid NOT NULL,
        id uuid NOT NULL,
        channel text NOT NULL,
        thread_id uuid,
        locale text NOT NULL,
        intent text NOT NULL,
        outcome text NOT NULL CHECK (outcome IN ('answered', 'refused', 'handed_over')),
        reason text NOT NULL,
        written_by text NOT NULL CHECK (written_by IN ('rules', 'model')),
        sources jsonb NOT NULL,
        question_id uuid NOT NULL,
        answer_id uuid NOT NULL,
        case_id uuid,
        created_at timestamptz NOT NULL,
        by text NOT NULL,
        PRIMARY KEY (contact_id, id)
    )
    """,
    "CREATE INDEX assistant_replies_created_at_idx ON assistant_replies (created_at)",
)

STATEMENTS = (*ARTICLES, *USAGE, *ASSISTANT)


def upgrade() -> None:
    bind = op.get_bind()
    for statement in STATEMENTS:
        bind.exec_driver_sql(statement)


def downgrade() -> None:
    raise RuntimeError("What was written for customers would be lost: restore a backup from before instead.")
