"""metalcompute's interface and semantics."""

import subprocess
import sys
import threading

import numpy as np
import pytest
from emulator.sources import HEAD, IDENTITY, SQUARE

from refsam import emulator as mc
from refsam.errors import InputError, RefsamError
from refsam.threads import THREADS_VARIABLE


@pytest.fixture(params=[False, True], ids=["fast", "checked"])
def device(request: pytest.FixtureRequest) -> mc.Device:
    return mc.Device(checked=request.param, threads=2)


def test_a_kernel_runs(device: mc.Device) -> None:
    x = np.arange(1000, dtype=np.float32)
    result = device.buffer(x.nbytes)
    device.kernel(SQUARE).function("square")(x.size, x, result, np.uint32(x.size))
    np.testing.assert_array_equal(np.frombuffer(result, np.float32), x * x)


def test_an_int_makes_a_zeroed_buffer_and_an_array_a_copy(device: mc.Device) -> None:
    assert bytes(memoryview(device.buffer(37))) == bytes(37)
    source = np.arange(4, dtype=np.int16)
    copy = device.buffer(source)
    source[:] = 9
    assert np.frombuffer(copy, np.int16).tolist() == [0, 1, 2, 3]
    np.frombuffer(copy, np.int16)[:] = 5
    assert source.tolist() == [9] * 4


def test_an_array_given_to_a_kernel_is_copied_so_results_in_it_are_lost(device: mc.Device) -> None:
    y = np.zeros(4, np.float32)
    device.kernel(SQUARE).function("square")(4, np.full(4, 3, np.float32), y, np.uint32(4))
    assert y.tolist() == [0] * 4


def test_an_int_argument_is_a_length_not_a_number(device: mc.Device) -> None:
    y = device.buffer(16)
    device.kernel(SQUARE).function("square")(4, np.full(4, 3, np.float32), y, 4)  # n is four zero bytes
    assert np.frombuffer(y, np.float32).tolist() == [0] * 4


def test_buffers_are_views_of_one_memory(device: mc.Device) -> None:
    buffer = device.buffer(8)
    first, second = np.frombuffer(buffer, np.float32), memoryview(buffer)
    first[1] = 1.0
    assert second.nbytes == 8
    assert bytes(second)[4:] == np.float32(1).tobytes()
    del buffer
    assert first.tolist() == [0.0, 1.0]  # an array keeps the memory alive
    assert str(device.buffer(8)) == "metalcompute.Buffer(length=8)"


@pytest.mark.parametrize("content", [0, -4, b"", np.zeros((0, 3)), 1 << 50, 1 << 70])
def test_a_buffer_of_an_impossible_size_is_refused(device: mc.Device, content: object) -> None:
    with pytest.raises(mc.error, match="Could not make buffer"):
        device.buffer(content)


@pytest.mark.parametrize("content", ["text", None, np.zeros((4, 4))[:, ::2]])
def test_what_is_no_contiguous_buffer_is_refused(device: mc.Device, content: object) -> None:
    with pytest.raises(mc.error, match="Unsupported input format"):
        device.buffer(content)


