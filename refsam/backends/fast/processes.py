"""Helper processes instead of threads, for the encoder and for many prompts. Threads that compute in NumPy meet at Python's lock
after each of its calls; processes have a lock each.

What a task reads and writes lies in memory that all processes map (arena.py), so that an order says only which function to call
and where the arrays are. All tasks of a step are one order; a pipe hands them out one by one. Helpers are started, not forked: a
fork would not survive in a program that has threads. Where they cannot be used (they are not up yet, or ended; another thread
uses them; this is a fork of the process that has them), threads do the same tasks and get the same bits.
"""

import contextlib
import io
import json
import os
import pickle
import subprocess
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Concatenate, NamedTuple

import numpy as np

from refsam.backends.fast.arena import Arena, Place, nameless_file
from refsam.backends.fast.helper import DONE, TICKET, Tickets, array_at
from refsam.backends.fast.scratch import Scratch
from refsam.backends.fast.workers import P, Workers, work
from refsam.errors import BackendUnavailable
from refsam.types import Array, Float

SIZE = 1 << 30
"""Bytes of the shared block, of which what is used takes memory: some 80 MB for MobileSAM, weights included."""

MOST_TASKS = 4096
"""In an order: their tickets fit into a pipe, whose least size is 16 KiB."""

START = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from refsam.backends.fast.helper import main
main(*sys.argv[2:])
"""

ONE_THREAD = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
"""Variables by which BLAS need not start threads that would have nothing to do."""


class Helper(NamedTuple):
    """A process, and the connection by which it gets orders and answers."""

    process: subprocess.Popen[bytes]
    connection: Connection


class NotShared(Exception):
    """An array is not in shared memory and may change."""


class ProcessWorkers(Workers):
    """The caller's thread and `threads - 1` helper processes where arrays are in shared memory, else threads.

    Raises BackendUnavailable where no helpers can be started.
    """

    def __init__(self, threads: int | None = None) -> None:
        super().__init__(threads)
        self._owner = os.getpid()
        self._helpers: list[Helper] = []
        self._started = False
        self._turn = threading.Lock()
        self._thread: int | None = None  # that has its turn
        self._constants: dict[int, tuple[Place, Array, Array]] = {}
        if self.threads > 1:
            self._start()

    def _start(self) -> None:
        check_interpreter()
        try:
            self._arena = Arena(nameless_file(SIZE), SIZE)
            self._tickets, self._counter = os.pipe()
            os.set_blocking(self._tickets, False)
            weakref.finalize(self, end, self._owner, self._helpers, (self._tickets, self._counter, self._arena.file))
            self._helpers += [start_helper(self._tickets, self._arena) for _ in range(self.threads - 1)]
        except OSError as error:
            raise BackendUnavailable(f"helper processes cannot be started here ({error}); use backend 'fast'") from error

    @contextlib.contextmanager
    def sharing(self) -> Iterator[bool]:
        """The caller's turn to use the helpers, if it is free and they are up; the value says so. Within it `empty` is shared
        memory and `map` uses the helpers."""
        if os.getpid() != self._owner or not self._turn.acquire(blocking=False):
            yield False
            return
        try:
            self._thread = threading.get_ident() if self._are_up() else None
            yield self._thread is not None
        finally:
            self._thread = None
            self._turn.release()

    def empty(self, *shape: int) -> Float[Array, "*N"]:
        """See Workers."""
        found = self._arena.empty(*shape) if self._is_sharing() else None
        return super().empty(*shape) if found is None else found

    def seen(self, x: Float[Array, "*N"]) -> Float[Array, "*N"]:
        """See Workers. A repeated array, of no stride along an axis, is copied once."""
        if not self._is_sharing():
            return x
        once = x[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in x.strides)]
        copy = self.empty(*once.shape)
        copy[...] = once
        return np.broadcast_to(copy, x.shape)

    def map(self, task: Callable[Concatenate[Scratch, P], None], arguments: Sequence[tuple[object, ...]]) -> None:
        """See Workers. A task may be done twice, where a helper was lost in the middle of it."""
        if not (self._is_sharing() and len(arguments) > 1 and self._map_shared(task, arguments)):
            super().map(task, arguments)

    def wait_until_up(self, seconds: float) -> bool:
        """Wait for the helpers to have started; whether they have."""
        for helper in self._helpers:
            helper.connection.poll(seconds)
        return self._are_up()

    def _is_sharing(self) -> bool:
        return self._thread == threading.get_ident()

    def _are_up(self) -> bool:
        if not self._started and all(helper.connection.poll(0) for helper in self._helpers):
            self._started = True
            if len(_answers(self._helpers)) < len(self._helpers):
                self._give_up()
        return self._started and bool(self._helpers)

    def _map_shared(self, task: Callable[..., None], arguments: Sequence[tuple[object, ...]]) -> bool:
        """Whether all tasks were done: not where they cannot be written down, or where a helper was lost."""
        if not self._helpers or len(arguments) > MOST_TASKS:
            return False
        try:
            order = self._order(task, arguments)
        except (NotShared, pickle.PicklingError, AttributeError, TypeError):
            return False
        tickets = Tickets(self._tickets, arguments)
        try:
            os.write(self._counter, b"".join(number.to_bytes(TICKET, "little") for number in range(len(arguments))))
            answers = self._done(task, tickets, order)
        except Exception:  # of a task
            raise
        except (
            BaseException
        ):  # of who wants to stop, at any moment: an answer left unread would be taken for that to another order
            self._give_up()
            raise
        finally:
            tickets.stop()  # some are left where no process went on
        if len(answers) < len(self._helpers):
            self._give_up()
            return False
        for answer in answers:
            if answer != DONE:
                raise pickle.loads(answer)  # from a process of ours
        return True

    def _done(self, task: Callable[..., None], tickets: Tickets, order: bytes) -> list[bytes]:
        """Do the tasks together; the answers of the helpers that are not lost."""
        asked = [helper for helper in self._helpers if _send(helper, order)]
        try:
            work(task, tickets)
        finally:
            answers = _answers(asked)
        return answers

    def _order(self, task: Callable[..., None], arguments: Sequence[tuple[object, ...]]) -> bytes:
        written = io.BytesIO()
        _Pickler(written, self._place).dump((task, list(arguments)))
        return written.getvalue()

    def _place(self, array: Array) -> Place:
        """Of the array where it is shared, else of the shared copy of one that does not change: of weights."""
        place = self._arena.place(array)
        if place is not None:
            return place
        if id(array) not in self._constants:
            constant = array.flags.c_contiguous and not array.flags.writeable and array.dtype == np.float32
            copy = self._arena.empty(*array.shape) if constant else None
            place = None if copy is None else self._arena.place(copy)
            if copy is None or place is None:
                raise NotShared
            copy[...] = array
            self._constants[id(array)] = place, copy, array  # which is kept, so that no other array gets its number
        return self._constants[id(array)][0]

    def _give_up(self) -> None:
        codes = ", ".join(map(str, end(self._owner, self._helpers)))
        warnings.warn(f"a helper process of refsam ended (exit codes {codes}); threads compute from here on", RuntimeWarning, 2)


class _Pickler(pickle.Pickler):
    """Writes for an array where it is."""

    def __init__(self, file: io.BytesIO, place: Callable[[Array], Place]) -> None:
        super().__init__(file, protocol=5)
        self.place = place

    def reducer_override(self, thing: Any) -> Any:
        return (array_at, self.place(thing)) if isinstance(thing, np.ndarray) else NotImplemented


def check_interpreter() -> None:
    """Raises BackendUnavailable where this program cannot start Python again."""
    name = Path(sys.executable or "").name
    if sys.platform == "win32":
        raise BackendUnavailable(f"helper processes need Linux or macOS, and this is {sys.platform}; use backend 'fast'")
    if getattr(sys, "frozen", False) or not name.lower().startswith("python"):
        raise BackendUnavailable(
            f"helper processes need a Python to start, and this program is {sys.executable!r}; use backend 'fast'"
        )


def start_helper(tickets: int, arena: Arena) -> Helper:
    """Start one; it says DONE when it is up. Raises OSError where the system does not let it."""
    connection, theirs = Pipe()
    files = (theirs.fileno(), tickets, arena.file)
    arguments = [json.dumps([*map(str, sys.path)]), *map(str, files), str(arena.size)]
    environment = os.environ | dict.fromkeys(ONE_THREAD, "1")
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", START, *arguments], pass_fds=files, env=environment, stdin=subprocess.DEVNULL
        )
    return Helper(process, connection)


def end(owner: int, helpers: list[Helper], files: Sequence[int] = ()) -> list[int | None]:
    """End the helpers, forget them, close files; the exit codes. A fork of their owner leaves them alone."""
    codes: list[int | None] = []
    for helper in helpers:
        helper.connection.close()  # at which it ends, unless a fork keeps the connection open
        if os.getpid() == owner:
            try:
                codes.append(helper.process.wait(1))
            except subprocess.TimeoutExpired:
                helper.process.kill()
                codes.append(helper.process.wait())
    helpers.clear()
    for file in files:
        os.close(file)
    return codes


def _answers(helpers: Sequence[Helper]) -> list[bytes]:
    """One of each helper that is not lost."""
    answers = []
    for helper in helpers:
        with contextlib.suppress(EOFError, OSError):
            answers.append(helper.connection.recv_bytes())
    return answers


def _send(helper: Helper, order: bytes) -> bool:
    try:
        helper.connection.send_bytes(order)
    except OSError:
        return False
    return True
