"""A shop that its owner starts."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.started import Shop


@pytest.fixture
def shop() -> Iterator[Shop]:
    folder = Path(tempfile.mkdtemp(prefix="setia-test-")).resolve()
    shop = Shop(folder)
    yield shop
    if shop.serving is not None and shop.serving.is_running():
        for process in (shop.serving, *shop.serving.children(recursive=True)):
            process.kill()
        shop.serving.wait()
    for process in shop.cluster.processes():
        process.kill()
    shutil.rmtree(folder)
