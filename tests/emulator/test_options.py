"""Options change what real devices may change, and nothing else."""

import math

import numpy as np
import pytest
from emulator.marked import marked
from emulator.sources import HEAD

from refsam import emulator as mc
from refsam.emulator import ulps

FINE = marked("fine")
assert len(FINE) >= 6
VARIANTS: dict[str, dict[str, int | bool]] = {
    "one thread": {"threads": 1},
    "strict": {"fast_math": False},
    "noise": {"noise": 7},
    "random order": {"seed": 5},
    "denormals kept": {"flush_denormals": False},
    "small SIMD-groups": {"simd_width": 16},
    "large SIMD-groups, another order": {"simd_width": 64, "seed": 9},
    "checked": {"checked": True},
    "checked, strict, random order": {"checked": True, "fast_math": False, "seed": 3},
    "checked, noise, small SIMD-groups": {"checked": True, "noise": 3, "simd_width": 16},
}


@pytest.mark.parametrize("name", FINE)
def test_no_variant_finds_a_fault_in_a_kernel_that_is_right(name: str) -> None:
    width_matters = name == "simd"
    first = [bytes(memoryview(b)) for b in FINE[name].run()]
    for options in VARIANTS.values():
        results = [bytes(memoryview(b)) for b in FINE[name].run(**options)]
        if not (width_matters and "simd_width" in options):
            assert results == first, options


@pytest.mark.parametrize("group_size", [256, 320, 512, 1024])
def test_a_kernel_for_any_group_size_gives_the_same(group_size: int) -> None:
    transpose = FINE["transpose"]
    x = np.arange(1024, dtype=np.float32)
    for checked in (False, True):
        device = mc.Device(group_size=group_size, checked=checked)
        y = device.buffer(4096)
        device.kernel(transpose.source).function("k")(1024, x, y)
        np.testing.assert_array_equal(np.frombuffer(y, np.float32).reshape(32, 32), x.reshape(32, 32).T)


def order_seen(seed: int, threads: int = 1) -> list[int]:
    """The order in which the SIMD-groups of the groups write, by a counter that is a race on purpose."""
    source = HEAD + (
        "kernel void k(device uint *y [[buffer(0)]], device uint *n [[buffer(1)]], uint g [[threadgroup_position_in_grid]],"
        " uint s [[simdgroup_index_in_threadgroup]], uint lane [[thread_index_in_simdgroup]])"
        "{ threadgroup_barrier(mem_flags::mem_device); if (lane == 0) { y[n[0]] = g * 100 + s; n[0] += 1; } }"
    )
    device = mc.Device(seed=seed, group_size=128, threads=threads)
    y, n = device.buffer(4 * 16), device.buffer(4)
    device.kernel(source).function("k")(512, y, n)
    return np.frombuffer(y, np.uint32).tolist()


