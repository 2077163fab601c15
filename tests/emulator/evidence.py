"""Tables of docs/evidence/emulator.md: what checked mode says of each faulty kernel, and what the emulator costs."""

import platform
import time
from collections.abc import Callable, Iterable
from statistics import median

import numpy as np
from emulator.marked import marked
from emulator.sources import HEAD, SQUARE

from refsam import emulator
from refsam.emulator.toolchain import toolchain

BARRIERS = (
    HEAD
    + """
kernel void k(device float *y [[buffer(0)]], uint i [[thread_position_in_grid]]) {
    for (uint n = 0; n < 100; n++) threadgroup_barrier(mem_flags::mem_none);
    y[i] = 1.0f;
}
"""
)


def emulator_tables() -> Iterable[str]:
    """The page."""
    yield "# The emulator: faults and costs"
    yield ""
    yield f"Compiler: {toolchain().version}; {platform.machine()}, Python {platform.python_version()}. Medians; one CPU thread."
    yield ""
    yield from costs()
    yield ""
    yield "Each kernel of `tests/emulator/kernels/faults` has one mistake; this is what checked mode says of it."
    yield ""
    yield "| kernel | message |"
    yield "|---|---|"
    for name, kernel in marked("faults").items():
        yield f"| {name} | {message(kernel.run)} |"


def message(run: Callable[..., object]) -> str:
    """What a checked run raises; nothing would be a failure of the test beside this."""
    try:
        run(checked=True)
    except emulator.error as reason:
        return str(reason).removeprefix("program_source:").replace("|", "\\|")
    return "NOT CAUGHT"


def costs() -> Iterable[str]:
    """Compiling, calling, waiting."""
    yield "| what | fast | checked |"
    yield "|---|--:|--:|"
    for what, unit, measure in (
        ("compile a file that is not in the cache", 1e3, cold_compile),
        ("open it again", 1e3, open_again),
        ("call a kernel on one element", 1e3, call),
    ):
        fast, checked = (unit * measure(emulator.Device(checked=checked, threads=1)) for checked in (False, True))
        yield f"| {what} | {fast:.2f} ms | {checked:.2f} ms |"
    for threads in (64, 256, 1024):
        fast, checked = (
            1e9 * barrier(emulator.Device(checked=checked, threads=1, group_size=threads)) for checked in (False, True)
        )
        yield f"| one thread at one barrier, {threads} in a group | {fast:.1f} ns | {checked:.1f} ns |"
    fast, checked = (1e9 * element(emulator.Device(checked=checked, threads=1)) for checked in (False, True))
    yield f"| square one element of a million | {fast:.2f} ns | {checked:.2f} ns |"


def seconds(action: Callable[[], object], repeats: int = 5) -> float:
    """Median time of an action."""
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        action()
        times.append(time.perf_counter() - begin)
    return median(times)


def cold_compile(device: emulator.Device) -> float:
    device.kernel(SQUARE)  # the runtime
    return seconds(lambda: device.kernel(f"{SQUARE}// {time.time_ns()}"))


def open_again(device: emulator.Device) -> float:
    return seconds(lambda: device.kernel(SQUARE))


def call(device: emulator.Device) -> float:
    function = device.kernel(SQUARE).function("square")
    buffers = [device.buffer(4) for _ in range(3)]
    return seconds(lambda: function(1, *buffers), 20)


def barrier(device: emulator.Device) -> float:
    function, count = device.kernel(BARRIERS).function("k"), 2**14
    y = device.buffer(count * 4)
    return seconds(lambda: function(count, y)) / count / 100


def element(device: emulator.Device) -> float:
    x = np.ones(2**20, np.float32)
    function, n = device.kernel(SQUARE).function("square"), np.uint32(x.size)
    source, target = device.buffer(x), device.buffer(x.nbytes)
    return seconds(lambda: function(x.size, source, target, n)) / x.size