@pytest.mark.parametrize(("group_size", "width", "count"), [(1024, 32, 1), (256, 32, 257), (500, 64, 449), (320, 16, 960)])
def test_the_grid_is_rounded_up_to_whole_groups(device: mc.Device, group_size: int, width: int, count: int) -> None:
    threads = group_size // width * width
    groups = -(-count // threads)
    other = mc.Device(checked=device.options.checked, group_size=group_size, simd_width=width)
    y = other.buffer(groups * threads * 40)
    other.kernel(IDENTITY).function("who")(count, y)
    i = np.arange(groups * threads)
    t = i % threads
    expected = [i, t, i // threads, groups, threads, groups * threads, t % width, t // width, threads // width, width]
    np.testing.assert_array_equal(np.frombuffer(y, np.uint32).reshape(-1, 10), np.stack(np.broadcast_arrays(*expected), 1))


def test_max_total_threads_limits_the_group(device: mc.Device) -> None:
    source = IDENTITY.replace("kernel void", "[[max_total_threads_per_threadgroup(96)]] kernel void")
    y = device.buffer(2 * 96 * 40)
    device.kernel(source).function("who")(100, y)
    assert np.frombuffer(y, np.uint32).reshape(-1, 10)[:, 4].tolist() == [96] * 192
    with pytest.raises(mc.error, match=r"max_total_threads_per_threadgroup\(8\) is less than one SIMD-group of 32"):
        device.kernel(source.replace("(96)", "(8)")).function("who")(1, y)


def test_two_and_three_dimensional_positions_have_one_row(device: mc.Device) -> None:
    source = HEAD + (
        "kernel void k(device uint *y [[buffer(0)]], uint3 i [[thread_position_in_grid]], uint3 n [[threads_per_grid]])"
        "{ y[i.x] = i.y + i.z * 10 + n.y * 100; }"
    )
    y = device.buffer(4096)
    device.kernel(source).function("k")(1024, y)
    assert set(np.frombuffer(y, np.uint32)) == {100}


def test_a_handle_is_returned_and_its_results_are_there(device: mc.Device) -> None:
    y = device.buffer(4)
    handle = device.kernel(SQUARE).function("square")(1, np.float32([3]), y, np.uint32(1))
    assert isinstance(handle, mc.Run)
    del handle
    assert np.frombuffer(y, np.float32).tolist() == [9.0]


@pytest.mark.parametrize("count", [0, -1])
def test_a_count_below_one_is_an_error(device: mc.Device, count: int) -> None:
    with pytest.raises(mc.error, match=f"square: the count of threads is {count}"):
        device.kernel(SQUARE).function("square")(count, 4, 4, 4)


def test_a_grid_beyond_32_bits_is_an_error(device: mc.Device) -> None:
    with pytest.raises(mc.error, match="more than a grid can number"):
        device.kernel(SQUARE).function("square")(2**32, 4, 4, 4)


def test_missing_and_short_buffers_are_named(device: mc.Device) -> None:
    square = device.kernel(SQUARE).function("square")
    with pytest.raises(mc.error, match=r"square: no buffer for `n` \[\[buffer\(2\)\]\]: 2 were given"):
        square(1, 4, 4)
    with pytest.raises(mc.error, match=r"square: `n` \[\[buffer\(2\)\]\] refers to 4 bytes; 2 were given"):
        square(1, 4, 4, np.uint16(1))
    with pytest.raises(mc.error, match="32 buffers; Metal has slots for 31"):
        square(1, *[4] * 32)


def test_a_buffer_of_another_device_is_refused(device: mc.Device) -> None:
    with pytest.raises(mc.error, match="square: a buffer of another device"):
        device.kernel(SQUARE).function("square")(1, mc.Device().buffer(4), 4, 4)


def test_an_unknown_function_and_device_are_errors(device: mc.Device) -> None:
    with pytest.raises(mc.error, match="Function not found"):
        device.kernel(SQUARE).function("cube")
    with pytest.raises(mc.error, match="Device not found"):
        mc.Device(1)


def test_devices_are_listed() -> None:
    [info] = mc.get_devices()
    assert info.deviceName.startswith("refsam emulator")
    assert info.deviceName in str(mc.Device(0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"simd_width": 20}, "simd_width is 20"),
        ({"group_size": 2048}, "group_size is 2048"),
        ({"group_size": 16}, "group_size is 16"),
        ({"noise": 1, "fast_math": False}, "noise needs fast_math"),
        ({"seed": -1}, "seed is -1"),
        ({"threads": 0}, "threads is 0"),
        ({"step_limit": 0}, "step_limit is 0"),
    ],
)
def test_options_without_sense_are_named(options: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        mc.Device(**options)


def test_threads_are_as_many_as_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(THREADS_VARIABLE, "3")
    assert [mc.Device(**options).options.workers for options in ({}, {"threads": 2}, {"checked": True})] == [3, 2, 1]


def test_errors_are_refsams() -> None:
    assert issubclass(mc.error, RefsamError)


def test_many_threads_use_kernels_of_one_device(device: mc.Device) -> None:
    function = device.kernel(SQUARE).function("square")
    failures = []

    def work(number: int) -> None:
        x = np.full(3000, number, np.float32)
        y = device.buffer(x.nbytes)
        for _ in range(3):
            function(x.size, x, y, np.uint32(x.size))
            if not (np.frombuffer(y, np.float32) == number * number).all():
                failures.append(number)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert failures == []


def test_missed_barriers_are_an_error_in_fast_mode_too() -> None:
    source = HEAD + (
        "kernel void k(device uint *y [[buffer(0)]], uint t [[thread_index_in_threadgroup]])"
        "{ if (t < 7) threadgroup_barrier(mem_flags::mem_device); y[t] = t; }"
    )
    device = mc.Device(group_size=64, threads=1)
    with pytest.raises(mc.error, match="k: group 0: 7 of 64 threads wait at a barrier that the others never reach"):
        device.kernel(source).function("k")(64, 256)


def test_warnings_of_the_compiler_are_kept() -> None:
    source = HEAD + "kernel void k(device float *y [[buffer(0)]], uint t [[thread_position_in_grid]]) { float v; y[t] = v; }"
    assert "program_source:3:" in mc.Device().kernel(source).warnings
    assert mc.Device().kernel(SQUARE).warnings == ""


INTERRUPTED = f"""
import os, signal, threading
from refsam import emulator
square = emulator.Device(threads=2, group_size=64).kernel({SQUARE!r}).function("square")
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background of a script ignores it
threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    for _ in range(60):  # a run takes a second; the timer may be late
        square(1 << 30, 4, 4, 4)
except KeyboardInterrupt:
    square(1, 4, 4, 4)
    print("interrupted")
"""


def test_ctrl_c_ends_a_run_and_not_python() -> None:
    ended = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "interrupted\n"), ended.stderr


WITHOUT_SLOTS = (
    HEAD
    + """
kernel void add_arrays(device const float* a, device const float* b, device float* result, constant float &scale,
                       uint index [[thread_position_in_grid]]) {
    result[index] = scale * (a[index] + b[index]);
}
"""
)


def test_buffers_without_attributes_have_the_slots_of_their_order() -> None:
    device = mc.Device(group_size=32, threads=1)
    a, result = np.arange(32, dtype=np.float32), device.buffer(128)
    device.kernel(WITHOUT_SLOTS).function("add_arrays")(32, a, 2 * a, result, np.float32(0.5))
    np.testing.assert_array_equal(np.frombuffer(result, np.float32), 1.5 * a)
