"""Any module may be the first that somebody imports."""

import pkgutil
import subprocess
import sys

import crm

ALL = """
import importlib, sys
for name in sys.stdin.read().split():
    for known in [each for each in sys.modules if each.split(".")[0] == "crm"]:
        del sys.modules[known]
    importlib.import_module(name)
"""


def test_no_module_needs_another_to_be_imported_before_it() -> None:
    found = (module.name for module in pkgutil.walk_packages(crm.__path__, "crm."))
    names = "\n".join(name for name in found if not name.endswith("__main__"))
    done = subprocess.run([sys.executable, "-c", ALL], input=names, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
