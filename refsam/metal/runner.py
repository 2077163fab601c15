"""The only caller of kernels. It gives a device what it asks for and no more, and believes nothing that it has not seen.

metalcompute checks neither types nor numbers of arguments, and never looks at what became of a run: a GPU fault, a refused
dispatch or a group that is too small leave old memory in place and raise nothing. Two runs in flight race in its own lists.
Hence: every argument is held against the kernel's own signature; every output is filled with a pattern before the run and has to
be free of it afterwards; a kernel with a known answer runs first; a lock lets one run at a time through, and its handle is
dropped, which waits for it, before the next one begins.
"""

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from refsam.errors import BackendUnavailable, InputError, KernelError
from refsam.metal import sources
from refsam.metal.definitions import CANARY, canary
from refsam.metal.device import Device, Function, Kernel
from refsam.metal.signature import Argument, arguments, layout, numbers, pack
from refsam.types import Array, Bool

PATTERNS = (0xA5, 0x5A)
"""Bytes that outputs are filled with. A word of a result that is one of them by chance is not the other in a second run."""

POOL_BYTES = 1 << 30
"""Buffers that are kept for the next runs; of more, those unused for longest go."""

MAX_THREADS = 1 << 31


class Output(NamedTuple):
    """An array that the kernel writes whole."""

    shape: tuple[int, ...]
    dtype: Any = np.float32


class Call(NamedTuple):
    """A kernel with all that it needs: one value for each buffer."""

    function: Function
    kernel: str
    signature: list[Argument]
    values: list[Any]
    threads: int


class Runner:
    """Runs kernels on one device.

    Args:
        device: see `open_device`.
        folder: where the .metal files are, by default this installation's.
        most_threads: dispatch no more than that, rounded up to a whole group: our kernels have to be right with any number.

    Raises KernelError where the device does not give the known answer.
    """

    def __init__(self, device: Device, folder: Path | None = None, most_threads: int | None = None) -> None:
        self.device = device
        self.most_threads = most_threads
        self.folder = folder or sources.folder()
        self._files = sources.kernel_files(self.folder)
        self._compiled: dict[Path, tuple[str, Kernel]] = {}
        self._pool = BufferPool(device)
        self._lock = threading.Lock()
        self._ask_for_known_answer()

    def run(self, kernel: str, values: Sequence[Any], params: Mapping[str, Any], threads: int) -> Array:
        """The one output of one of our kernels.

        Args:
            kernel: its name.
            values: for each buffer but the last an array, or an `Output`.
            params: fields of the struct in the last buffer.
            threads: how many at least; the device rounds up to whole groups.

        Raises InputError where a value does not fit the kernel's signature; KernelError where the compiler refuses the kernel,
        the device fails, or leaves some of the output as it was.
        """
        if kernel not in self._files:
            raise InputError(f"there is no kernel {kernel!r}; there are: {', '.join(sorted(self._files))}")
        source, compiled = self._compile(self._files[kernel])
        signature = arguments(source, kernel)
        packed = pack(source, signature[-1].type, params)
        if self.most_threads is not None:
            threads = min(threads, self.most_threads)
        (result,) = self.launch(source, compiled, kernel, [*values, packed], threads).values()
        return result

    def launch(
        self, source: str, compiled: Kernel, kernel: str, values: Sequence[Any], threads: int, *, whole: bool = True
    ) -> dict[int, Array]:
        """Run any kernel of a compiled source: buffer index -> what is in each writable buffer afterwards.

        `values` are arrays, `Output`s, or bytes for a reference. Unless `whole`, an output may be left in part as it was.
        """
        signature = arguments(source, kernel)
        _check(kernel, signature, values, threads)
        call = Call(self._function(compiled, kernel), kernel, signature, list(values), threads)
        suspects: dict[int, Bool[Array, " N"]] = {}
        for pattern in PATTERNS:
            results = self._once(call, pattern)
            untouched = {i: _untouched(x, pattern) for i, x in results.items() if isinstance(values[i], Output)}
            suspects = {i: suspects.get(i, True) & words for i, words in untouched.items()}
            if not whole or not any(words.any() for words in suspects.values()):
                return results
        index, count = next((i, np.count_nonzero(words)) for i, words in suspects.items() if words.any())
        raise KernelError(
            f"kernel {kernel} on {threads} threads left {count} of {results[index].nbytes // 4} words of buffer {index}"
            f" ({signature[index].name}) as they were: the device did not run it, or not all of it, and told nobody"
        )

    def compile(self, source: str) -> Kernel:
        """Compile any source. Raises KernelError with the compiler's messages."""
        try:
            return self.device.kernel(source)
        except (BackendUnavailable, InputError):
            raise  # there is no compiler, or no folder for what it makes
        except Exception as error:  # metalcompute.error and its twin have no common base
            raise _kernel_error("the compiler refuses this kernel", error) from error

    def compile_all(self) -> None:
        """Compile every file of the folder now, so that no later run does."""
        for path in sorted(set(self._files.values())):
            self._compile(path)

    def _compile(self, path: Path) -> tuple[str, Kernel]:
        if path not in self._compiled:
            source = sources.read(path)
            self._compiled[path] = (source, self.compile(source))
        return self._compiled[path]

    @staticmethod
    def _function(compiled: Kernel, kernel: str) -> Function:
        try:
            return compiled.function(kernel)
        except Exception as error:
            raise _kernel_error(f"kernel {kernel} cannot be made ready", error) from error

    def _once(self, call: Call, pattern: int) -> dict[int, Array]:
        """One run, alone on the device."""
        with self._lock:
            buffers = [self._filled(value, pattern) for value in call.values]
            try:
                handle = call.function(call.threads, *buffers)
                del handle  # waits until the run is over
            except Exception as error:
                raise _kernel_error(f"kernel {call.kernel}", error) from error
            results = {
                argument.index: _copy(buffer, value, argument)
                for argument, buffer, value in zip(call.signature, buffers, call.values, strict=True)
                if argument.writable
            }
            for buffer, value in zip(buffers, call.values, strict=True):
                self._pool.give(buffer, _nbytes(value))
            return results

    def _filled(self, value: Any, pattern: int) -> Any:
        buffer = self._pool.take(_nbytes(value))
        memory = np.frombuffer(buffer, np.uint8)
        if isinstance(value, Output):
            memory[:] = pattern
        else:
            memory[:] = np.frombuffer(value, np.uint8)
        return buffer

    def _ask_for_known_answer(self) -> None:
        if "canary" not in self._files:
            return  # a folder of somebody else's kernels
        size = CANARY["n"] + 8
        answer = self.run("canary", [Output((size,), np.uint32)], CANARY, CANARY["n"])
        wrong = np.flatnonzero(answer != canary(**CANARY))
        if wrong.size:
            raise KernelError(
                f"the device's answer to kernels/canary.metal is wrong in {wrong.size} of {size} words, first in word {wrong[0]}:"
                " it computes something else, or lays out parameters in another way"
            )


