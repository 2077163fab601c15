"""Which device there is."""

import builtins
import sys
import types

import pytest

from refsam import backends
from refsam.errors import BackendUnavailable, InputError
from refsam.metal import device

pytestmark = pytest.mark.core


class MetalError(Exception):
    pass


def pretend(monkeypatch: pytest.MonkeyPatch, has_device: bool) -> None:
    """As if metalcompute were installed."""
    module = types.ModuleType("metalcompute")

    class Device:
        name = "Apple M1"

        def __init__(self) -> None:
            if not has_device:
                raise MetalError("Metal not supported")

    module.Device, module.error = Device, MetalError  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "metalcompute", module)


def test_a_mac_s_device_is_taken_where_there_is_one(monkeypatch) -> None:
    pretend(monkeypatch, has_device=True)
    assert device.default_name() == "metal"
    assert device.describe(device.open_device("metal")) == "Apple M1"


def test_a_mac_without_a_device_says_so(monkeypatch) -> None:
    pretend(monkeypatch, has_device=False)
    assert device.default_name() == "emulator"
    with pytest.raises(BackendUnavailable, match="finds no Metal device: Metal not supported"):
        backends.create("metal")


def test_without_metalcompute_the_remedy_is_named(monkeypatch) -> None:
    real = builtins.__import__

    def absent(name, *rest, **more):
        if name == "metalcompute":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(BackendUnavailable, match=r"Apple silicon .*'emulator' runs the same kernels"):
        device.open_device("metal")


def test_an_unknown_device_is_named_with_those_that_exist() -> None:
    with pytest.raises(InputError, match="device is 'cuda'; there are: metal, emulator"):
        device.open_device("cuda")
