"""The packages of tests/coreml/data, unpacked once; a folder for those that the tests export."""

import os
from pathlib import Path

import pytest
from coreml.packages import extract


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return extract(tmp_path_factory.mktemp("packages"))


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all processes of a run: exporting takes seconds (exported.py)."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
