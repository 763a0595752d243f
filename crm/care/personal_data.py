"""What surveys and tasks tell of a person, and how it goes."""

from typing import Final

from crm.contacts.keeping import PersonalData, Section

PERSONAL_DATA: Final = PersonalData(
    tells=(
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
        Section("task_directory", "DELETE FROM task_directory WHERE contact_id = ANY ($1)"),
        Section("tasks", "DELETE FROM tasks WHERE contact_id = ANY ($1)"),
        # The number stays: it is a part of the score, and says nothing of who gave it.
        Section(
            "surveys",
            "UPDATE survey_invitations SET comment = NULL WHERE contact_id = ANY ($1) AND comment IS NOT NULL",
        ),
        Section("survey_links", "DELETE FROM survey_invitation_directory WHERE contact_id = ANY ($1)"),
    ),
    keeps=(Section("survey_invitations", "SELECT count(*) FROM survey_invitations WHERE contact_id = ANY ($1)"),),
)
