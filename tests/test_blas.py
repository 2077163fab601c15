"""BLAS on one thread inside a block, and the host's setting afterwards."""

import os
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
from standin import TINY, standin_weights
from threadpoolctl import threadpool_info, threadpool_limits

from refsam import MobileSam, blas
from refsam.blas import one_blas_thread
from refsam.ops import Ops

pytestmark = pytest.mark.core


def threads() -> set[int]:
    """How many threads each BLAS of this process uses; Accelerate does not say and is not among them."""
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


@pytest.fixture
def host_uses_two() -> Iterator[set[int]]:
    with threadpool_limits(2, user_api="blas"):
        yield threads()


class FakeLibraries:
    """Stands in for threadpoolctl's libraries, so that these tests hold wherever they run; notes what is done, and by whom."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []
        self.lib_controllers: list[Any] = []

    def limit(self, **arguments: Any) -> "FakeLibraries":
        assert arguments == {"limits": 1, "user_api": "blas"}
        self.calls.append(("limit", threading.get_ident()))
        return self

    def restore_original_limits(self) -> None:
        self.calls.append(("restore", threading.get_ident()))


@pytest.fixture
def of_process(monkeypatch: pytest.MonkeyPatch) -> FakeLibraries:
    fake = FakeLibraries()
    monkeypatch.setattr(blas._single_thread, "of_process", fake)
    monkeypatch.setattr(blas._single_thread, "of_thread", FakeLibraries())
    return fake


@pytest.fixture
def of_thread(of_process: FakeLibraries) -> FakeLibraries:
    return blas._single_thread.of_thread


@pytest.fixture
def other_thread() -> Iterator["OtherThread"]:
    thread = OtherThread()
    yield thread
    thread.end.set()
    thread.leave()
    thread.thread.join(60)


class OtherThread:
    """A thread that goes into the block and out again when it is told to, and lives on."""

    def __init__(self) -> None:
        self.inside, self.go, self.outside, self.end = (threading.Event() for _ in range(4))
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        with one_blas_thread():
            self.inside.set()
            self.go.wait(60)
        self.outside.set()
        self.end.wait(60)

    def enter(self) -> None:
        self.thread.start()
        assert self.inside.wait(60)

    def leave(self) -> None:
        self.go.set()
        assert self.outside.wait(60)


def test_one_thread_inside_and_the_hosts_setting_after(host_uses_two: set[int]) -> None:
    with one_blas_thread():
        assert threads() <= {1}
    assert threads() == host_uses_two


def test_the_hosts_setting_comes_back_after_an_error(host_uses_two: set[int]) -> None:
    with pytest.raises(KeyError), one_blas_thread():
        raise KeyError
    assert threads() == host_uses_two


def test_a_nested_block_does_not_end_the_outer_one(of_process: FakeLibraries) -> None:
    with one_blas_thread():
        with one_blas_thread():
            pass
        assert [what for what, _ in of_process.calls] == ["limit"]
    assert [what for what, _ in of_process.calls] == ["limit", "restore"]


def test_the_last_of_two_threads_restores(of_process: FakeLibraries, other_thread: OtherThread) -> None:
    with one_blas_thread():
        other_thread.enter()
    assert [what for what, _ in of_process.calls] == ["limit"]  # the first in is out, the other still computes
    other_thread.leave()
    assert [what for what, _ in of_process.calls] == ["limit", "restore"]


def test_each_thread_sets_what_belongs_to_threads(of_thread: FakeLibraries, other_thread: OtherThread) -> None:
    with one_blas_thread():
        other_thread.enter()
        other_thread.leave()
    mine, other = threading.get_ident(), of_thread.calls[1][1]
    assert of_thread.calls == [("limit", mine), ("limit", other), ("restore", other), ("restore", mine)]
    assert mine != other


def test_the_last_thread_really_restores_what_the_first_one_found(host_uses_two: set[int], other_thread: OtherThread) -> None:
    # threadpoolctl ignores a thread while another one that set the number before it is alive: as this one is.
    with one_blas_thread():
        other_thread.enter()
    assert threads() <= {1}
    other_thread.leave()
    assert threads() == host_uses_two


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("inside", [False, True], ids=["outside", "inside"])
def test_a_forked_child_does_not_count_the_threads_that_it_lost(
    host_uses_two: set[int], other_thread: OtherThread, inside: bool
) -> None:
    other_thread.enter()
    with one_blas_thread() if inside else nullcontext():
        child = os.fork()
        if child == 0:
            try:
                before = threads()
                with one_blas_thread():
                    within = threads()
                right = before <= {1} if inside else before == host_uses_two
                os._exit(0 if right and threads() == before and within <= {1} else 1)
            except BaseException:
                os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert threads() <= {1}  # the other thread is still inside


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_waits_for_a_thread_that_is_just_entering() -> None:
    """Its lock would be taken for ever in the child."""
    taken, let_go = threading.Event(), threading.Event()

    def enter_slowly() -> None:
        with blas._single_thread.setting._lock:
            taken.set()
            let_go.wait(0.2)

    thread = threading.Thread(target=enter_slowly)
    thread.start()
    taken.wait(60)
    child = os.fork()
    if child == 0:
        os._exit(0 if blas._single_thread.setting._lock.acquire(timeout=20) else 1)
    thread.join(60)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_the_host_can_change_the_number_afterwards(host_uses_two: set[int], other_thread: OtherThread) -> None:
    other_thread.enter()
    other_thread.leave()
    with threadpool_limits(1, user_api="blas"):
        assert threads() <= {1}
    assert threads() == host_uses_two


def test_many_threads_leave_no_trace(host_uses_two: set[int]) -> None:
    seen: list[set[int]] = []

    def work() -> None:
        for _ in range(10):
            with one_blas_thread():
                seen.append(threads())

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert len(seen) == 40
    assert all(found <= {1} for found in seen)
    assert threads() == host_uses_two


class Watching(Ops):
    """The definition, noting in each linear map and convolution how many threads BLAS has."""

    def __init__(self) -> None:
        self.seen: list[set[int]] = []

    def linear(self, *arguments: Any) -> Any:  # type: ignore[override]
        self.seen.append(threads())
        return Ops.linear(*arguments)

    def conv2d(self, *arguments: Any) -> Any:  # type: ignore[override]
        self.seen.append(threads())
        return Ops.conv2d(*arguments)


def test_the_model_computes_on_one_thread(host_uses_two: set[int]) -> None:
    ops = Watching()
    model = MobileSam(standin_weights(TINY), TINY, ops)
    features = model.encode_image(np.zeros((1, 3, 64, 64), np.float32))
    after_encoder = len(ops.seen)
    sparse, dense = model.encode_prompts(masks=np.zeros((1, 1, 16, 16)))
    after_prompts = len(ops.seen)
    model.decode_masks(features, model.image_pe, sparse, dense)
    assert 0 < after_encoder < after_prompts < len(ops.seen)
    assert all(found <= {1} for found in ops.seen)
    assert threads() == host_uses_two


def test_an_error_in_the_model_leaves_the_hosts_setting(host_uses_two: set[int]) -> None:
    class Broken(Ops):
        @staticmethod
        def gelu(x: Any) -> Any:  # type: ignore[override]
            raise MemoryError

    model = MobileSam(standin_weights(TINY), TINY, Broken())
    with pytest.raises(MemoryError):
        model.encode_image(np.zeros((1, 3, 64, 64), np.float32))
    assert threads() == host_uses_two
