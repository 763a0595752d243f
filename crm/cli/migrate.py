"""`crm migrate`: bring the database to this version's schema."""

from crm.cli import logs, place
from crm.db import migrations
from crm.settings import Settings


def migrate() -> None:
    """Bring the database to this version's schema. Safe to repeat, and while the version before it runs."""
    settings = Settings()
    logs.configure(settings)
    with place.database(settings, migrated=False) as found:
        migrations.upgrade(found.direct)
