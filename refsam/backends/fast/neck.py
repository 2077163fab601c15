"""The neck: a 1x1 and a 3x3 convolution, each with a LayerNorm over channels, over bands of rows."""

from typing import NamedTuple

import numpy as np

from refsam.backends.fast import fold
from refsam.backends.fast.layout import channels_last, spans
from refsam.backends.fast.norm import Norm, normalise
from refsam.backends.fast.registry import replaces
from refsam.backends.fast.scratch import Scratch
from refsam.backends.fast.workers import Workers
from refsam.model import tiny_vit
from refsam.scope import Scope
from refsam.types import Array, Float

BAND = 8
"""Rows of the feature map that a task computes."""


class Neck(NamedTuple):
    """Weights with the input channels first, as `x @ weight` needs them."""

    narrow: Float[Array, "C D"]
    first_norm: Norm
    taps: Float[Array, "3 3 D D"]
    second_norm: Norm


def fold_neck(s: Scope) -> Neck:
    """The neck's weights in the order that the products read them."""
    norms = [Norm(s[f"{n}.weight"], s[f"{n}.bias"]) for n in (1, 3)]
    taps = fold.single(s["2.weight"].transpose(2, 3, 1, 0))
    return fold.frozen(Neck(fold.single(s["0.weight"][:, :, 0, 0].T), norms[0], taps, norms[1]))


@replaces(tiny_vit.neck)
def neck(workers: Workers, s: Scope, x: Float[Array, "B C E E"]) -> Float[Array, "B D E E"]:
    """See tiny_vit.neck."""
    w = s.prepared(fold_neck)
    pixels = channels_last(x)
    batch, height, width, _ = pixels.shape
    padded = workers.framed(batch, height, width, len(w.narrow[0]))
    y = workers.empty(batch, len(w.narrow[0]), height, width)
    bands = [(image, top, bottom) for image in range(batch) for top, bottom in spans(height, BAND)]
    workers.map(narrow_band, [(w, pixels[image], padded[image], top, bottom) for image, top, bottom in bands])
    workers.map(convolve_band, [(w, padded[image], y[image], top, bottom) for image, top, bottom in bands])
    return s.tap(y)


def narrow_band(
    scratch: Scratch, w: Neck, x: Float[Array, "H W C"], padded: Float[Array, "H+2 W+2 D"], top: int, bottom: int
) -> None:
    """1x1 convolution and norm of rows top:bottom, into the middle of the padded map."""
    band = x[top:bottom]
    y = scratch.take(bottom - top, x.shape[1], len(w.narrow[0]))
    np.matmul(band.reshape(-1, x.shape[2]), w.narrow, out=y.reshape(-1, y.shape[2]))
    normalise(scratch, w.first_norm, y.reshape(-1, y.shape[2]), eps=1e-6)
    padded[top + 1 : bottom + 1, 1:-1] = y


def convolve_band(
    scratch: Scratch, w: Neck, padded: Float[Array, "H+2 W+2 D"], y: Float[Array, "D H W"], top: int, bottom: int
) -> None:
    """3x3 convolution and norm of rows top:bottom.

    Nine shifted products, summed. Rows of the padded map follow each other in memory, so each shift is one product over whole
    padded rows, whose two last columns mix neighbouring rows and are dropped.
    """
    width = padded.shape[1]
    flat = padded.reshape(-1, padded.shape[2])
    count = (bottom - top) * width - 2
    total, product = scratch.take(count + 2, len(y)), scratch.take(count, len(y))
    for tap in range(9):
        dy, dx = divmod(tap, 3)
        start = (top + dy) * width + dx
        np.matmul(flat[start : start + count], w.taps[dy, dx], out=product if tap else total[:count])
        if tap:
            np.add(total[:count], product, out=total[:count])
    kept = scratch.take(bottom - top, width - 2, len(y))
    kept[...] = total.reshape(bottom - top, width, -1)[:, :-2]
    normalise(scratch, w.second_norm, kept.reshape(-1, len(y)), eps=1e-6)
    y[:, top:bottom] = kept.transpose(2, 0, 1)
