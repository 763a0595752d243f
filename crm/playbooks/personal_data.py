"""What playbooks tell of a person, and how it goes."""

from typing import Final

from crm.contacts.keeping import PersonalData, Section

PERSONAL_DATA: Final = PersonalData(
    tells=(
        Section(
            "playbook_runs",
            """
            SELECT to_jsonb(r) - 'contact_id' || jsonb_build_object('steps', coalesce((
                SELECT jsonb_agg(to_jsonb(s) - 'contact_id' - 'run_id' ORDER BY s.position) FROM playbook_steps s
                WHERE s.contact_id = r.contact_id AND s.run_id = r.id
            ), '[]'))
            FROM playbook_runs r WHERE r.contact_id = ANY ($1) ORDER BY r.started_at, r.id
            """,
        ),
    ),
    erases=(
        Section("playbook_steps", "DELETE FROM playbook_steps WHERE contact_id = ANY ($1)"),
        Section("playbook_runs", "DELETE FROM playbook_runs WHERE contact_id = ANY ($1)"),
    ),
)