def test_a_seed_shuffles_groups_and_simdgroups_and_repeats() -> None:
    everything = [g * 100 + s for g in range(4) for s in range(4)]
    assert order_seen(0) == everything
    assert order_seen(4) == order_seen(4) != everything
    assert sorted(order_seen(4)) == everything
    groups = [number // 100 for number in order_seen(4)]
    assert groups != sorted(groups)


def evaluated(expression: str, x: np.ndarray, **options: int | bool) -> np.ndarray:
    """float32 results of an expression in x."""
    source = HEAD + (
        "kernel void k(device const float *in [[buffer(0)]], device float *out [[buffer(1)]], constant uint &n [[buffer(2)]],"
        f" uint i [[thread_position_in_grid]]) {{ if (i < n) {{ float x = in[i]; out[i] = {expression}; }} }}"
    )
    device = mc.Device(**options)
    x = np.asarray(x, np.float32)
    y = device.buffer(x.nbytes)
    device.kernel(source).function("k")(x.size, x, y, np.uint32(x.size))
    return np.frombuffer(y, np.float32).copy()


def test_denormals_are_flushed_unless_they_are_kept() -> None:
    tiny = np.float32([1e-39, 1e-30])
    assert evaluated("x * 1.5f", tiny, fast_math=False)[0] == 0
    kept = evaluated("x * 1.5f", tiny, fast_math=False, flush_denormals=False)
    np.testing.assert_array_equal(kept, tiny * np.float32(1.5))


X = np.concatenate([np.linspace(0.01, 20, 4001), np.geomspace(1e-6, 1e3, 1001)])
ULP_OF = {
    "exp(-x)": (lambda x: np.exp(-x), lambda x: 3 + np.floor(2 * x)),
    "rsqrt(x)": (lambda x: 1 / np.sqrt(x), lambda x: 2),
    "x / 3.7f": (lambda x: x / np.float64(np.float32(3.7)), lambda x: 2.5),
    "1.0f / x": (lambda x: 1 / x, lambda x: 1),
    "atan(x)": (np.arctan, lambda x: 5),
}
"""Expression -> its value in float64, and the specification's bound in ulp."""


@pytest.mark.parametrize("expression", ULP_OF)
def test_noise_fills_the_specifications_bound_and_keeps_it(expression: str) -> None:
    function, bound = ULP_OF[expression]
    x = X.astype(np.float32)
    truth = function(x.astype(np.float64))
    keep = (np.abs(truth) > 1e-30) & (np.abs(truth) < 1e30)
    unit = np.spacing(np.abs(truth).astype(np.float32)).astype(np.float64)
    errors = (np.abs(evaluated(expression, x, noise=11) - truth) / unit / bound(x.astype(np.float64)))[keep]
    assert errors.max() <= 1.0
    exact = (np.abs(evaluated(expression, x) - truth) / unit)[keep]
    assert exact.max() < 0.51 + (expression == "x / 3.7f")  # fast math multiplies by a rounded reciprocal
    assert errors.max() > 0.45


@pytest.mark.parametrize(("function", "bound"), [("sin", 2.0**-13), ("cos", 2.0**-13), ("log", 2.0**-21), ("log2", 2.0**-22)])
def test_absolute_noise_keeps_its_bound(function: str, bound: float) -> None:
    x = np.linspace(0.5, 2.0, 30_001).astype(np.float32)
    truth = getattr(np, function)(x.astype(np.float64))
    for seed in (1, 2, 3):
        noisy = np.abs(evaluated(f"{function}(x)", x, noise=seed) - truth)
        assert 0.5 * bound < noisy.max() <= bound * (1 + np.finfo(np.float32).eps)
    assert {*ulps.ABSOLUTE} == {"sin", "cos", "log", "log2"}


def test_noise_is_the_same_for_a_seed_and_another_for_another() -> None:
    first = evaluated("exp(x)", X, noise=1)
    np.testing.assert_array_equal(first, evaluated("exp(x)", X, noise=1, threads=1, seed=8))
    assert (first != evaluated("exp(x)", X, noise=2)).mean() > 0.3


def test_fast_tanh_has_the_hole_of_its_definition_and_precise_tanh_has_none() -> None:
    x = np.float32([0.5, 50.0])
    fast, precise = (evaluated(f"{space}::tanh(x)", x, fast_math=False) for space in ("fast", "precise"))
    assert np.isnan(fast[1])
    assert precise.tolist() == pytest.approx([np.tanh(0.5), 1.0])


PRECISE = {
    "exp": (-100, 88), "exp2": (-126, 127), "exp10": (-37, 38), "log": (1e-30, 1e30), "log2": (1e-30, 1e30),
    "log10": (1e-30, 1e30), "sin": (-1e5, 1e5), "cos": (-1e5, 1e5), "tan": (-1e3, 1e3), "tanh": (-12, 12),
    "sinh": (-80, 80), "cosh": (-80, 80), "sqrt": (0, 1e30), "rsqrt": (1e-30, 1e30),
    "asin": (-1, 1), "acos": (-1, 1), "atan": (-1e6, 1e6),
}  # fmt: skip
EXACT = {
    "exp10": lambda x: 10.0**x, "rsqrt": lambda x: 1 / np.sqrt(x), "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan,
}  # fmt: skip


@pytest.mark.parametrize("name", PRECISE)
def test_precise_functions_are_within_a_hair_of_half_an_ulp(name: str) -> None:
    low, high = PRECISE[name]
    generator = np.random.default_rng(3)
    x = np.concatenate([generator.uniform(low, high, 20_000), generator.uniform(max(low, -4), min(high, 4), 20_000)])
    x = np.concatenate([x, np.geomspace(max(low, 1e-30), high, 5_000)]).astype(np.float32)
    truth = EXACT.get(name, getattr(np, name, None))(x.astype(np.float64))
    result = evaluated(f"precise::{name}(x)", x, fast_math=False, flush_denormals=False)
    unit = np.spacing(np.maximum(np.abs(truth), 2.0**-126).astype(np.float32)).astype(np.float64)
    assert (np.abs(result - truth) / unit).max() < 0.501


def test_the_edges_of_the_functions() -> None:
    x = np.float32([0, -0.0, np.inf, -np.inf, np.nan, -1])
    edges = {name: evaluated(f"precise::{name}(x)", x, fast_math=False).tolist() for name in ("exp", "log", "tanh", "sin", "cos")}
    inf, nan = np.inf, np.nan
    np.testing.assert_array_equal(edges["exp"][:5], [1, 1, inf, 0, nan])
    np.testing.assert_array_equal(edges["log"], [-inf, -inf, inf, nan, nan, nan])
    np.testing.assert_array_equal(edges["tanh"][:5], [0, -0.0, 1, -1, nan])
    assert np.isnan(edges["sin"][2:5]).all()
    large = np.float32([1e6, 2.0**25, 3.4e38, 1e22, -7.7e15])
    assert evaluated("precise::sin(x)", large, fast_math=False).tolist() == pytest.approx(
        [math.sin(float(v)) for v in large], rel=1e-7
    )
    power = evaluated("precise::pow(x, 3.0f)", np.float32([-2, 0, 1.5]), fast_math=False)
    assert power.tolist() == [-8, 0, 3.375]
