"""The runner on a device that fails silently in each of metalcompute's ways; what it lets through and what it stops."""

import threading
import time

import numpy as np
import pytest
from metal.fake_device import FakeDevice, run_canary, run_relu

from refsam.errors import BackendUnavailable, InputError, KernelError
from refsam.metal import calls
from refsam.metal import runner as runner_module
from refsam.metal.runner import BufferPool, Output, Runner

pytestmark = pytest.mark.core

X = np.array([-1, 2, -3, 4, 0, 6, 7, -8, 9], np.float32)


def relu_of(device: FakeDevice) -> np.ndarray:
    return calls.relu(Runner(device), X)


def test_a_device_that_works_gives_the_result() -> None:
    np.testing.assert_array_equal(relu_of(FakeDevice()), np.maximum(X, 0))


def nothing(*buffers: np.ndarray) -> None:
    """A refused dispatch, a GPU fault, a time limit: metalcompute tells nobody."""


def first_half(x: np.ndarray, y: np.ndarray, params: np.ndarray) -> None:
    """A pipeline with smaller groups than the kernel counts on."""
    half = X.nbytes // 8 * 4
    run_relu(x[:half], y[:half], params)


def all_but_one(x: np.ndarray, y: np.ndarray, params: np.ndarray) -> None:
    run_relu(x[:-4], y[:-4], params)


@pytest.mark.parametrize(("fault", "left"), [(nothing, 9), (first_half, 5), (all_but_one, 1)])
def test_what_is_not_written_is_noticed(fault, left) -> None:
    with pytest.raises(KernelError, match=rf"relu on 9 threads left {left} of 9 words of buffer 1 \(y\) as they were"):
        relu_of(FakeDevice(of_relu=fault))


@pytest.mark.parametrize("others", [0xA5A5A5A5, 0x5A5A5A5A, 0], ids=hex)
def test_a_result_that_looks_like_a_pattern_is_taken_for_a_result(others) -> None:
    """Of two kinds of grey, one may look like either pattern."""
    looks_unwritten = np.array([0xA5A5A5A5] * 4 + [others] * 5, np.uint32)

    def write(x: np.ndarray, y: np.ndarray, params: np.ndarray) -> None:
        y.view(np.uint32)[:] = looks_unwritten

    np.testing.assert_array_equal(relu_of(FakeDevice(of_relu=write)).view(np.uint32), looks_unwritten)


def test_an_earlier_result_is_not_taken_for_a_new_one() -> None:
    works = [True, False, False]

    def sometimes(x: np.ndarray, y: np.ndarray, params: np.ndarray) -> None:
        if works.pop(0):
            run_relu(x, y, params)

    runner = Runner(FakeDevice(of_relu=sometimes))
    calls.relu(runner, X)
    with pytest.raises(KernelError, match="as they were"):
        calls.relu(runner, X)  # its buffers are those of the first run


def zeros(out: np.ndarray, params: np.ndarray) -> None:
    out[:] = 0


def packed_tightly(out: np.ndarray, params: np.ndarray) -> None:
    """A device, or a runner, for which a float3 takes 12 bytes."""
    run_canary(out, np.concatenate([params[:4], np.zeros(12, np.uint8), params[4:16], np.zeros(4, np.uint8), params[16:52]]))


@pytest.mark.parametrize("fault", [zeros, packed_tightly])
def test_a_wrong_answer_to_the_canary_stops_everything(fault) -> None:
    with pytest.raises(KernelError, match=r"answer to kernels/canary.metal is wrong in \d+ of 2008 words"):
        Runner(FakeDevice(of_canary=fault))


def test_a_device_that_runs_nothing_is_noticed_at_once() -> None:
    with pytest.raises(KernelError, match="canary on 2000 threads left 2008 of 2008"):
        Runner(FakeDevice(of_canary=nothing))


def test_an_error_of_the_device_names_the_kernel() -> None:
    def fault(*buffers: object) -> None:
        raise RuntimeError("Could not make buffer")

    device = FakeDevice()
    runner = Runner(device)
    device.function = lambda name: fault  # type: ignore[method-assign, assignment]
    with pytest.raises(KernelError, match="kernel relu: Could not make buffer"):
        calls.relu(runner, X)


