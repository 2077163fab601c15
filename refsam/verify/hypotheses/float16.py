"""What float16 cannot hold: numbers beyond 65504, in results and in what operations compute on the way."""

from collections.abc import Callable

import numpy as np

from refsam.types import Array
from refsam.verify.hypotheses.encoder import BOTH, op
from refsam.verify.hypothesis import Hypothesis
from refsam.verify.precision import storing, to_fp16

GREATEST = 65504.0
"""float16's greatest finite number."""


def variance_of(squares: Callable[[Array, int], Array]) -> Callable[..., Array]:
    """A norm over the channels whose variance is made of squares by this function of (centred values, axis)."""

    def norm(x: Array, weight: Array, bias: Array, eps: float, axis: int) -> Array:
        centred = x - x.mean(axis=axis, keepdims=True)
        shape = (-1, 1, 1) if axis == 1 else (-1,)
        with np.errstate(all="ignore"):
            scaled = centred / np.sqrt(squares(centred, axis) + eps)
        return scaled * weight.reshape(shape) + bias.reshape(shape)

    return norm


def _mean_of_half_squares(centred: Array, axis: int) -> Array:
    return to_fp16(np.mean(to_fp16(centred * centred), axis=axis, keepdims=True))


def _half_sum(centred: Array, axis: int) -> Array:
    return to_fp16(np.sum(centred * centred, axis=axis, keepdims=True)) / np.float32(centred.shape[axis])


def norms(squares: Callable[[Array, int], Array]) -> dict[str, Callable[..., Array]]:
    """Both norms over channels with these squares."""
    norm = variance_of(squares)
    return {
        "layer_norm": lambda x, weight, bias, eps=1e-5: norm(x, weight, bias, eps, -1),
        "layer_norm_2d": lambda x, weight, bias, eps=1e-6: norm(x, weight, bias, eps, 1),
    }


def half_scores(q: Array, k: Array, v: Array, bias: Array | None = None) -> Array:
    """Products of queries and keys stored before they are scaled: infinite ones make a whole row NaN."""
    with np.errstate(all="ignore"):
        scores = to_fp16(q @ k.swapaxes(-1, -2)) * np.float32(q.shape[-1] ** -0.5)
        scores = scores if bias is None else scores + bias
        e = np.exp(scores - scores.max(axis=-1, keepdims=True))
        return (e / e.sum(axis=-1, keepdims=True)) @ v


def saturated(x: Array) -> Array:
    """The nearest float16, at most 65504, as some devices store it."""
    return to_fp16(np.clip(x, -GREATEST, GREATEST))


_NORM = "compute the variance in float32, or scale the input down before squaring: y does not change"
_SCORES = "scale queries by 1 / sqrt(width) before the product with the keys, or compute scores in float32"
_RESULT = "declare --precision fp16; where results do not fit into float16, keep those operations in float32"

HYPOTHESES: tuple[Hypothesis, ...] = (
    op("float16 overflow in a norm's squares", _NORM, BOTH, **norms(_mean_of_half_squares)),
    op("float16 overflow in a norm's sum of squares", _NORM, BOTH, **norms(_half_sum)),
    op("float16 overflow in attention scores", _SCORES, BOTH, attention=half_scores),
    op("results stored in float16", _RESULT, BOTH, **storing(to_fp16)),
    op("results stored in float16, saturated", _RESULT, BOTH, **storing(saturated)),
)
