"""A helper process: it does tasks of the process that started it (processes.py), on arrays in memory that both have.

    python -c START PATHS CONNECTION TICKETS ARENA SIZE

It answers each order, a pickled (task, arguments), when no tickets are left; and ends when nobody is there to give orders.
"""

import os
import pickle
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection

from refsam.backends.fast.arena import Arena
from refsam.backends.fast.workers import work
from refsam.types import Array

TICKET = 2
"""Bytes of a ticket."""

DONE = b""
"""The answer to an order, and the first word of a helper that has started; anything else is a pickled exception."""

_arena: Arena | None = None


class Tickets:
    """The numbers of the tasks to do, in a pipe that all processes read: who reads a number does that task.

    Args:
        file: the pipe's end to read, which does not block.
        arguments: of all tasks.
    """

    def __init__(self, file: int, arguments: Sequence[tuple[object, ...]] = ()) -> None:
        self.file, self.arguments = file, arguments

    def __iter__(self) -> Iterator[tuple[object, ...]]:
        while (number := self._next()) is not None:
            yield self.arguments[number]

    def stop(self) -> None:
        """Take all that are left and do nothing about them."""
        while self._next() is not None:
            pass

    def _next(self) -> int | None:
        try:
            ticket = os.read(self.file, TICKET)
        except BlockingIOError:
            return None
        return int.from_bytes(ticket, "little") if ticket else None


def array_at(start: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> Array:
    """An array of the order that is being read."""
    assert _arena is not None, "orders are read by helper processes"
    return _arena.at((start, shape, strides))


def obey(order: bytes, tickets: int) -> bytes:
    """Do tasks of an order while there are tickets."""
    try:
        task, arguments = pickle.loads(order)  # from the process that started this one
        work(task, Tickets(tickets, arguments))
    except BaseException as error:
        Tickets(tickets).stop()
        return _pickled(error)
    return DONE


def _pickled(error: BaseException) -> bytes:
    try:
        pickled = pickle.dumps(error)
        pickle.loads(pickled)
    except Exception:
        return pickle.dumps(RuntimeError(f"{type(error).__name__}: {error}"))
    return pickled


def main(connection: str, tickets: str, arena: str, size: str) -> None:
    """Work until the connection ends. The numbers are open files, and the size of the shared memory."""
    global _arena
    _arena = Arena(int(arena), int(size))
    with Connection(int(connection)) as orders:
        try:
            orders.send_bytes(DONE)
            while True:
                orders.send_bytes(obey(orders.recv_bytes(), int(tickets)))
        except (EOFError, ConnectionError):
            return
