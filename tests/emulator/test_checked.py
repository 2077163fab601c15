"""Checked mode: every class of fault is caught and named, and nothing is said of kernels that are right."""

import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from emulator.marked import marked
from emulator.sources import HEAD, SQUARE

from refsam import emulator

FAULTS = marked("faults")


def test_no_fault_is_left_out() -> None:
    assert len(FAULTS) >= 40


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_caught_and_named(name: str) -> None:
    kernel = FAULTS[name]
    line, text = kernel.fault
    with pytest.raises(emulator.error) as caught:
        kernel.run(checked=True)
    message = str(caught.value)
    assert re.match(rf"program_source:{line}(:\d+)?: error: kernel 'k', group \d+, thread \d+: ", message), message
    assert text in message


ARRAYS_AT_AN_END = {
    "structure": "Weights w; w.v[t % 4] = 1; y[t] = w.v[t];",
    "array": "array<float, 4> w; w[t % 4] = 1; y[t] = w[t];",
    "matrix": "float4x2 w = float4x2(float2(1), float2(2), float2(3), float2(4)); y[t] = w[t].x;",
}


@pytest.mark.parametrize("name", ARRAYS_AT_AN_END)
def test_an_index_beyond_an_array_that_ends_a_structure_is_caught(name: str) -> None:
    source = HEAD + (
        "struct Weights { uint n; float v[4]; };\n"
        "kernel void k(device float *y [[buffer(0)]], uint t [[thread_index_in_threadgroup]]) {\n"
        f"    {ARRAYS_AT_AN_END[name]}\n}}"
    )
    device = emulator.Device(checked=True, group_size=32)
    with pytest.raises(emulator.error, match=r"program_source:5(:\d+)?: error: kernel 'k', group 0, thread 4: array index 4 out"):
        device.kernel(source).function("k")(32, device.buffer(128))


def test_a_structure_that_ends_in_an_array_of_one_is_a_head_of_more() -> None:
    source = HEAD + (
        "struct Weights { uint n; float v[1]; };\n"
        "kernel void k(device float *y [[buffer(0)]], constant Weights &w [[buffer(1)]], "
        "uint t [[thread_index_in_threadgroup]]) { y[t] = w.v[t]; }"
    )
    device = emulator.Device(checked=True, group_size=32)
    y = device.buffer(128)
    device.kernel(source).function("k")(32, y, np.arange(33, dtype=np.float32))
    np.testing.assert_array_equal(np.frombuffer(y, np.float32), np.arange(1, 33))


@pytest.mark.parametrize("name", ["no_second_barrier", "same_element", "early_return", "uninitialised", "write_outside"])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_fault_is_caught_in_any_order_and_width(name: str, seed: int) -> None:
    with pytest.raises(emulator.error, match="program_source:"):
        FAULTS[name].run(checked=True, seed=seed, simd_width=16, fast_math=False)


def test_buffers_stay_as_they_were_where_a_fault_is_found() -> None:
    device = emulator.Device(checked=True, group_size=64)
    y = device.buffer(np.full(63, 7, np.float32))
    source = HEAD + "kernel void k(device float *y [[buffer(0)]], uint i [[thread_position_in_grid]]) { y[i] = 1; }"
    with pytest.raises(emulator.error, match="byte 252 of buffer 0 `y`"):
        device.kernel(source).function("k")(64, y)
    assert set(np.frombuffer(y, np.float32)) == {7.0}


def test_a_step_limit_counts_the_dispatch() -> None:
    source = HEAD + (
        "kernel void k(device float *y [[buffer(0)]], uint t [[thread_index_in_threadgroup]])"
        "{ for (uint i = 0; i < 100; i++) y[t] += 1.0f; }"
    )
    for limit, fine in ((3200, True), (3199, False)):
        device = emulator.Device(checked=True, group_size=32, step_limit=limit)
        function, y = device.kernel(source).function("k"), device.buffer(128)
        if fine:
            function(32, y)
            assert set(np.frombuffer(y, np.float32)) == {100.0}
        else:
            with pytest.raises(emulator.error, match="more turns of loops than step_limit allows"):
                function(32, y)


def test_a_program_that_dies_takes_nobody_with_it(tmp_path: Path) -> None:
    """No kernel is known that kills the checker; a program that kills itself stands for one."""
    device = emulator.Device(checked=True)
    kernel = device.kernel(SQUARE)
    program = tmp_path / "dies"
    program.write_text("#!/bin/sh\nkill -SEGV $$\n")
    program.chmod(0o755)
    object.__setattr__(kernel.compiled, "path", program)
    with pytest.raises(emulator.error, match=r"kernel 'square'.*the program that ran the kernel died \(SIGSEGV\)"):
        kernel.function("square")(1, 4, 4, 4)


ENDLESS = (
    HEAD
    + "kernel void k(device float *y [[buffer(0)]], uint t [[thread_index_in_threadgroup]]) { while (y[t] < 1.0f) y[t] *= 2.0f; }"
)


def test_a_kernel_that_never_ends_ends_with_its_python() -> None:
    program = (
        f"from refsam import emulator as mc; mc.Device(checked=True, step_limit=2**62).kernel({ENDLESS!r}).function('k')(1, 4096)"
    )
    with subprocess.Popen([sys.executable, "-c", program]) as python:
        children = Path(f"/proc/{python.pid}/task/{python.pid}/children")
        checker = waited_for(lambda: [p for p in children.read_text().split() if program_of(p).endswith("/kernels")])[0]
        python.kill()
    waited_for(lambda: not program_of(checker))


def program_of(process: str) -> str:
    """The file that a process runs; "" where it is gone."""
    try:
        return str(Path(f"/proc/{process}/exe").readlink())
    except OSError:
        return ""


def waited_for(condition: Callable[[], Any]) -> Any:
    """What it says once it is true, within a minute."""
    end = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


def test_private_arrays_up_to_the_limit_fit_the_stack() -> None:
    source = HEAD + (
        "static float sum(thread const float *p, uint n) { float s = 0; for (uint i = 0; i < n; i++) s += p[i]; return s; }\n"
        "kernel void k(device float *y [[buffer(0)]], uint t [[thread_index_in_threadgroup]])"
        "{ float own[8000]; for (uint i = 0; i < 8000; i++) own[i] = 1.0f; y[t] = sum(own, 8000); }"
    )
    for checked in (False, True):
        device = emulator.Device(checked=checked, group_size=64, threads=1)
        y = device.buffer(256)
        device.kernel(source).function("k")(64, y)
        assert set(np.frombuffer(y, np.float32)) == {8000.0}
