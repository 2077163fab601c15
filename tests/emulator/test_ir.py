"""What is changed in clang's assembly: private memory in a loop over threads, integer division."""

import numpy as np
import pytest
from emulator.sources import HEAD

from refsam import emulator
from refsam.types import Array

MODES = [{"threads": 1}, {"threads": 1, "fast_math": False}, {"checked": True}]
T = np.arange(64, dtype=np.float32)
PRIVATE = {
    "an array filled in a loop": ("float w[3]; for (uint i = 0; i < 3; i++) w[i] = x[t] + float(i); y[t] = w[t % 3];", T + T % 3),
    "an array filled at once": ("float w[4] = {x[t], x[t] * 2, x[t] * 3, x[t] * 4}; y[t] = w[t % 4];", T * (T % 4 + 1)),
    "one element that is chosen": ("uint w[4] = {0, 0, 0, 0}; w[t % 4] = t; y[t] = float(w[(t + 4) % 4]);", T),
    "a ring": ("uint w[16]; for (uint i = 0; i < 8; i++) w[(t + i) % 16] = t; y[t] = float(w[t % 16]);", T),
    "a matrix": ("float3x3 m = float3x3(float3(x[t]), float3(x[t] + 1), float3(x[t] + 2)); y[t] = m[t % 3].x;", T + T % 3),
    "a pointer to one of two": (
        "float a = x[t], b = 2 * x[t]; thread float *p = t % 2 ? &a : &b; *p += 1; y[t] = 1000 * a + b;",
        1002 * T + np.where(T % 2, 1000, 1),
    ),
    "nothing": ("y[t] = 2 * x[t];", 2 * T),
}  # fmt: skip


@pytest.mark.parametrize("options", MODES, ids=str)
def test_threads_that_are_computed_side_by_side_have_private_memory_of_their_own(options) -> None:
    """With an index that is not known when compiling, private arrays stay memory."""
    kernels = "".join(
        f"kernel void k{i}(device const float *x [[buffer(0)]], device float *y [[buffer(1)]],"
        f" uint t [[thread_position_in_grid]]) {{ {body} }}\n"
        for i, (body, _) in enumerate(PRIVATE.values())
    )
    device = emulator.Device(group_size=64, **options)
    compiled = device.kernel(HEAD + kernels)
    for i, (name, (_, expected)) in enumerate(PRIVATE.items()):
        y = device.buffer(T.nbytes)
        compiled.function(f"k{i}")(T.size, T, y)
        np.testing.assert_array_equal(np.frombuffer(y, np.float32), expected, name)


def divided(kind: str, x: Array, y: Array) -> tuple[Array, Array]:
    """Quotients and remainders in fast mode."""
    source = HEAD + (
        f"typedef {kind} T; kernel void k(device const T *x [[buffer(0)]], device const T *y [[buffer(1)]],"
        " device T *q [[buffer(2)]], device T *r [[buffer(3)]],"
        " uint t [[thread_position_in_grid]]) { q[t] = x[t] / y[t]; r[t] = x[t] % y[t]; }"
    )
    device = emulator.Device(threads=1, group_size=32)
    quotients, remainders = device.buffer(x.nbytes), device.buffer(x.nbytes)
    device.kernel(source).function("k")(32, x, y, quotients, remainders)
    return np.frombuffer(quotients, x.dtype), np.frombuffer(remainders, x.dtype)


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [("int", "i4"), ("uint", "u4"), ("short", "i2"), ("uchar", "u1"), ("long", "i8"), ("int4", "i4"), ("ushort2", "u2")],
)
def test_integer_division_never_ends_the_process(kind, dtype) -> None:
    """Metal: by zero, and of the least number by -1, it gives some number. On x86 such a division is a signal."""
    n, ends = 32 * int(kind[-1] if kind[-1].isdigit() else 1), np.iinfo(dtype)
    rng = np.random.default_rng(0)
    x = rng.integers(ends.min, ends.max, n, dtype, endpoint=True)
    y = rng.integers(max(ends.min, -9), 9, n, dtype)
    x[:4], y[:4] = ends.min, (0, ends.max if ends.min == 0 else -1, 1, 2)
    quotients, remainders = divided(kind, x, y)
    for a, b, quotient, remainder in zip(x.tolist(), y.tolist(), quotients.tolist(), remainders.tolist(), strict=True):
        if b and (a, b) != (ends.min, -1):
            whole = abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
            assert (quotient, remainder) == (whole, a - b * whole), (a, b)
