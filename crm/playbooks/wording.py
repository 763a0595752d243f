"""What messages of playbooks can say besides what every template can: the variables of what brought them about."""

from typing import Final

OF_EXPIRY: Final = frozenset({"expiring_points", "expires_on"})
"""Of points that end: how many, and on which day."""
REFERRAL_CODE: Final = "referral_code"
SURVEY_PATH: Final = "survey_path"
"""Where a survey is answered, behind the address of the service."""
