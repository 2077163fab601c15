"""A device in Python that does what two kernels ask for, and can fail in the ways in which metalcompute fails without a word."""

import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from refsam.metal.definitions import canary

Work = Callable[..., None]


def run_canary(out: np.ndarray, params: np.ndarray) -> None:
    """As kernels/canary.metal, on parameters laid out as the Metal compiler does."""
    n, *wide = struct.unpack_from("<I12x3f4x", params)
    *narrow, seed, small, last = struct.unpack_from("<3fIB3xf", params, 32)
    out.view(np.uint32)[:] = canary(n, wide, narrow, seed, small, last)


def run_relu(x: np.ndarray, y: np.ndarray, params: np.ndarray) -> None:
    y.view(np.float32)[:] = np.maximum(x.view(np.float32), 0)


WORK: dict[str, Work] = {"canary": run_canary, "relu": run_relu}


class FakeDevice:
    """`metalcompute.Device`, on a CPU. `of_relu` takes the place of what the kernel relu does."""

    name = "fake"

    def __init__(self, of_relu: Work = run_relu, of_canary: Work = run_canary) -> None:
        self.work = {"canary": of_canary, "relu": of_relu}
        self.in_flight = 0
        self.most_in_flight = 0
        self.buffers = 0

    def kernel(self, source: str) -> "FakeDevice":
        return self

    def function(self, name: str) -> Callable[..., "Handle"]:
        return lambda count, *buffers: Handle(self, self.work[name], buffers)

    def buffer(self, content: Any) -> bytearray:
        self.buffers += 1
        return bytearray(content)


class Handle:
    """A run that is over only when the handle is gone, as in metalcompute."""

    def __init__(self, device: FakeDevice, work: Work, buffers: tuple[bytearray, ...]) -> None:
        self.device, self.work, self.buffers = device, work, buffers
        device.in_flight += 1
        device.most_in_flight = max(device.most_in_flight, device.in_flight)

    def __del__(self) -> None:
        self.work(*[np.frombuffer(buffer, np.uint8) for buffer in self.buffers])
        self.device.in_flight -= 1
