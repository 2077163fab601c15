"""A setting of the whole process that is another one while any thread needs it so: BLAS on one thread, warnings silenced."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class SharedSetting:
    """The first thread in changes it, the last one out restores what the host had. May be nested.

    In the child of a fork only the thread that forked is counted: the others are not there and will never leave.

    Args:
        change, restore: what the first in and the last out calls; never two at once.
    """

    def __init__(self, change: Callable[[], None], restore: Callable[[], None]) -> None:
        self._change, self._restore = change, restore
        self._lock = threading.RLock()  # a signal may come while it is held, and its handler needs the setting too
        self._depth = 0
        self._own = threading.local()
        if hasattr(os, "register_at_fork"):
            # The child gets the lock as it is, but not the thread that holds it: so the one that forks takes it before.
            release = self._lock.release
            os.register_at_fork(before=self._lock.acquire, after_in_parent=release, after_in_child=self._forget_other_threads)

    def enter(self) -> None:
        """Count the calling thread in."""
        with self._lock:
            if self._depth == 0:
                self._change()
            self._count(1)

    def leave(self) -> None:
        """Count it out, as often as in."""
        with self._lock:
            self._count(-1)
            if self._depth == 0:
                self._restore()

    @contextmanager
    def changed(self) -> Iterator[None]:
        """Within this block it is changed."""
        self.enter()
        try:
            yield
        finally:
            self.leave()

    def _count(self, by: int) -> None:
        self._depth += by
        self._own.depth = getattr(self._own, "depth", 0) + by

    def _forget_other_threads(self) -> None:
        try:
            others = self._depth - getattr(self._own, "depth", 0)
            self._depth -= others
            if others and self._depth == 0:
                self._restore()
        finally:
            self._lock.release()
