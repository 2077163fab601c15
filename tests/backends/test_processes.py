"""Helper processes: the same bits as threads, and threads wherever helpers cannot be used or are lost."""

import copy
import gc
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import pytest
from standin import TINY, standin_weights

from refsam import MobileSam, Trace, backends
from refsam.backends.fast import norm, processes
from refsam.backends.fast.activation import scaled_gelu
from refsam.backends.fast.helper import DONE, Tickets, obey
from refsam.backends.fast.ops import FastOps
from refsam.backends.fast.processes import ProcessWorkers, check_interpreter
from refsam.backends.fast.scratch import of_thread
from refsam.backends.fast.workers import work
from refsam.errors import BackendUnavailable
from refsam.model.tiny_vit import tiny_vit
from refsam.types import Array

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="helper processes need Linux or macOS")

SECONDS = 60


class Counting(ProcessWorkers):
    """Knows which steps its helpers took part in."""

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self.shared: list[bool] = []
        assert threads == 1 or self.wait_until_up(SECONDS)

    def _map_shared(self, *arguments: Any) -> bool:
        self.shared.append(super()._map_shared(*arguments))
        return self.shared[-1]


@pytest.fixture
def workers() -> Iterator[Counting]:
    workers = Counting(2)
    yield workers
    processes.end(os.getpid(), workers._helpers)


def model(workers: ProcessWorkers | None = None) -> MobileSam:
    ops = FastOps(2)
    if workers is not None:
        ops.workers = workers
    return MobileSam(standin_weights(TINY), TINY, ops)


