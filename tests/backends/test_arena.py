"""Shared memory: arrays lie apart, places come back, another mapping sees the same numbers."""

import os
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refsam.backends.fast.arena import LINE_BYTES, Arena, merged, nameless_file

pytestmark = pytest.mark.core

SIZE = 1 << 16


@pytest.fixture
def arena() -> Iterator[Arena]:
    file = nameless_file(SIZE)
    yield Arena(file, SIZE)
    os.close(file)


LITTLE = 1 << 13
"""So that lists of arrays fill it."""
FITTING = st.sampled_from([LITTLE // 16, LITTLE // 8])  # a quarter and a half of it, which fill it to the last byte


@given(st.lists(st.one_of(st.integers(0, 700), FITTING, st.just("drop")), min_size=10, max_size=40), st.randoms())
def test_arrays_that_live_at_the_same_time_lie_apart_and_begin_with_a_cache_line(steps: list[int | str], chance) -> None:
    file = nameless_file(LITTLE)
    arena, alive = Arena(file, LITTLE), []
    os.close(file)  # the mapping stays
    for number, step in enumerate(steps):
        if step == "drop":
            if alive:
                del alive[chance.randrange(len(alive))]
            continue
        array = arena.empty(step)
        if array is None:
            assert whole_lines(step * 4) > largest_gap(arena, [a for a, _ in alive])
            continue
        array[...] = number
        assert array.__array_interface__["data"][0] % 64 == 0
        alive.append((array, number))
        del array  # or what is dropped next is not gone
        assert all((a == n).all() for a, n in alive)


def largest_gap(arena: Arena, arrays: list[np.ndarray]) -> int:
    """Bytes between the cache lines of neighbours."""
    places = sorted((arena.place(array)[0], array.nbytes) for array in arrays)  # type: ignore[index]
    ends = [0, *(start + whole_lines(length) for start, length in places)]
    return max(start - end for end, start in zip(ends, [*(start for start, _ in places), arena.size], strict=True))


def whole_lines(length: int) -> int:
    """Bytes of the cache lines that so many bytes take; an array of none takes one."""
    return max(-(-length // LINE_BYTES), 1) * LINE_BYTES


def test_a_place_is_free_again_when_the_last_view_is_gone(arena: Arena) -> None:
    first = arena.empty(100, 10)
    assert first is not None
    place, view = arena.place(first), first[3:].T
    del first
    second = arena.empty(100, 10)
    assert second is not None
    assert arena.place(second) != place
    del view
    third = arena.empty(100, 10)
    assert third is not None
    assert arena.place(third) == place


def test_all_that_was_taken_and_given_back_is_one_piece_again(arena: Arena) -> None:
    arrays = [arena.empty(1000) for _ in range(10)]
    assert arena.empty(SIZE // 4) is None
    del arrays
    assert arena.empty(SIZE // 4) is not None


def test_an_array_of_no_elements_and_of_no_axes(arena: Arena) -> None:
    for shape in ((0, 7), ()):
        array = arena.empty(*shape)
        assert array is not None
        assert array.shape == shape
        assert arena.place(array) is not None


def test_a_place_means_the_same_array_in_another_mapping(arena: Arena) -> None:
    array = arena.empty(6, 8)
    assert array is not None
    array[...] = np.arange(48).reshape(6, 8)
    view = array[1:5:2, ::3].T
    place = arena.place(view)
    assert place is not None
    theirs = Arena(arena.file, SIZE).at(place)
    assert np.array_equal(theirs, view)
    theirs[...] = -1
    assert (view == -1).all()
    assert (array[0] == np.arange(8)).all()


def test_other_memory_has_no_place(arena: Arena) -> None:
    assert arena.place(np.empty(3, np.float32)) is None


def test_holes_that_touch_are_one() -> None:
    assert merged([(0, 4), (4, 8), (9, 10), (10, 12)]) == [(0, 8), (9, 12)]


def test_a_file_that_may_not_be_so_large_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []
    close = os.close
    monkeypatch.setattr(os, "ftruncate", lambda *_: (_ for _ in ()).throw(OSError("File too large")))
    monkeypatch.setattr(os, "close", lambda file: (closed.append(file), close(file)))
    with pytest.raises(OSError, match="too large"):
        nameless_file(SIZE)
    assert len(closed) == 1


def test_without_memory_files_the_disk_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    file = nameless_file(SIZE)
    assert os.fstat(file).st_size == SIZE
    assert os.fstat(file).st_nlink == 0
    assert Arena(file, SIZE).empty(10) is not None
    os.close(file)
