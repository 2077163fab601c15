"""Drawing by chance, the same on every version of NumPy."""

from typing import Any

import numpy as np

Random = np.random.RandomState
"""Its stream is frozen."""


def pick(rng: Random, options: list[Any], odds: list[float] | None = None) -> Any:
    """One of the options, each as likely as another or by these odds."""
    return options[int(rng.choice(len(options), p=odds))]
