"""Who wrote a message that went out: a person of ours, or a machine.

A machine's messages say so: an automatic mail by its headers, a bot's by `"by": "bot"` among their data, and what this
product sends by itself by who recorded it.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

_MACHINE: Final = "^(bot|playbook)(:|$)"

BY_HUMAN: Final = f"""(
    i.direction = 'outbound' AND NOT i.data ? 'automatic' AND i.data ->> 'by' IS DISTINCT FROM 'bot'
    AND i.by !~ '{_MACHINE}'
)"""
"""Of an interaction `i`: whether it is a message that a person of ours wrote."""


def is_machine(by: str, data: Mapping[str, Any] | None) -> bool:
    """Whether a message that went out is a machine's, by who recorded it and what it says of itself; as `BY_HUMAN`."""
    said = data or {}
    return "automatic" in said or said.get("by") == "bot" or re.match(_MACHINE, by) is not None
