"""`python -m benchmarks.serving MODULE:FACTORY`: another application, served exactly as `crm serve` serves ours."""

import importlib
import sys
from contextlib import suppress
from typing import Any

import typer


def main() -> None:
    """Serve until told to stop."""
    serve: Any = importlib.import_module("crm.cli.serve")  # `crm.cli` has a command of that name
    serve.APPLICATION = sys.argv[1]
    with suppress(typer.Exit):
        serve.serve(with_worker=False)


if __name__ == "__main__":
    main()
