"""Calls of refsam in the tests are checked against their annotations: shapes by jaxtyping, types by beartype.

That triples the time of a test that runs a model. So every core test is checked, and of the others one in twelve, the same on
every run; with the profile "evidence" all are.
"""

import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import jaxtyping
import pytest
import required
from jaxtyping import install_import_hook

with install_import_hook("refsam", "beartype.beartype"):
    from refsam import checkpoint  # imported here so that the hook is what loads refsam

from standin import TINY, standin_weights  # after the hook: it imports refsam

# Machines of CI are slow and shared: no deadline. The seed is fixed there, so that a run can be repeated.
hypothesis.settings.register_profile("default", deadline=None, max_examples=30)
hypothesis.settings.register_profile("ci", deadline=None, max_examples=30, derandomize=True, database=None)
hypothesis.settings.register_profile("evidence", deadline=None, max_examples=10_000)
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "default")
hypothesis.settings.load_profile(PROFILE)

MISSING = required.missing()


def pytest_configure(config: pytest.Config) -> None:
    """Refuse a run without what $REFSAM_TESTS_REQUIRE names."""
    reason = required.complaint(os.environ.get(required.VARIABLE, ""), MISSING)
    if reason:
        raise pytest.UsageError(reason)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect (not skip) what needs a package that is not installed."""
    gone = [item for item in items if any(item.get_closest_marker(marker) for marker in MISSING)]
    if gone:
        config.hook.pytest_deselected(items=gone)
        items[:] = [item for item in items if item not in gone]


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads or writes the user's cache, weights or mirror. The processes of one run share a cache: what one compiles or
    measures, no other does again."""
    base = tmp_path_factory.getbasetemp()
    monkeypatch.setenv("REFSAM_CACHE", str((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"))
    for name in ("REFSAM_WEIGHTS", "REFSAM_MIRROR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the tiny model's stand-in weights."""
    path = tmp_path_factory.mktemp("weights") / "standin.safetensors"
    checkpoint.save(path, standin_weights(TINY), TINY)
    return path


@pytest.fixture
def unchecked() -> Iterator[None]:
    """For what refsam itself says about wrong arguments: the annotations would stop them first."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


@pytest.fixture(autouse=True)
def _annotations(request: pytest.FixtureRequest) -> None:
    """Leaves eleven of twelve longer tests unchecked."""
    drawn = zlib.crc32(request.node.nodeid.encode()) % 12 == 0
    if not drawn and not request.node.get_closest_marker("core") and PROFILE != "evidence":
        request.getfixturevalue("unchecked")


@pytest.fixture
def place(tmp_path: Path) -> Callable[..., Path]:
    """Writes bytes to a file and returns its path."""

    def write(raw: bytes, name: str = "weights.safetensors") -> Path:
        (tmp_path / name).write_bytes(raw)
        return tmp_path / name

    return write
