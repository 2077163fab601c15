"""The registry of backends: each is a set of operations that the model can run on.

"reference" is the definition itself, on one thread: readable and reproducible. Faster ones are held against it.
"""

from collections.abc import Callable

from refsam.errors import InputError
from refsam.ops import Ops

BACKENDS: dict[str, Callable[[], Ops]] = {"reference": Ops}


def create(name: str) -> Ops:
    """The operations of the backend of this name. Raises InputError for an unknown one."""
    if name not in BACKENDS:
        raise InputError(f"backend is {name!r}; there are: {', '.join(sorted(BACKENDS))}")
    return BACKENDS[name]()
