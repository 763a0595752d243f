"""All that segments, searches and what is kept of cases can ask about contacts: one list for the API and the worker."""

from dataclasses import replace
from typing import Final

from crm.care.contribution import CONTRIBUTION as CARE
from crm.contacts.vocabulary import Vocabulary
from crm.loyalty.vocabulary import VOCABULARY as LOYALTY

VOCABULARY: Final[Vocabulary] = replace(LOYALTY, contributions=(*LOYALTY.contributions, CARE))
