"""A statement as a page to print or to read on a phone: it stands alone and asks nobody for anything."""

from datetime import date, datetime
from pathlib import Path
from typing import Final
from uuid import UUID
from zoneinfo import ZoneInfo

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from crm.db.session import Session
from crm.insights import languages, statements

_TEMPLATES: Final = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


async def statement(
    session: Session,
    *,
    program_id: UUID | None,
    contact_id: UUID,
    first: date | None,
    last: date | None,
    locale: str | None,
    now: datetime,
) -> str:
    """The statement that `statements.read` gives, in HTML, in the language of `locale` or else of the contact.

    Raises ContactNotFound, ProgramNotFound, ProgramRequired, InvalidPeriod.
    """
    stated = await statements.read(
        session, program_id=program_id, contact_id=contact_id, first=first, last=last, now=now
    )
    person = await session.fetchrow("SELECT name, locale FROM contacts WHERE id = $1", contact_id)
    return _TEMPLATES.get_template("statement.html").render(
        statement=stated,
        name=person["name"] if person is not None else "",
        say=languages.of(locale, person["locale"] if person is not None else None),
        zone=ZoneInfo(stated.time_zone),
    )
