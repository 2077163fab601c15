"""BLAS on one thread while the model computes, so that the same input gives the same bits on any number of cores.

A matrix product that BLAS splits over threads may sum in another order. threadpoolctl reaches OpenBLAS, MKL and BLIS; Apple's
Accelerate has no such switch, so there the bits are those that Accelerate gives.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from refsam.shared_setting import SharedSetting


class _SingleThread:
    """Most libraries have one setting for the process: the first caller in sets it, the last one out restores what the host had.
    OpenBLAS on OpenMP has one for each thread: every caller sets and restores its own.
    """

    def __init__(self) -> None:
        self.setting = SharedSetting(self._limit, self._restore)
        self.of_process: Any = None
        self.of_thread: Any = None
        self.limiter: Any = None

    def enter(self) -> Any:
        self.setting.enter()
        return self.of_thread.limit(limits=1, user_api="blas")

    def leave(self, own: Any) -> None:
        own.restore_original_limits()
        self.setting.leave()

    def _limit(self) -> None:
        if self.of_process is None:
            self._find_libraries()
        self._take_control()
        self.limiter = self.of_process.limit(limits=1, user_api="blas")

    def _restore(self) -> None:
        self._take_control()
        self.limiter.restore_original_limits()
        self._take_control()

    def _find_libraries(self) -> None:
        """Once: it looks through all loaded libraries, which takes 10 ms."""
        from threadpoolctl import ThreadpoolController

        libraries = ThreadpoolController().select(user_api="blas")
        self.of_thread = libraries.select(internal_api="openblas").select(threading_layer="openmp")
        per_thread = {library.filepath for library in self.of_thread.lib_controllers}
        self.of_process = libraries.select(
            filepath=[x.filepath for x in libraries.lib_controllers if x.filepath not in per_thread]
        )

    def _take_control(self) -> None:
        """threadpoolctl 3.8 lets only the first thread that ever set OpenBLAS's number set it again, and ignores others: the last
        one out would restore nothing. Here the setting's lock keeps callers apart, and afterwards anyone may take control again.
        """
        for library in self.of_process.lib_controllers:
            if hasattr(library, "clear_controlling_thread"):
                library.clear_controlling_thread(force=True)


_single_thread = _SingleThread()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Within this block NumPy's matrix products run on the calling thread alone. May be nested and used by several threads."""
    own = _single_thread.enter()
    try:
        yield
    finally:
        _single_thread.leave(own)
