"""From pixels to mask logits, a tile of pixels at a time: the upscaled embedding (8 MB for a prompt) is never whole.

Two transposed convolutions of stride 2 make 4 x 4 values of each pixel, independent of its neighbours: a matrix product, its four
results again a product each, and the product with the masks' vectors. The first's matrix has each group's mean taken away, so
that its result has mean zero and LayerNorm needs no more than the variance. GELU's scale is in the weights.
"""

import numpy as np

from refsam.backends.fast.activation import scaled_gelu
from refsam.backends.fast.decoder_norm import scale_to_unit_variance
from refsam.backends.fast.decoder_weights import Upscaling
from refsam.backends.fast.scratch import Scratch
from refsam.types import Array, Float


def upscale_tile(
    scratch: Scratch,
    w: Upscaling,
    pixels: Float[Array, "D t"],
    vectors: Float[Array, "M C"],
    masks: Float[Array, "M L L"],
    top: int,
    bottom: int,
) -> None:
    """Rows top:bottom of the embedding, `pixels`, become rows 4*top:4*bottom of the masks."""
    count = pixels.shape[1]
    h = scratch.take(len(w.first), count)
    np.matmul(w.first, pixels, out=h)
    np.add(h, w.first_bias, out=h)
    h = h.reshape(4, -1, count)
    scale_to_unit_variance(scratch, h, eps=1e-6)
    np.multiply(h, w.norm.weight, out=h)
    np.add(h, w.norm.bias, out=h)
    scaled_gelu(scratch, h)

    y = scratch.take(4, len(w.second), count)
    np.matmul(w.second, h, out=y)
    np.add(y, w.second_bias, out=y)
    scaled_gelu(scratch, y)

    logits = scratch.take(16, len(vectors), count)
    np.matmul(vectors, y.reshape(16, -1, count), out=logits)
    _spread(logits.reshape(2, 2, 2, 2, len(vectors), bottom - top, -1), masks, top, bottom)


def _spread(logits: Float[Array, "2 2 2 2 M h E"], masks: Float[Array, "M L L"], top: int, bottom: int) -> None:
    """Each pixel's 2 x 2 of 2 x 2 values to their places."""
    side = logits.shape[6]
    rows = masks.reshape(len(masks), side, 2, 2, side, 2, 2)[:, top:bottom]
    rows[...] = logits.transpose(4, 5, 0, 2, 6, 1, 3)
