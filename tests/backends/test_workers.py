"""The thread pool: every task once, errors, several callers."""

import os
import subprocess
import sys
import threading
from concurrent.futures import Future

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from refsam.backends.fast.scratch import Scratch, of_thread
from refsam.backends.fast.workers import Workers
from refsam.blas import one_blas_thread
from refsam.types import Array

pytestmark = pytest.mark.core


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("tasks", [0, 1, 3, 100])
def test_every_task_runs_once(threads: int, tasks: int) -> None:
    done: list[int] = []
    Workers(threads).map(lambda scratch, number: done.append(number), [(number,) for number in range(tasks)])
    assert sorted(done) == list(range(tasks))


def test_tasks_run_at_the_same_time_on_as_many_threads_as_were_asked_for() -> None:
    together = threading.Barrier(3)
    Workers(3).map(lambda scratch: together.wait(60) and None, [()] * 3)  # a BrokenBarrierError where one waits in vain


def test_blas_has_one_thread_in_every_task() -> None:
    seen: list[set[int]] = []
    together = threading.Barrier(2)

    def task(scratch: Scratch) -> None:
        together.wait(60)
        seen.append({library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"})

    Workers(2).map(task, [(), ()])
    assert len(seen) == 2
    assert all(found <= {1} for found in seen)


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_stops_the_rest_and_is_raised_when_nothing_runs_any_more(threads: int) -> None:
    workers, running, done = Workers(threads), [], []

    def task(scratch: Scratch, number: int) -> None:
        running.append(number)
        if number == 3:
            raise MemoryError("no room for tile 3")
        done.append(number)

    with pytest.raises(MemoryError, match="no room for tile 3"):
        workers.map(task, [(number,) for number in range(10_000)])
    assert sorted([*done, 3]) == sorted(running)
    assert len(running) < 10_000
    workers.map(task, [(0,)])  # and the workers are as good as new


def test_all_threads_warn_of_what_the_caller_is_warned_of() -> None:
    together, seen = threading.Barrier(3), []

    def task(_: Scratch) -> None:
        seen.append(np.geterr()["over"])
        together.wait(60)

    with np.errstate(over="ignore"):
        Workers(3).map(task, [()] * 3)
    assert seen == ["ignore"] * 3


def test_an_error_in_another_thread_comes_out_too() -> None:
    caller, together = threading.get_ident(), threading.Barrier(2)

    def task(scratch: Scratch) -> None:
        together.wait(60)
        if threading.get_ident() != caller:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Workers(2).map(task, [(), ()])


def test_several_callers_share_the_threads_and_none_waits_for_another() -> None:
    workers, inside, go, done = Workers(2), threading.Barrier(3), threading.Event(), []

    def slow(scratch: Scratch) -> None:
        inside.wait(60)
        go.wait(60)

    first = threading.Thread(target=lambda: workers.map(slow, [(), ()]))
    first.start()
    inside.wait(60)  # the first caller and the only helper are busy now
    workers.map(lambda scratch, number: done.append(number), [(number,) for number in range(20)])
    assert sorted(done) == list(range(20))
    go.set()
    first.join(60)
    assert not first.is_alive()


def test_a_task_that_outlives_its_interrupted_caller_writes_to_no_later_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    workers, caller, mine = Workers(2), threading.get_ident(), of_thread()
    together, go, done = threading.Barrier(2), threading.Event(), threading.Event()

    def task(scratch: Scratch, out: Array) -> None:
        together.wait(60)
        if threading.get_ident() != caller:
            go.wait(60)
            out[...] = 1
            done.set()

    def alarm(future: Future[None]) -> None:
        raise TimeoutError("the caller's time is up")

    with monkeypatch.context() as patched, mine.frame():
        patched.setattr(Future, "exception", alarm)  # while the caller waits
        out = mine.take(1000)
        with pytest.raises(TimeoutError, match="time is up"):
            workers.map(task, [(out,), (out,)])
    with mine.frame():
        later = mine.take(1000)
        later[...] = 2
        go.set()
        assert done.wait(60)
        assert (later == 2).all()


LATE = """
import threading
from refsam.backends.fast.workers import Workers

def late():
    threading.main_thread().join()
    done = []
    workers.map(lambda scratch, number: done.append(number), [(number,) for number in range(9)])
    print(done)

workers = Workers(3)
threading.Thread(target=late).start()
"""


def test_a_thread_that_outlives_the_main_one_computes_alone() -> None:
    run = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, timeout=60)
    assert (run.stdout, run.stderr) == (f"{[*range(9)]}\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_threads_of_its_own() -> None:
    workers, together = Workers(3), threading.Barrier(3)
    workers.map(lambda scratch: together.wait(60) and None, [()] * 3)  # starts the threads
    child = os.fork()
    if child == 0:
        left = None
        try:
            together = threading.Barrier(3)
            for _ in range(5):
                workers.map(lambda scratch: together.wait(20) and None, [()] * 3)
            left = workers._pool._work_queue.qsize()
        finally:
            os._exit(0 if left == 0 else 1)
    assert os.waitpid(child, 0)[1] == 0
    workers.map(lambda scratch: together.wait(60) and None, [()] * 3)


def test_memory_taken_in_a_task_is_free_for_the_next_one() -> None:
    starts: list[int] = []
    Workers(1).map(lambda scratch: starts.append(scratch.take(1000).ctypes.data), [()] * 5)
    assert len(set(starts[1:])) == 1


def test_the_hosts_blas_setting_is_not_touched_by_many_callers() -> None:
    before = [library["num_threads"] for library in threadpool_info()]
    with one_blas_thread():
        Workers(3).map(lambda scratch: None, [()] * 10)
    assert [library["num_threads"] for library in threadpool_info()] == before
