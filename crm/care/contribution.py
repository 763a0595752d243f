"""What care contributes about a contact: what is open with them."""

from typing import Final

from crm.contacts.contributions import Contribution
from crm.contacts.fields import Field

CONTRIBUTION: Final = Contribution(
    fields=(
        Field(
            "open_cases",
            "number",
            "(SELECT count(*) FROM cases k WHERE k.contact_id = c.id AND k.status IN ('open', 'waiting'))",
        ),
    ),
)
