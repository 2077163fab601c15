"""The fast backend as operations: what it replaces, and the threads that it does that with."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from refsam.backends.fast import (  # noqa: F401 - they register their replacements
    blocks,
    convolutions,
    decoder,
    encoder,
    neck,
    operations,
    patches,
    pictures,
    upsampling,
)
from refsam.backends.fast.registry import REPLACEMENTS
from refsam.backends.fast.workers import Workers
from refsam.ops import Ops
from refsam.types import Array

SHARED = ("linear", "layer_norm", "gelu", "attention", "depthwise_conv2d", "batch_norm")
"""Operations whose parts the threads share."""


class FastOps(Ops):
    """Tiled, threaded NumPy.

    Args:
        threads: how many; None for $REFSAM_THREADS, else the CPUs that this process may use.
        processes: whether encoder and many prompts run on as many processes instead; BackendUnavailable where they cannot.

    Numerics: float32 within twice torch's own rounding error of the embedding (docs/fast.md); the same bits for any number of
    threads. A model in float64 runs on the definition, and so does a function inside which a stage is traced; the threads then
    share its operations.
    """

    def __init__(self, threads: int | None = None, processes: bool = False) -> None:
        self.workers = _processes(threads) if processes else Workers(threads)
        for name in SHARED:
            setattr(self, name, partial(_in_float32, getattr(operations, name), getattr(Ops, name), self.workers))

    def replacement(self, name: str) -> Callable[..., Any] | None:
        """See Ops."""
        found = REPLACEMENTS.get(name)
        return None if found is None else partial(found, self.workers)


def _processes(threads: int | None) -> Workers:
    from refsam.backends.fast.processes import ProcessWorkers  # here, because it takes 10 ms that threads can do without

    return ProcessWorkers(threads)


def _in_float32(
    shared: Callable[..., Array], definition: Callable[..., Array], workers: Workers, x: Array, *arguments: Any, **options: Any
) -> Array:
    return shared(workers, x, *arguments, **options) if x.dtype == np.float32 else definition(x, *arguments, **options)
