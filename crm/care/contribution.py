"""What care contributes."""

from typing import Final

from crm.care.personal_data import PERSONAL_DATA
from crm.contacts.contributions import Contribution

CONTRIBUTION: Final = Contribution(name="care", personal_data=PERSONAL_DATA)
