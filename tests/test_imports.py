"""Any module may be the first that somebody imports."""

import subprocess
import sys

import grimp

ALL = """
import importlib, sys
for name in sys.stdin.read().split():
    for known in [each for each in sys.modules if each.split(".")[0] == "crm"]:
        del sys.modules[known]
    importlib.import_module(name)
"""


def imported() -> dict[str, set[str]]:
    """What each module imports, the package that it stands in among it."""
    graph = grimp.build_graph("crm", cache_dir=None)
    return {
        name: graph.find_modules_directly_imported_by(name) | {name.rpartition(".")[0]} & graph.modules
        for name in graph.modules
    }


def reached(modules: dict[str, set[str]], name: str) -> set[str]:
    """All that is imported along with a module."""
    found: set[str] = set()
    left = list(modules[name])
    while left:
        if (one := left.pop()) not in found:
            found.add(one)
            left += modules[one]
    return found


def test_no_module_needs_another_to_be_imported_before_it() -> None:
    modules = imported()
    assert len(modules) > 100
    # Only where imports go round in a circle does it matter with which of its modules they begin.
    circles = {name for name in modules if name in reached(modules, name)}
    names = "\n".join(sorted(name for name in circles | {"crm.app", "crm.cli"} if not name.endswith("__main__")))
    done = subprocess.run([sys.executable, "-c", ALL], input=names, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
