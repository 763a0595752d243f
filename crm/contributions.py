"""What the packages contribute of contacts, in one list for the API and the worker: whoever is above comes first."""

from typing import Final

from crm.care import contribution as care
from crm.contacts import contribution as contacts
from crm.contacts.contributions import Contribution
from crm.interactions import contribution as interactions
from crm.loyalty import contribution as loyalty

CONTRIBUTIONS: Final[tuple[Contribution, ...]] = (
    loyalty.CONTRIBUTION,
    care.CONTRIBUTION,
    interactions.CONTRIBUTION,
    contacts.CONTRIBUTION,
)
"""In the order in which they move and are erased: what stands on something goes before it."""
