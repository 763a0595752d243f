"""What cases, surveys and tasks tell of a person, and how it goes."""

from typing import Final

from crm.care import case_files, casework
from crm.contacts.keeping import Erasing, PersonalData, Section
from crm.db.session import Session

_LIVE: Final = """
    SELECT contact_id, id FROM cases WHERE contact_id = ANY ($1) AND status <> 'closed' AND subject IS NOT NULL
"""


async def _settle(session: Session, *, erasing: Erasing) -> None:
    """Close what is open with somebody, so that nobody works on it any more and no clock runs."""
    rows = await session.fetch(_LIVE, list(erasing.contact_ids))
    files = await case_files.take_all(session, keys=[(row["contact_id"], row["id"]) for row in rows])
    for file in files:
        casework.set_status(file, "closed", by=erasing.by, now=erasing.now)
    await case_files.put(session, files=files, now=erasing.now)


PERSONAL_DATA: Final = PersonalData(
    settle=_settle,
    tells=(
        Section(
            "cases",
            """
            SELECT to_jsonb(c) - 'contact_id' || jsonb_build_object('clocks', (
                SELECT coalesce(jsonb_agg(to_jsonb(k) - '{contact_id,case_id}'::text[] ORDER BY k.metric), '[]')
                FROM case_clocks k WHERE k.contact_id = c.contact_id AND k.case_id = c.id
            ))
            FROM cases c WHERE c.contact_id = ANY ($1) ORDER BY c.created_at, c.id
            """,
        ),
        Section(
            "case_links",
            """
            SELECT to_jsonb(l) - 'contact_id' FROM case_links l
            WHERE l.contact_id = ANY ($1) ORDER BY l.created_at, l.case_id, l.other_case_id
            """,
        ),
        Section(
            "surveys",
            """
            SELECT to_jsonb(i) - 'contact_id' FROM survey_invitations i
            WHERE i.contact_id = ANY ($1) ORDER BY i.created_at, i.id
            """,
        ),
        Section(
            "tasks",
            "SELECT to_jsonb(t) - 'contact_id' FROM tasks t WHERE t.contact_id = ANY ($1) ORDER BY t.created_at, t.id",
        ),
    ),
    erases=(
        Section(
            "case_links",
            """
            DELETE FROM case_links l USING case_links own JOIN case_directory d ON d.id = own.other_case_id
            WHERE own.contact_id = ANY ($1) AND l.contact_id = d.contact_id AND l.case_id = own.other_case_id
                AND l.other_case_id = own.case_id
            """,
        ),
        Section("case_links", "DELETE FROM case_links WHERE contact_id = ANY ($1)"),
        Section("case_conversations", "DELETE FROM case_conversations WHERE contact_id = ANY ($1)"),
        Section("case_directory", "DELETE FROM case_directory WHERE contact_id = ANY ($1)"),
        # How long it took stays: it is a part of the reports, and says nothing of who it was about.
        Section(
            "cases",
            """
            UPDATE cases SET subject = NULL, tags = '[]' WHERE contact_id = ANY ($1) AND subject IS NOT NULL
            """,
        ),
        Section("task_directory", "DELETE FROM task_directory WHERE contact_id = ANY ($1)"),
        Section("tasks", "DELETE FROM tasks WHERE contact_id = ANY ($1)"),
        # The number stays: it is a part of the score, and says nothing of who gave it.
        Section(
            "surveys",
            "UPDATE survey_invitations SET comment = NULL WHERE contact_id = ANY ($1) AND comment IS NOT NULL",
        ),
        Section("survey_links", "DELETE FROM survey_invitation_directory WHERE contact_id = ANY ($1)"),
    ),
    keeps=(
        Section("cases", "SELECT count(*) FROM cases WHERE contact_id = ANY ($1)"),
        Section("survey_invitations", "SELECT count(*) FROM survey_invitations WHERE contact_id = ANY ($1)"),
    ),
)
