"""The garbage collector, set for a process that makes many short-lived rows beside much that stays."""

import gc
from typing import Final

_ROWS_BETWEEN: Final = 50_000


def settle() -> None:
    """Leave out of later collections what has been loaded so far, and collect rarely: nearly nothing here is cyclic.

    A batch of a thousand posts is a hundred thousand objects; the default looks through everything every 700 of them.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_ROWS_BETWEEN, 20, 50)
