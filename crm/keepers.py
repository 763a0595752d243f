"""The packages that keep something of contacts, in one list for the API and the worker."""

from typing import Final

from crm.assistant.personal_data import PERSONAL_DATA as ASSISTANT
from crm.care import moving as care
from crm.care.personal_data import PERSONAL_DATA as CARE
from crm.contacts import moving as contacts
from crm.contacts.keeping import Keeper
from crm.contacts.personal_data import PERSONAL_DATA as CONTACTS
from crm.exchange.personal_data import PERSONAL_DATA as EXCHANGE
from crm.inbox.personal_data import PERSONAL_DATA as INBOX
from crm.interactions.personal_data import PERSONAL_DATA as INTERACTIONS
from crm.loyalty import moving as loyalty
from crm.loyalty.personal_data import PERSONAL_DATA as LOYALTY
from crm.playbooks import moving as playbooks
from crm.playbooks.personal_data import PERSONAL_DATA as PLAYBOOKS

KEEPERS: Final = (
    Keeper("exchange", EXCHANGE),
    Keeper("playbooks", PLAYBOOKS, playbooks),
    Keeper("assistant", ASSISTANT),
    Keeper("inbox", INBOX),
    Keeper("loyalty", LOYALTY, loyalty),
    Keeper("care", CARE, care),
    Keeper("interactions", INTERACTIONS),
    Keeper("contacts", CONTACTS, contacts),
)
"""In the order in which they move and are erased: what stands on something goes before it."""
