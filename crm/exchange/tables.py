"""The tables of imports."""

from sqlalchemy import BigInteger, Boolean, Column, Integer, LargeBinary, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from crm.db.tables import Instant, metadata

imports = Table(
    "imports",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("filename", Text, nullable=False),
    Column("layout", JSONB, nullable=False),
    Column("sample", JSONB, nullable=False),
    Column("mapping", JSONB, nullable=False),
    Column("program_id", Uuid),
    Column("region", Text, nullable=False),
    Column("on_duplicate", Text, nullable=False),
    Column("dry_run", Boolean),
    Column("run", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("positions", ARRAY(BigInteger), nullable=False),
    Column("rows_count", BigInteger),
    Column("processed", BigInteger, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("updated", BigInteger, nullable=False),
    Column("skipped", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("failure", JSONB),
    Column("removed", BigInteger),
    Column("kept", BigInteger),
    Column("by", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("started_at", Instant),
    Column("finished_at", Instant),
)
import_chunks = Table(
    "import_chunks",
    metadata,
    Column("import_id", Uuid, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("data", LargeBinary, nullable=False),
)
import_errors = Table(
    "import_errors",
    metadata,
    Column("import_id", Uuid, primary_key=True),
    Column("row", BigInteger, primary_key=True),
    Column("errors", JSONB, nullable=False),
    Column("cells", JSONB, nullable=False),
)
imported_contacts = Table(
    "imported_contacts",
    metadata,
    Column("contact_id", Uuid, primary_key=True),
    Column("import_id", Uuid, primary_key=True),
    Column("row", BigInteger, nullable=False),
    Column("result", Text, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("removed", Boolean, nullable=False),
    Column("kept", Text),
    Column("note", Text),
)
