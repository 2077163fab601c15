"""Memory for temporaries, and how results lie in memory."""

import numpy as np
import pytest

from refsam.backends.fast.layout import channels_first, channels_last, empty, spans
from refsam.backends.fast.scratch import Scratch, of_thread

pytestmark = pytest.mark.core


def test_arrays_of_a_task_do_not_overlap_and_begin_with_a_cache_line() -> None:
    scratch = Scratch()
    arrays = [scratch.take(*shape) for shape in ((3, 5), (1,), (0,), (7, 11, 2))]
    for number, array in enumerate(arrays):
        array[...] = number
    for number, array in enumerate(arrays):
        assert (array == number).all()
        assert array.ctypes.data % 64 == 0


def test_a_frame_gives_back_what_was_taken_inside_and_nothing_else() -> None:
    scratch = Scratch()
    scratch.take(10_000)
    with scratch.frame():
        outer = scratch.take(100)
        outer[...] = 1
        with scratch.frame():
            inner = scratch.take(100)
            inner[...] = 2
        again = scratch.take(100)
        assert np.shares_memory(inner, again)
        again[...] = 3
        assert (outer == 1).all()


def test_the_block_grows_to_the_largest_need_and_stays() -> None:
    scratch = Scratch()
    for _ in range(3):
        for size in (100, 5000, 300):
            with scratch.frame():
                scratch.take(size)
                scratch.take(size)
    assert 10_000 <= scratch.block.size <= 10_100


def test_arrays_taken_before_the_block_grew_stay_whole() -> None:
    scratch = Scratch()
    with scratch.frame():
        small = scratch.take(16)
        small[...] = 1
        scratch.take(100_000)[...] = 2
        assert (small == 1).all()


def test_each_thread_has_its_own() -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(of_thread).result() is not of_thread()
    assert of_thread() is of_thread()


def test_results_begin_with_a_cache_line() -> None:
    assert {empty(n, 3).ctypes.data % 64 for n in range(1, 20)} == {0}
    assert empty(2, 0, 3).shape == (2, 0, 3)


@pytest.mark.parametrize(
    ("length", "step", "unit"),
    [(10, 3, 1), (9, 3, 1), (1, 5, 1), (100, 33, 16), (17, 16, 16), (127, 64, 16), (40, 8, 16), (0, 4, 1), (0, 4, 16)],
)
def test_spans_cover_everything_once(length: int, step: int, unit: int) -> None:
    parts = list(spans(length, step, unit))
    assert [n for start, stop in parts for n in range(start, stop)] == list(range(length))
    assert all(start % unit == 0 and stop - start <= max(step, unit) for start, stop in parts)


def test_channels_last_of_what_came_from_it_is_the_same_memory() -> None:
    x = np.random.default_rng(0).normal(size=(1, 4, 3, 2)).astype(np.float32)
    assert np.shares_memory(channels_last(channels_first(x)), x)
    np.testing.assert_array_equal(channels_last(channels_first(x)), x)
