"""The fast backend as operations: what it replaces, and the threads that it does that with."""

from collections.abc import Callable
from functools import partial
from typing import Any

from refsam.backends.fast import (  # noqa: F401 - they register their replacements
    blocks,
    convolutions,
    decoder,
    neck,
    patches,
    pictures,
    upsampling,
)
from refsam.backends.fast.registry import REPLACEMENTS
from refsam.backends.fast.workers import Workers
from refsam.ops import Ops


class FastOps(Ops):
    """Tiled, threaded NumPy.

    Args:
        threads: how many; None for $REFSAM_THREADS, else the CPUs that this process may use.

    Numerics: float32 within twice torch's own rounding error of the embedding (docs/fast.md); the same bits for any number of
    threads. A model in float64 runs on the definition.
    """

    def __init__(self, threads: int | None = None) -> None:
        self.workers = Workers(threads)

    def replacement(self, name: str) -> Callable[..., Any] | None:
        """See Ops."""
        found = REPLACEMENTS.get(name)
        return None if found is None else partial(found, self.workers)
