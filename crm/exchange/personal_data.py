"""What files that were imported hold of a person, and how it goes."""

from typing import Final

from crm.contacts.keeping import PersonalData, Section

# A file is full of other people too; of those that made or changed the contact it goes whole, as it does by itself
# after some time. Rows that were refused are looked through for what the person is known by.
_TOUCHED: Final = "SELECT import_id FROM imported_contacts WHERE contact_id = ANY ($1)"
_KNOWN_BY: Final = """
    SELECT i.value AS text FROM contact_identities i WHERE i.contact_id = ANY ($1)
    UNION SELECT i.raw FROM contact_identities i WHERE i.contact_id = ANY ($1)
    UNION SELECT c.name FROM contacts c WHERE c.id = ANY ($1)
"""

PERSONAL_DATA: Final = PersonalData(
    tells=(
        Section(
            "imports",
            """
            SELECT jsonb_build_object('import_id', x.import_id, 'filename', i.filename, 'row', x.row,
                'result', x.result, 'created_at', i.created_at)
            FROM imported_contacts x JOIN imports i ON i.id = x.import_id WHERE x.contact_id = ANY ($1)
            ORDER BY i.created_at, x.row
            """,
        ),
    ),
    erases=(
        Section("import_files", f"DELETE FROM import_chunks WHERE import_id IN ({_TOUCHED})"),
        Section(
            "import_errors",
            f"""
            DELETE FROM import_errors e USING ({_KNOWN_BY}) k
            WHERE position(to_json(k.text)::text IN e.cells::text) > 0
                OR position(trim(both '"' FROM to_json(k.text)::text) IN e.errors::text) > 0
            """,
        ),
        Section(
            "import_samples",
            f"""
            UPDATE imports i SET sample = '[]' WHERE i.sample <> '[]' AND (i.id IN ({_TOUCHED}) OR EXISTS (
                SELECT FROM ({_KNOWN_BY}) k
                WHERE position(trim(both '"' FROM to_json(k.text)::text) IN i.sample::text) > 0
            ))
            """,
        ),
        Section("imported_contacts", "DELETE FROM imported_contacts WHERE contact_id = ANY ($1)"),
    ),
)
