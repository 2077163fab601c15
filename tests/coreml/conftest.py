"""The packages of tests/coreml/data, unpacked once."""

from pathlib import Path

import pytest
from coreml.packages import extract


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return extract(tmp_path_factory.mktemp("packages"))
