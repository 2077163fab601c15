"""What the machine can do with NumPy's BLAS and with its memory: the roof of the roofline."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from benchmarks.contenders.common import Run, blas

SGEMM_SIDE = 2048
STREAM_ELEMENTS = 1 << 25
"""Of each of three float32 arrays, 128 MiB: beyond any cache."""


class Machine:
    """Rows `machine/sgemm` and `machine/bandwidth`."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.threads: int = settings["threads"]
        self.notes: dict[str, Any] = {}

    def versions(self) -> dict[str, str]:
        """Of NumPy and its BLAS."""
        return {"numpy": np.__version__, "blas": blas()}

    def machine(self, what: str) -> Run:
        """`what` is sgemm or bandwidth."""
        return self._sgemm() if what == "sgemm" else self._bandwidth()

    def _sgemm(self) -> Run:
        from threadpoolctl import threadpool_limits

        a, b = np.random.default_rng(0).standard_normal((2, SGEMM_SIDE, SGEMM_SIDE), np.float32)
        out = np.empty_like(a)
        self.notes["macs"] = SGEMM_SIDE**3
        threadpool_limits(self.threads, "blas")  # for the rest of this process
        return lambda: np.matmul(a, b, out=out)

    def _bandwidth(self) -> Run:
        """a + b -> c, each thread its own part; three streams are counted."""
        a, b, c = np.ones((3, self.threads, STREAM_ELEMENTS // self.threads), np.float32)
        self.notes["bytes"] = 3 * a.nbytes
        pool = ThreadPoolExecutor(self.threads)
        return lambda: list(pool.map(np.add, a, b, c))
