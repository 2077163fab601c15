"""LayerNorm where pixels are columns: over the second axis from the end, in place. Sums over channels are products with a row."""

from functools import cache

import numpy as np

from refsam.backends.fast.norm import Norm
from refsam.backends.fast.scratch import Scratch
from refsam.types import Array, Float


def normalise_columns(scratch: Scratch, w: Norm, x: Float[Array, "C t"], eps: float) -> None:
    """LayerNorm of each column."""
    with scratch.frame():
        mean = scratch.take(1, x.shape[1])
        np.matmul(_share(len(x)), x, out=mean)
        np.subtract(x, mean, out=x)
    scale_to_unit_variance(scratch, x, eps)
    np.multiply(x, w.weight, out=x)
    np.add(x, w.bias, out=x)


def scale_to_unit_variance(scratch: Scratch, x: Float[Array, "*M C t"], eps: float) -> None:
    """What is left of standardising columns whose mean is zero: division by sqrt(variance + eps)."""
    with scratch.frame():
        square, scale = scratch.take(*x.shape), scratch.take(*x.shape[:-2], 1, x.shape[-1])
        np.multiply(x, x, out=square)
        np.matmul(_share(x.shape[-2]), square, out=scale)
        np.add(scale, np.float32(eps), out=scale)
        np.sqrt(scale, out=scale)
        np.reciprocal(scale, out=scale)
        np.multiply(x, scale, out=x)


@cache
def _share(channels: int) -> Float[Array, "1 C"]:
    """A row whose product with columns is their mean."""
    share = np.full((1, channels), 1 / channels, np.float32)
    share.flags.writeable = False
    return share
