"""What a file must be to be read as a table, whatever its format."""

from typing import Final

from crm.errors import Invalid

COLUMNS_MAX: Final = 500


class UnreadableFile(Invalid):
    code = "unreadable_file"
    title = "This file can't be read as a table"
