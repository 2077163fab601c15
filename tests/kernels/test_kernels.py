"""Every kernel on every case and every kind of device, within the bound that its header derives."""

import re
from functools import cache

import numpy as np
import pytest
from kernels.modes import IN_MAKE_TEST, runner

from refsam.metal import sources
from refsam.metal.case import KernelCase
from refsam.metal.cases import CASES, SMALL, WITHOUT_CASE
from refsam.metal.runner import Runner

KERNELS = sources.kernel_files(sources.folder())
cached_runner = cache(runner)


@pytest.mark.core
def test_every_kernel_has_small_cases_and_a_name_of_its_own() -> None:
    assert {case.kernel for case in SMALL} | set(WITHOUT_CASE) == set(KERNELS)
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.core
@pytest.mark.parametrize("path", sorted(set(KERNELS.values())), ids=lambda path: path.stem)
def test_every_header_is_a_contract(path) -> None:
    header = path.read_text("utf-8").partition("#include")[0].splitlines()
    assert all(line.startswith("//") for line in header)
    titles = [line[3:13].strip() for line in header if line.startswith("// ") and line[3] != " "]
    assert [title for title in titles if title in ("Equals", "Buffers", "Bound", "Dispatch")] == [
        "Equals", "Buffers", "Bound", "Dispatch"
    ]  # fmt: skip


@pytest.mark.core
@pytest.mark.parametrize("path", sorted(set(KERNELS.values())), ids=lambda path: path.stem)
def test_kernels_keep_to_what_every_apple_gpu_has(path) -> None:
    """Family 5, Metal 2.3: the emulator takes newer functions, too, so it would not tell."""
    code = sources.without_comments(sources.read(path))
    assert re.findall(r"\b(?:simd|quad)_\w+|\bsimdgroup\w*|\batomic\w*|\bbfloat\w*|\[\[kernel\]\]", code) == []


@pytest.mark.parametrize("mode", IN_MAKE_TEST)
@pytest.mark.parametrize("kernel", sorted(set(KERNELS) - set(WITHOUT_CASE)))
def test_a_kernel_equals_its_definition(kernel, mode) -> None:
    for case in SMALL:
        if case.kernel == kernel:
            assert_right(case, cached_runner(mode))


def assert_right(case: KernelCase, device: Runner) -> None:
    verdict = case.judge(case.run(device, *case.arguments()))
    assert verdict, f"{case.name}: the error is {verdict.required:.3g} times the bound"


@pytest.mark.parametrize("case", [case for case in SMALL if case.kernel in ("matmul", "attention_16", "layer_norm")],
                         ids=lambda case: case.name)  # fmt: skip
def test_order_and_group_size_do_not_show_in_the_bits(case) -> None:
    results = [case.run(cached_runner(mode), *case.arguments()) for mode in ("fast math", "random order 2")]
    np.testing.assert_array_equal(*results)


@pytest.mark.core
def test_a_wrong_result_is_called_wrong() -> None:
    for case in SMALL:
        exact = [x.astype(np.float64) if isinstance(x, np.ndarray) and not case.pixels else x for x in case.arguments()]
        truth, allowed = case.definition(*exact), np.asarray(case.bound(*exact))
        right = (truth > 0).astype(np.uint8) if case.is_mask else truth
        assert case.judge(right), case.name
        wrong = right.astype(np.float64)
        size = abs(truth) / allowed
        worst = np.unravel_index(np.argmax(size) if case.is_mask else np.argmin(size), truth.shape)
        wrong[worst] = 1 - wrong[worst] if case.is_mask else wrong[worst] + 2 * allowed[worst]
        assert not case.judge(wrong), case.name
        assert not case.judge(right.reshape(-1)[:-1]), case.name
        if not case.is_mask:
            wrong[worst] = np.nan
            assert not case.judge(wrong), case.name


@pytest.mark.core
def test_bounds_are_far_below_the_values() -> None:
    """A bound that lets everything pass would prove nothing. Cases with an offset are ill-conditioned, which is their point."""
    for case in SMALL:
        exact = [x.astype(np.float64) if isinstance(x, np.ndarray) and not case.pixels else x for x in case.arguments()]
        ratio = np.median(case.bound(*exact)) / np.mean(abs(case.definition(*exact)) + 1e-30)
        limit = 0.2 if case.offset else 1e-3
        assert ratio < limit or not np.any(case.definition(*exact)), f"{case.name}: {ratio:.2g}"
