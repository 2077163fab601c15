"""Helper processes instead of threads, for the encoder and for many prompts. Threads that compute in NumPy meet at Python's lock
after each of its calls; processes have a lock each.

What a task reads and writes lies in memory that all processes map (arena.py), so that an order says only which function to call
and where the arrays are. All tasks of a step are one order; a pipe hands them out one by one. Helpers are started, not forked: a
fork would not survive in a program that has threads. Where they cannot be used (they are not up yet, or ended; another thread
uses them; this is a fork of the process that has them), threads do the same tasks and get the same bits. Where they were
interrupted they are started anew: an answer that was not read would be taken for that to the next order.
"""

import contextlib
import io
import json
import os
import pickle
import socket
import subprocess
import sys
import threading
import time
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
"""Bytes of the shared block. What was used of it once is memory until the model is gone: some 80 MB for MobileSAM's encoder, and
0.8 MB for each of the most prompts that were decoded at once."""

MOST_TASKS = 2048
"""In an order: their tickets fit into a pipe, which has a page at least."""

START = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from refsam.backends.fast.helper import main
main(*sys.argv[2:])
"""

ONE_THREAD = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
"""Variables by which BLAS need not start threads that would have nothing to do."""

PATIENCE = 5.0
"""Seconds for all helpers to end before they are killed."""


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
        self._files: list[int] = []
        self._started = False  # whether all helpers have said that they are up
        self._owing = False  # whether an answer may not have been read
        self._turn = threading.Lock()
        self._thread: int | None = None  # that has its turn
        self._constants: dict[int, tuple[Place, Array]] = {}  # by the number of the array: place and owner of its copy
        if self.threads > 1:
            check_interpreter()
            weakref.finalize(self, end, self._owner, self._helpers, self._files)
            try:
                self._files.append(nameless_file(SIZE))
                self._files += os.pipe()
                self._arena = Arena(self._files[0], SIZE)
                self._start()
            except OSError as error:
                end(self._owner, self._helpers, self._files)
                raise BackendUnavailable(f"helper processes cannot be started here ({error}); use backend 'fast'") from error

    def _start(self) -> None:
        arena, self._tickets, self._counter = self._files
        os.set_blocking(self._tickets, False)
        self._started = self._owing = False
        for _ in range(self.threads - 1):
            self._helpers.append(start_helper(self._tickets, arena))

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
        copy = self._arena.empty(*once.shape)
        if copy is None:
            return x
        copy[...] = once
        return np.broadcast_to(copy, x.shape)

    def map(self, task: Callable[Concatenate[Scratch, P], None], arguments: Sequence[tuple[object, ...]]) -> None:
        """See Workers. A task may be done twice, where a helper was lost in the middle of it."""
        if not (self._is_sharing() and len(arguments) > 1 and self._map_shared(task, arguments)):
            super().map(task, arguments)

    def wait_until_up(self, seconds: float) -> bool:
        """Wait for the helpers to have started; whether they have."""
        with self._turn:
            for helper in self._helpers if not self._started else ():  # later they speak when they are asked
                helper.connection.poll(seconds)
            return self._are_up()

    def _is_sharing(self) -> bool:
        return self._thread == threading.get_ident() and os.getpid() == self._owner

    def _are_up(self) -> bool:
        if self._owing:
            end(self._owner, self._helpers)
            Tickets(self._tickets).stop()
            with contextlib.suppress(OSError):  # with as many as there can be
                self._start()
        if not self._started and all(helper.connection.poll(0) for helper in self._helpers):
            self._owing = True
            complete = len(_answers(self._helpers)) == len(self._helpers)
            self._started, self._owing = True, False
            if not complete:
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
        self._owing = True
        os.write(self._counter, b"".join(number.to_bytes(TICKET, "little") for number in range(len(arguments))))
        asked = [helper for helper in self._helpers if _send(helper, order)]
        try:
            work(task, tickets)
        finally:
            answers = _answers(asked)
            tickets.stop()  # some are left where no process went on
            self._owing = False
        if len(answers) < len(self._helpers):
            self._give_up()
            return False
        for answer in answers:
            if answer != DONE:
                raise pickle.loads(answer)  # from a process of ours
        return True

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
            self._constants[id(array)] = place, copy
            weakref.finalize(array, self._constants.pop, id(array))  # before another array may get that number
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


def start_helper(tickets: int, arena: int) -> Helper:
    """Start one; it says DONE when it is up. Raises OSError where the system does not let it."""
    connection, theirs = Pipe()
    files = (theirs.fileno(), tickets, arena)
    command = [sys.executable, "-I", "-c", START, json.dumps([*map(str, sys.path)]), *map(str, files), str(SIZE)]
    environment = os.environ | dict.fromkeys(ONE_THREAD, "1")
    with theirs:  # a session of its own, since a console's Ctrl-C goes to all processes of one
        process = subprocess.Popen(command, pass_fds=files, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)
    return Helper(process, connection)


def end(owner: int, helpers: list[Helper], files: list[int] | None = None) -> list[int]:
    """End the helpers and close the files, and forget both; the exit codes. A fork of their owner leaves the helpers alone."""
    for helper in helpers:
        if os.getpid() == owner:
            _hang_up(helper.connection)
        helper.connection.close()
    until = time.monotonic() + PATIENCE
    codes = []
    for helper in helpers if os.getpid() == owner else ():
        try:
            codes.append(helper.process.wait(max(0.01, until - time.monotonic())))
        except subprocess.TimeoutExpired:
            helper.process.kill()
            codes.append(helper.process.wait())
    helpers.clear()
    while files:
        os.close(files.pop())
    return codes


def _hang_up(connection: Connection) -> None:
    """End a connection, at which its helper ends, also where a fork of this process keeps it open."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as ours:
        ours.shutdown(socket.SHUT_RDWR)


def _answers(helpers: Sequence[Helper]) -> list[bytes]:
    """One of each helper that is not lost."""
    answers = []
    for helper in helpers:
        with contextlib.suppress(EOFError, ConnectionError):
            answers.append(helper.connection.recv_bytes())
    return answers


def _send(helper: Helper, order: bytes) -> bool:
    try:
        helper.connection.send_bytes(order)
    except ConnectionError:
        return False
    return True
