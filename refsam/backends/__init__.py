"""The registry of backends: each is a set of operations that the model can run on.

"reference" is the definition itself, on one thread: readable and reproducible. Faster ones are held against it.
"""

from collections.abc import Callable

from refsam.errors import InputError
from refsam.ops import Ops


def _reference(threads: int | None) -> Ops:  # noqa: ARG001 - the definition computes on one
    return Ops()


def _fast(threads: int | None) -> Ops:
    from refsam.backends.fast import FastOps

    return FastOps(threads)


BACKENDS: dict[str, Callable[[int | None], Ops]] = {"fast": _fast, "reference": _reference}


def create(name: str, threads: int | None = None) -> Ops:
    """The operations of the backend of this name, on this many threads. Raises InputError for an unknown one."""
    if name not in BACKENDS:
        raise InputError(f"backend is {name!r}; there are: {', '.join(sorted(BACKENDS))}")
    return BACKENDS[name](threads)
