"""What names a port, and what is said where nothing does."""

from collections.abc import Iterator
from importlib.metadata import EntryPoint
from typing import Any

import numpy as np
import pytest
from verify.mistaken import tiny

from refsam.errors import InputError
from refsam.verify import Port, open_port
from refsam.verify.ports import Kind, kinds
from refsam.verify.ports.registry import GROUP


class Echo:
    """A port of somebody else."""

    name, precision = "echo", "fp16"
    notes: tuple[str, ...] = ()

    def __init__(self, volume: int) -> None:
        self.volume = volume

    def run(self, case: Any, stages: Any) -> dict[str, np.ndarray]:
        return {}


def open_echo(words: tuple[str, ...], *, model: Any, precision: str | None, volume: int = 3) -> Port:
    return Echo(volume)


ECHO = Kind("echo", "words that begin with echo", lambda words: words[0].startswith("echo"), open_echo)


@pytest.fixture
def entry_points(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An environment in which this file brings a kind of port."""
    point = EntryPoint("echo", f"{__name__}:ECHO", GROUP)
    monkeypatch.setattr("refsam.verify.ports.registry.entry_points", lambda group: [point] if group == GROUP else [])
    monkeypatch.setattr(EntryPoint, "load", lambda self: ECHO)
    kinds.cache_clear()
    yield
    kinds.cache_clear()


@pytest.mark.usefixtures("entry_points")
def test_kinds_of_others_are_found_by_their_entry_point() -> None:
    assert open_port("echo there", model=tiny(), volume=7).volume == 7  # type: ignore[attr-defined]
    assert "echo" in kinds()
    with pytest.raises(InputError, match="no option 'pitch'; it has: volume"):
        open_port("echo", model=tiny(), pitch=1)


def test_a_port_is_handed_back() -> None:
    port = Echo(1)
    assert open_port(port, model=tiny()) is port


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("nothing.there", {}, "there is no file nothing.there.*backend .*function"),
        ("fast", {"kind": "magic"}, "the kind of port is 'magic'; there are: backend"),
        ("fast", {"native": True}, "no option 'native'; it has: threads"),
        ("fast", {"precision": "fp12"}, "precision is 'fp12'"),
        ((), {}, "there is no port"),
        ("no_such_module:f", {}, "no module 'no_such_module'"),
        ("math:no_such_function", {}, "no_such_function"),
        ("math:pi", {}, "is a float; a function is needed"),
        ("textwrap:dedent", {}, "the first parameter of textwrap:dedent is text"),
    ],
)
def test_what_is_no_port_is_said_clearly(spec: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_port(spec, model=tiny(), **options)