@pytest.mark.parametrize(
    ("reason", "told"),
    [(RuntimeError("program_source:3:1: error: x"), (KernelError, "refuses this kernel: program_source:3:1")),
     (BackendUnavailable("no clang"), (BackendUnavailable, "^no clang")),
     (InputError("cannot write the cache"), (InputError, "^cannot write"))],
)  # fmt: skip
def test_the_compiler_s_words_are_handed_on_and_its_absence_is_not_the_kernel_s_fault(reason, told) -> None:
    class Refuses(FakeDevice):
        def kernel(self, source: str) -> FakeDevice:
            raise reason

    with pytest.raises(told[0], match=told[1]):
        Runner(Refuses())


def test_one_run_is_in_flight_and_over_before_its_result_is_read() -> None:
    def slow(x: np.ndarray, y: np.ndarray, params: np.ndarray) -> None:
        time.sleep(0.01)
        run_relu(x, y, params)

    device = FakeDevice(of_relu=slow)
    runner = Runner(device)
    inputs = [X * (n + 1) for n in range(4)]
    results: dict[int, np.ndarray] = {}
    threads = [threading.Thread(target=lambda n=n: results.update({n: calls.relu(runner, inputs[n])})) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert device.most_in_flight == 1
    for n, x in enumerate(inputs):
        np.testing.assert_array_equal(results[n], np.maximum(x, 0))


WRITTEN = "kernel void k(device atomic_uint &n [[buffer(0)]], device Pair &p [[buffer(1)]]) {}"


def test_what_is_behind_a_reference_comes_back_as_its_numbers() -> None:
    def count(n: np.ndarray, p: np.ndarray) -> None:
        n.view(np.uint32)[0] += 7
        p[1] = 9

    device = FakeDevice()
    device.work["k"] = count
    results = Runner(device).launch(WRITTEN, device, "k", [np.uint32(3).tobytes(), bytes(2)], 1)
    assert [(results[i].dtype, results[i].tolist()) for i in (0, 1)] == [(np.uint32, [10]), (np.uint8, [0, 9])]


def test_buffers_are_used_again() -> None:
    device = FakeDevice()
    runner = Runner(device)
    calls.relu(runner, X)
    made = device.buffers
    for _ in range(3):
        calls.relu(runner, X)
    assert device.buffers == made


def test_the_pool_lets_go_of_what_was_unused_for_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner_module, "POOL_BYTES", 100)
    device = FakeDevice()
    pool = BufferPool(device)
    kept = [pool.take(60), pool.take(40), pool.take(30)]
    for buffer in kept:
        pool.give(buffer, len(buffer))
    assert pool.take(30) is kept[2]
    assert pool.take(40) is kept[1]
    assert pool.take(60) is not kept[0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([X], r"relu has 3 buffers; 2 are given"),
        ([X.astype(np.float64), Output((9,))], r"buffer 0 \(x\) has elements of float; the array is float64"),
        ([X, Output((9,), np.uint8)], r"buffer 1 \(y\) has elements of float; the array is uint8"),
        ([X[::2], Output((9,))], r"buffer 0 \(x\): the array is not contiguous"),
        ([9, Output((9,))], r"buffer 0 \(x\) is an array; int is given"),
        ([X, Output((0,))], r"buffer 1 \(y\): 0 bytes are not one or more elements of float"),
        ([Output((9,)), Output((9,))], r"buffer 0 \(x\) is read only; it cannot be an output"),
    ],
)
def test_what_does_not_fit_the_signature_never_reaches_the_device(values, message) -> None:
    with pytest.raises(InputError, match=message):
        Runner(FakeDevice()).run("relu", values, {"n": 9}, 9)


@pytest.mark.parametrize("threads", [0, -1, 1 << 32])
def test_a_senseless_number_of_threads_is_refused(threads) -> None:
    with pytest.raises(InputError, match=f"{threads} threads"):
        Runner(FakeDevice()).run("relu", [X, Output((9,))], {"n": 9}, threads)


def test_parameters_have_to_be_those_of_the_struct() -> None:
    runner = Runner(FakeDevice())
    with pytest.raises(InputError, match=r"ReluParams has the fields \['n'\]; values are for \['m'\]"):
        runner.run("relu", [X, Output((9,))], {"m": 9}, 9)
    with pytest.raises(InputError, match=r"ReluParams.n is -1, which does not fit its type uint32"):
        runner.run("relu", [X, Output((9,))], {"n": -1}, 9)


def test_an_unknown_kernel_is_named_with_those_that_exist() -> None:
    with pytest.raises(InputError, match=r"no kernel 'matmull'; there are: attention_16, .*matmul"):
        Runner(FakeDevice()).run("matmull", [], {}, 1)