class BufferPool:
    """Buffers by their exact size, so that a kernel that leaves its buffer is seen by a device that looks."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._free: OrderedDict[int, list[Any]] = OrderedDict()
        self._bytes = 0

    def take(self, nbytes: int) -> Any:
        """One of this size; what is in it is whatever was."""
        free = self._free.get(nbytes)
        if not free:
            return self._device.buffer(nbytes)
        self._bytes -= nbytes
        return free.pop()

    def give(self, buffer: Any, nbytes: int) -> None:
        """It may be taken again."""
        self._free.setdefault(nbytes, []).append(buffer)
        self._free.move_to_end(nbytes)
        self._bytes += nbytes
        while self._bytes > POOL_BYTES:
            oldest, buffers = self._free.popitem(last=False)
            self._bytes -= oldest * len(buffers)


def _check(kernel: str, signature: Sequence[Argument], values: Sequence[Any], threads: int) -> None:
    """Raise InputError unless every value fits its buffer."""
    if len(values) != len(signature):
        raise InputError(f"kernel {kernel} has {len(signature)} buffers; {len(values)} are given")
    if not 0 < threads <= MAX_THREADS:
        raise InputError(f"kernel {kernel}: {threads} threads; there have to be 1 to {MAX_THREADS}")
    for argument, value in zip(signature, values, strict=True):
        what = f"kernel {kernel}, buffer {argument.index} ({argument.name})"
        if argument.is_struct:
            if not isinstance(value, bytes):
                raise InputError(f"{what} is a struct {argument.type}; give its bytes")
        elif isinstance(value, Output):
            if not argument.writable:
                raise InputError(f"{what} is read only; it cannot be an output")
        elif not isinstance(value, np.ndarray):
            raise InputError(f"{what} is an array; {type(value).__name__} is given")
        elif not value.flags.c_contiguous:
            raise InputError(f"{what}: the array is not contiguous in C order")
        if not argument.is_struct:
            _check_elements(what, argument, value)


def _check_elements(what: str, argument: Argument, value: Any) -> None:
    kind = layout(argument.type)
    if np.dtype(value.dtype) != kind.scalar:
        raise InputError(f"{what} has elements of {argument.type}; the array is {np.dtype(value.dtype)}")
    nbytes = _nbytes(value)
    if nbytes == 0 or nbytes % kind.size:
        raise InputError(f"{what}: {nbytes} bytes are not one or more elements of {argument.type} ({kind.size} bytes each)")


def _nbytes(value: Any) -> int:
    if isinstance(value, Output):
        return int(np.prod(value.shape, dtype=np.int64)) * np.dtype(value.dtype).itemsize
    return len(value) if isinstance(value, bytes) else value.nbytes


def _copy(buffer: Any, value: Any, argument: Argument) -> Array:
    if isinstance(value, bytes):
        return np.frombuffer(buffer, numbers(argument.type)).copy()
    return np.frombuffer(buffer, value.dtype).reshape(value.shape).copy()


def _untouched(result: Array, pattern: int) -> Bool[Array, " N"]:
    """Which words of 4 bytes still are the pattern; what is left at the end is one more."""
    raw = result.reshape(-1).view(np.uint8)
    whole = raw.size // 4 * 4
    words: Bool[Array, " N"] = raw[:whole].view(np.uint32) == pattern * 0x01010101
    rest = raw[whole:]
    return np.append(words, (rest == pattern).all()) if rest.size else words


def _kernel_error(what: str, error: Exception) -> KernelError:
    return KernelError(f"{what}: {error}")