def picture(batch: int = 1, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((batch, 3, TINY.image_size, TINY.image_size)).astype(np.float32)


def embed(model: MobileSam, x: Array) -> Array:
    return tiny_vit(model.scope / "image_encoder", x, model.config)


@pytest.mark.core
@pytest.mark.parametrize("number", [2, 3])
def test_helpers_give_the_bits_of_threads(number: int) -> None:
    workers = Counting(number)
    ours = model(workers)
    for batch, seed in ((1, 0), (2, 1), (1, 2)):  # memory is used again, weights are sent once
        x = picture(batch, seed)
        assert np.array_equal(embed(ours, x), embed(model(), x))
    assert len(workers.shared) > 20
    assert all(workers.shared)


def test_after_a_picture_only_weights_are_in_shared_memory(workers: Counting) -> None:
    ours = model(workers)
    embeddings = [embed(ours, picture(seed=seed)) for seed in (0, 1)]
    assert all(workers._arena.place(embedding) is None for embedding in embeddings)
    room = workers._arena.empty(1)  # which takes back what was freed
    free = sum(stop - start for start, stop in workers._arena._holes)
    lines = sum(-(-max(copy.nbytes, 1) // 64) * 64 for _, copy in workers._constants.values())
    assert room is not None
    assert free + 64 + lines == processes.SIZE
    assert lines > 100_000


def test_a_trace_gets_memory_of_its_own(workers: Counting) -> None:
    ours = model(workers)
    trace = Trace("image_encoder")
    traced = ours.traced(trace)
    first = embed(traced, picture())
    assert np.array_equal(trace["image_encoder"], first)
    embed(ours, picture(seed=1))
    assert np.array_equal(trace["image_encoder"], first)
    assert all(workers.shared)
    inside, of_threads = Trace("image_encoder.layers.0*"), Trace("image_encoder.layers.0*")
    assert np.array_equal(embed(ours.traced(inside), picture()), embed(model().traced(of_threads), picture()))
    assert list(inside) == list(of_threads)
    assert len(inside) == 24
    assert all(np.array_equal(inside[stage], of_threads[stage]) for stage in inside)
    assert all(workers._arena.place(inside[stage]) is None for stage in inside)


def decoded(model: MobileSam, embedding: Array, count: int, masks: bool = False) -> tuple[Array, Array]:
    rng = np.random.default_rng(count)
    points = rng.uniform(0, TINY.image_size, (count, 1, 2))
    side = 4 * TINY.embedding_size
    mask = rng.standard_normal((count, 1, side, side)).astype(np.float32) if masks else None
    prompts = model.encode_prompts((points, np.ones((count, 1), int)), None, mask)
    return model.decode_masks(embedding, model.image_pe, *prompts, True)


@pytest.mark.core
def test_many_prompts_are_decoded_by_helpers_and_few_by_threads(workers: Counting) -> None:
    ours, theirs = model(workers), model()
    embedding = embed(theirs, picture())
    for count, masks in ((70, False), (70, True), (3, False), (0, False), (21, False)):
        constants = len(workers._constants)
        workers.shared.clear()
        for found, expected in zip(decoded(ours, embedding, count, masks), decoded(theirs, embedding, count, masks), strict=True):
            assert np.array_equal(found, expected)
            assert workers._arena.place(found) is None
        assert all(workers.shared)
        assert bool(workers.shared) == (count >= 13)
        assert len(workers._constants) == constants or constants == 0  # prompts and pictures are none


def test_nobody_waits_for_helpers_that_are_up(workers: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(Connection, "poll", lambda _, seconds: waited.append(seconds))
    assert workers.wait_until_up(SECONDS)
    assert waited == []


def scaled(workers: ProcessWorkers, rows: int = 200) -> tuple[Array, Array]:
    """Each row's GELU in shared memory, and the truth."""
    with workers.sharing() as shared:
        assert shared
        x = workers.empty(rows, 33)
        x[...] = np.random.default_rng(0).standard_normal(x.shape)
        truth = x.copy()
        workers.map(scaled_gelu, [(row,) for row in x])
        for row in truth:
            scaled_gelu(of_thread(), row)
        return x.copy(), truth


@pytest.mark.core
def test_every_task_is_done_once(workers: Counting) -> None:
    found, truth = scaled(workers)  # in place: done twice, or not at all, is another number
    assert np.array_equal(found, truth)
    assert workers.shared == [True]


def test_more_tasks_than_tickets_fit_are_for_threads(workers: Counting) -> None:
    found, truth = scaled(workers, processes.MOST_TASKS + 1)
    assert np.array_equal(found, truth)
    assert workers.shared == [False]
    found, truth = scaled(workers, processes.MOST_TASKS)
    assert np.array_equal(found, truth)
    assert workers.shared == [False, True]


def test_arrays_that_are_not_shared_and_may_change_are_for_threads(workers: Counting) -> None:
    rows = np.random.default_rng(0).standard_normal((10, 50)).astype(np.float32)
    expected = rows.copy()
    for row in expected:
        scaled_gelu(of_thread(), row)
    with workers.sharing():
        workers.map(scaled_gelu, [(row,) for row in rows])
    assert np.array_equal(rows, expected)
    assert workers.shared == [False]


def test_a_task_that_cannot_be_written_down_is_for_threads(workers: Counting) -> None:
    done: list[int] = []
    with workers.sharing():
        workers.map(lambda scratch, number: done.append(number), [(number,) for number in range(10)])
    assert sorted(done) == list(range(10))
    assert workers.shared == [False]


def test_outside_its_turn_a_caller_has_threads(workers: Counting) -> None:
    x = workers.empty(4, 8)
    x[...] = 1
    assert workers._arena.place(x) is None
    workers.map(scaled_gelu, [(row,) for row in x])
    assert workers.shared == []


def test_two_callers_at_the_same_time(workers: Counting) -> None:
    ours, x = model(workers), picture()
    expected = embed(model(), x)
    found: list[Array] = []
    callers = [threading.Thread(target=lambda: found.extend(embed(ours, x) for _ in range(5))) for _ in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(SECONDS)
    assert len(found) == 15
    assert all(np.array_equal(expected, each) for each in found)
    assert any(workers.shared)


def test_weights_that_are_gone_give_their_memory_back(workers: Counting) -> None:
    for _ in range(2):
        ours = model(workers)
        embed(ours, picture())
        assert len(workers._constants) > 10
        del ours
        gc.collect()
        assert workers._constants == {}


def test_a_fork_in_the_middle_of_a_turn_has_threads(workers: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    with workers.sharing() as shared:
        assert shared
        assert workers._arena.place(workers.empty(3)) is not None
        monkeypatch.setattr(os, "getpid", lambda: 1)
        assert workers._arena.place(workers.empty(3)) is None
        assert not workers._is_sharing()


def test_a_full_block_leaves_the_rest_to_threads(workers: Counting) -> None:
    with workers.sharing():
        taken = workers.empty(processes.SIZE // 4 - 4096)
        assert workers._arena.place(taken) is not None
        large = np.zeros(processes.SIZE // 8, np.float32)
        assert workers.seen(large) is large
    x = picture()
    assert np.array_equal(embed(model(workers), x), embed(model(), x))
    assert False in workers.shared


@pytest.mark.parametrize("moment", ["before", "within"])
def test_a_lost_helper_costs_a_warning_and_nothing_else(workers: Counting, moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, x = model(workers), picture()
    expected, helper = embed(ours, x), workers._helpers[0].process

    def dying(task: Any, tickets: Any) -> None:
        helper.kill()
        helper.wait()
        next(iter(tickets), None)  # one that it had taken: nobody does that task
        work(task, tickets)

    with monkeypatch.context() as patched:
        if moment == "before":
            helper.kill()
            helper.wait()
        else:
            helper.send_signal(signal.SIGSTOP)  # it gets the order, and does not come to answer
            patched.setattr(processes, "work", dying)
        with pytest.warns(RuntimeWarning, match=r"ended \(exit codes -9\); threads compute"):
            assert np.array_equal(embed(ours, x), expected)
    assert np.array_equal(embed(ours, x), expected)  # without another warning
    assert workers._helpers == []


def test_an_error_in_a_task_comes_out_and_the_helpers_are_as_good_as_new(workers: Counting) -> None:
    with workers.sharing():
        x = workers.empty(100, 8)
        with pytest.raises(TypeError, match="eps"):
            workers.map(norm.standardise, [(x,)] * 100)  # one argument is missing
    found, truth = scaled(workers)
    assert np.array_equal(found, truth)
    assert workers.shared[-1]


def test_an_error_in_the_helper_alone_comes_out(workers: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "work", lambda task, tickets: time.sleep(1))  # this process takes no ticket
    with workers.sharing():
        x = workers.empty(100, 8)
        with pytest.raises(TypeError, match="standardise"):
            workers.map(norm.standardise, [(x, 1e-5, "too many")] * 2)


class Interrupted:
    """A connection at whose answer somebody stops the program, by Ctrl-C or by an alarm."""

    def __init__(self, connection: Any, how: BaseException) -> None:
        self.connection, self.how = connection, how

    def recv_bytes(self) -> bytes:
        raise self.how

    def __getattr__(self, name: str) -> Any:
        return getattr(self.connection, name)


@pytest.mark.parametrize("how", [KeyboardInterrupt(), TimeoutError("the task's time is up"), ValueError("an alarm")])
def test_helpers_whose_answer_was_not_read_are_started_anew(workers: Counting, how: BaseException) -> None:
    ours, x, helper = model(workers), picture(), workers._helpers[0]
    expected = embed(ours, x)
    workers._helpers[0] = helper._replace(connection=Interrupted(helper.connection, how))  # type: ignore[arg-type]
    with pytest.raises(type(how)):
        embed(ours, picture(seed=1))
    assert np.array_equal(embed(ours, x), expected)  # on threads, while they start
    assert helper.process.poll() is not None
    assert workers.wait_until_up(SECONDS)
    workers.shared.clear()
    assert np.array_equal(embed(ours, x), expected)
    assert workers.shared
    assert all(workers.shared)


def test_an_interrupt_of_this_process_leaves_no_tickets(workers: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(task: Any, tickets: Any) -> None:
        os.write(workers._counter, b"\0\0" * 10)  # as if the helper had left some
        raise KeyboardInterrupt

    process = workers._helpers[0].process
    process.send_signal(signal.SIGSTOP)
    threading.Timer(0.2, process.send_signal, [signal.SIGCONT]).start()
    with monkeypatch.context() as patched:
        patched.setattr(processes, "work", interrupted)
        with pytest.raises(KeyboardInterrupt):
            scaled(workers)
    assert [*Tickets(workers._tickets)] == []
    found, truth = scaled(workers)
    assert np.array_equal(found, truth)
    assert workers._helpers[0].process is process  # its answer was read


def test_an_interrupt_while_helpers_start_is_forgotten_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    workers = ProcessWorkers(2)
    with monkeypatch.context() as patched:
        patched.setattr(processes, "_answers", lambda helpers: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            workers.wait_until_up(SECONDS)
    workers.wait_until_up(0)  # starts anew
    assert workers.wait_until_up(SECONDS)
    found, truth = scaled(workers)
    assert np.array_equal(found, truth)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_computes_with_threads_and_leaves_the_helpers_alone(workers: Counting) -> None:
    ours, x = model(workers), picture()
    expected = embed(ours, x)
    child = os.fork()
    if child == 0:
        good = False
        try:
            before = len(workers.shared)
            good = np.array_equal(embed(ours, x), expected) and len(workers.shared) == before
            processes.end(workers._owner, workers._helpers)
        finally:
            os._exit(0 if good else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert workers._helpers[0].process.poll() is None
    found, truth = scaled(workers)
    assert np.array_equal(found, truth)


def test_helpers_end_with_the_workers() -> None:
    workers = Counting(3)
    ended = [helper.process for helper in workers._helpers]
    assert [process.poll() for process in ended] == [None, None]
    del workers
    gc.collect()
    assert [process.poll() for process in ended] == [0, 0]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_helpers_end_at_once_while_a_fork_lives_on() -> None:
    workers = Counting(3)
    waiting, go = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(go)
        os.read(waiting, 1)  # until the parent closes its end
        os._exit(0)
    try:
        assert processes.end(os.getpid(), workers._helpers) == [0, 0]  # none had to be killed
    finally:
        os.close(go)
        os.close(waiting)
        os.waitpid(child, 0)


def test_one_thread_has_no_helpers() -> None:
    workers = Counting(1)
    assert workers._helpers == []
    with workers.sharing() as shared:
        assert not shared
        assert workers.empty(3).shape == (3,)


def test_a_helper_that_cannot_start_costs_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "START", "raise SystemExit(3)")
    workers = ProcessWorkers(2)
    with pytest.warns(RuntimeWarning, match=r"ended \(exit codes 3\)"):
        assert not workers.wait_until_up(SECONDS)
    x = picture()
    assert np.array_equal(embed(model(workers), x), embed(model(), x))


@pytest.mark.parametrize("error", [OSError("Cannot allocate memory"), PermissionError("Operation not permitted")])
def test_where_the_system_starts_nothing_the_backend_is_unavailable(monkeypatch: pytest.MonkeyPatch, error: OSError) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(subprocess, "Popen", refuse)
    with pytest.raises(BackendUnavailable, match=f"{error}.*use backend 'fast'"):
        backends.create("processes", 2)


@pytest.mark.core
def test_programs_that_are_no_python_are_not_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    check_interpreter()
    for attribute, value in ((("frozen", True)), ("executable", "/usr/bin/uwsgi"), ("executable", None)):
        with monkeypatch.context() as patched:
            patched.setattr(sys, attribute, value, raising=False)
            with pytest.raises(BackendUnavailable, match="need a Python to start"):
                check_interpreter()
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(BackendUnavailable, match="Linux or macOS"):
        check_interpreter()


SCRIPT = """
import numpy as np, refsam, sys
model = refsam.load("demo", backend="processes", threads=2)
workers = model.scope.ops.workers
assert workers.wait_until_up(60)
predictor = refsam.SamPredictor(model)
predictor.set_image(np.zeros((64, 64, 3), np.uint8))
print(workers._helpers[0].process.pid)
"""


def test_a_program_ends_quietly_and_its_helpers_with_it() -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", SCRIPT], capture_output=True, text=True, timeout=SECONDS)
    assert (done.returncode, done.stderr) == (0, "")
    assert is_gone(int(done.stdout))


def test_a_program_that_is_killed_takes_its_helpers_along() -> None:
    script = SCRIPT.replace(".pid)", ".pid, flush=True); sys.stdin.read()")
    program = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
    assert program.stdout is not None
    helper = int(program.stdout.readline())
    program.kill()
    program.communicate()
    assert is_gone(helper)


def is_gone(process: int) -> bool:
    """Within SECONDS: ended, by now perhaps a zombie of whoever adopted it."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        state = subprocess.run(["ps", "-o", "stat=", "-p", str(process)], capture_output=True, text=True).stdout.strip()
        if not state or state.startswith("Z"):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.core
def test_an_order_is_obeyed_while_there_are_tickets() -> None:
    reads, writes = os.pipe()
    os.set_blocking(reads, False)
    os.write(writes, b"\1\0\0\0")
    assert [*Tickets(reads, [("a",), ("b",)])] == [("b",), ("a",)]
    os.write(writes, b"\0\0\1\0")
    assert obey(b"no order", reads) != DONE
    assert [*Tickets(reads, [])] == []  # an error takes the rest
    os.close(writes)
    assert [*Tickets(reads, [])] == []
    os.close(reads)


@pytest.mark.parametrize("shape", [(3, 5), (1, 1), ()])
def test_an_array_made_visible_has_the_same_numbers(workers: Counting, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    repeated = np.broadcast_to(x, (4, *shape))
    assert workers.seen(x) is x
    with workers.sharing():
        for array in (x, x.T, repeated):
            seen = workers.seen(array)
            assert np.array_equal(seen, array)
            assert workers._arena.place(seen) is not None
        assert seen.strides[0] == 0


def test_weights_are_read_only_so_that_copies_of_them_stay_true() -> None:
    def arrays(weights: Any) -> Iterator[Array]:
        if isinstance(weights, np.ndarray):
            yield weights
        elif isinstance(weights, tuple | list):
            for part in weights:
                yield from arrays(part)

    ours = model()
    decoded(ours, embed(ours, picture()), 1)
    found = [array for weights in ours.scope.memo.values() for array in arrays(weights)]
    assert len(found) > 100
    assert not any(array.flags.writeable for array in found)
    assert all(tensor.flags.writeable for tensor in ours.scope.weights.values())  # the model's own are left alone


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["copy", "pickle"])
def test_a_copy_of_a_used_model_uses_helpers_of_its_own(workers: Counting, copied: Any) -> None:
    ours = model(workers)
    expected = embed(ours, picture())
    twin = copied(ours)
    try:
        assert np.array_equal(embed(twin, picture()), expected)
        assert twin.scope.ops.workers.shared
        assert all(twin.scope.ops.workers.shared)
    finally:
        processes.end(os.getpid(), twin.scope.ops.workers._helpers)
