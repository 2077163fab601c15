"""The registry of backends: each is a set of operations that the model can run on.

"reference" is the definition itself, on one thread: readable and reproducible. "fast", the default, is tiled and threaded NumPy,
and "processes" the same on processes; "metal" and "emulator" run the kernels. All are held against the definition.
"""

from collections.abc import Callable
from typing import Any

from refsam.errors import InputError
from refsam.ops import Ops


def _reference(threads: int | None) -> Ops:  # noqa: ARG001 - the definition computes on one
    return Ops()


def _fast(threads: int | None) -> Ops:
    from refsam.backends.fast import FastOps

    return FastOps(threads)


def _processes(threads: int | None) -> Ops:
    from refsam.backends.fast import FastOps

    return FastOps(threads, processes=True)


def _metal(threads: int | None) -> Ops:  # noqa: ARG001 - a GPU has its own
    return _on_kernels("metal")


def _emulator(threads: int | None) -> Ops:
    return _on_kernels("emulator", threads=threads)


def _on_kernels(device: str, **options: Any) -> Ops:
    from refsam.backends.metal import MetalOps
    from refsam.metal.device import open_device
    from refsam.metal.runner import Runner

    return MetalOps(Runner(open_device(device, **options)))


BACKENDS: dict[str, Callable[[int | None], Ops]] = {
    "emulator": _emulator,
    "fast": _fast,
    "metal": _metal,
    "processes": _processes,
    "reference": _reference,
}


def create(name: str, threads: int | None = None) -> Ops:
    """The operations of the backend of this name, on this many threads.

    Raises InputError for an unknown one, BackendUnavailable where what it needs is not installed.
    """
    if name not in BACKENDS:
        raise InputError(f"backend is {name!r}; there are: {', '.join(sorted(BACKENDS))}")
    return BACKENDS[name](threads)
