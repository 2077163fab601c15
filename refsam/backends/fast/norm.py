"""LayerNorm over the last axis, in place. Sums over channels are matrix-vector products, which are faster than NumPy's `mean`."""

from functools import cache
from typing import NamedTuple

import numpy as np

from refsam.backends.fast.scratch import Scratch
from refsam.types import Array, Float


class Norm(NamedTuple):
    """A LayerNorm's affine part: for tokens (D,), for columns (D, 1)."""

    weight: Array
    bias: Array


def standardise(scratch: Scratch, x: Float[Array, "N C"], eps: float) -> None:
    """Subtract each row's mean and divide by sqrt(variance + eps), in place."""
    with scratch.frame():
        share = _share(x.shape[1])
        mean, square = scratch.take(len(x)), scratch.take(*x.shape)
        np.matmul(x, share, out=mean)
        np.subtract(x, mean[:, None], out=x)
        np.multiply(x, x, out=square)
        scale = np.matmul(square, share, out=mean)
        scale += np.float32(eps)
        np.sqrt(scale, out=scale)
        np.reciprocal(scale, out=scale)
        np.multiply(x, scale[:, None], out=x)


def normalise(scratch: Scratch, w: Norm, x: Float[Array, "N C"], eps: float) -> None:
    """LayerNorm in place."""
    standardise(scratch, x, eps)
    np.multiply(x, w.weight, out=x)
    np.add(x, w.bias, out=x)


@cache
def _share(channels: int) -> Float[Array, " C"]:
    """A vector whose product with a row is its mean."""
    share = np.full(channels, 1 / channels, np.float32)
    share.flags.writeable = False
    return share
