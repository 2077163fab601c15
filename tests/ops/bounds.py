"""How far rounding may take each element of an operation's result: the classical worst case, from the operands' own sizes.

`unit` u is the relative error of one rounding (2^-24 in float32). A sum of n products in any order has an error of at most
gamma(n) times the sum of their absolute values, gamma(n) = n u / (1 - n u) (Higham, Accuracy and Stability, section 3.1);
a chain of n roundings one of gamma(n) times its value. All arguments are float64 and stand for exact numbers.

TINY covers what underflows on the way.
"""

import math
from typing import Any

import numpy as np

from refsam.ops import Ops

TINY = 1e-37
EXP = 6
"""NumPy's vectorised exp is good to 2.6 ulp, so to 6 units; a libm's is better."""


def gamma(n: int, unit: float) -> float:
    """The relative error that n roundings make at most."""
    return n * unit / (1 - n * unit)


def linear(x: Any, weight: Any, bias: Any, unit: float) -> Any:
    """C products, C - 1 sums, the bias."""
    return gamma(weight.shape[1] + 1, unit) * Ops.linear(abs(x), abs(weight), abs(bias)) + TINY


def conv2d(x: Any, weight: Any, bias: Any = None, stride: int = 1, padding: int = 0, *, unit: float) -> Any:
    """C k k products summed, the bias."""
    size = Ops.conv2d(abs(x), abs(weight), None if bias is None else abs(bias), stride, padding)
    return gamma(weight[0].size + 1, unit) * size + TINY


def depthwise_conv2d(x: Any, weight: Any, stride: int = 1, *, unit: float) -> Any:
    """Nine products summed, beginning from zero."""
    return gamma(10, unit) * Ops.depthwise_conv2d(abs(x), abs(weight), stride) + TINY


def conv_transpose2d(x: Any, weight: Any, bias: Any, unit: float) -> Any:
    """C products summed, the bias."""
    return gamma(len(weight) + 1, unit) * Ops.conv_transpose2d(abs(x), abs(weight), abs(bias)) + TINY


def layer_norm(x: Any, weight: Any, bias: Any, eps: float = 1e-5, *, unit: float) -> Any:
    """The mean is off by d = gamma(C) mean|x|, so a centred value c by e = d + u (|c| + d), so the variance by
    mean(2 |c| e + e^2) and its own C + 1 roundings; what that does to 1 / sqrt(variance + eps) is at most the relative error
    r of variance + eps itself while r <= 1/2, since (1 - r)^-1/2 <= 1 + r there. Five roundings are left."""
    count = x.shape[-1]
    centred = abs(x - x.mean(axis=-1, keepdims=True))
    d = gamma(count, unit) * abs(x).mean(axis=-1, keepdims=True)
    e = d + unit * (centred + d)
    variance = np.mean(centred**2, axis=-1, keepdims=True)
    off = np.mean(2 * centred * e + e * e, axis=-1, keepdims=True)
    off = off + gamma(count + 1, unit) * (variance + off)
    r = off / (variance + eps) + 2 * unit
    assert np.all(r <= 0.5), "the case is too ill-conditioned for this bound"
    scale = abs(weight) / np.sqrt(variance + eps)
    largest = (centred + e) * scale * (1 + r) * (1 + gamma(5, unit)) + abs(bias) * (1 + unit)
    return largest - (centred * scale + abs(bias)) + TINY


def layer_norm_2d(x: Any, weight: Any, bias: Any, eps: float = 1e-6, *, unit: float) -> Any:
    """As `layer_norm`, along another axis."""
    return np.moveaxis(layer_norm(np.moveaxis(x, 1, -1), weight, bias, eps, unit=unit), -1, 1)


def batch_norm(x: Any, mean: Any, variance: Any, weight: Any, bias: Any, eps: float = 1e-5, *, unit: float) -> Any:
    """The scale w / sqrt(v + eps) has rounding errors of eps, the sum (both halved by the root), the root and the quotient;
    x * scale and mean * scale one more, then two sums: eight at most on any way to the result."""
    scale = abs(weight) / np.sqrt(variance + eps)
    size = abs(x) * scale[:, None, None] + (abs(mean) * scale + abs(bias))[:, None, None]
    return gamma(8, unit) * size + TINY


def gelu(x: Any, unit: float) -> Any:
    """t = x / sqrt 2 has two roundings, which erf's slope turns into 2u |t| 2/sqrt(pi) exp(-t^2); erf itself is good to
    1.5 ulp, at most 3u; 1 + erf and the product are rounded, and 1 % is for what is of second order."""
    t = x / math.sqrt(2)
    erf = np.vectorize(math.erf, otypes=[float])(t)
    inner = 2 * abs(t) * 2 / math.sqrt(math.pi) * np.exp(-t * t) + 3 * abs(erf) + abs(1 + erf)
    return 1.01 * unit * (abs(x) / 2 * inner + abs(x / 2 * (1 + erf))) + TINY


def relu(x: Any, unit: float) -> Any:
    """Exact."""
    return np.zeros(x.shape)


def attention(q: Any, k: Any, v: Any, bias: Any = None, *, unit: float) -> Any:
    """A score (c products, the scale and its rounding, the bias) is off by d; taking the row's greatest away shifts all alike
    but for one more rounding. Numerator and denominator are then each off by a factor exp(d) and exp's own error, the sums
    over T keys by gamma(T), the quotient and the products by the rest."""
    width, keys = q.shape[-1], k.shape[-2]
    size = abs(q) @ abs(k).swapaxes(-1, -2) / math.sqrt(width)
    scores = q @ k.swapaxes(-1, -2) / math.sqrt(width)
    if bias is not None:
        size, scores = size + abs(bias), scores + bias
    shifted = scores - scores.max(axis=-1, keepdims=True)
    d = gamma(width + 3, unit) * size
    d = (d + unit * (abs(shifted) + 2 * d.max(axis=-1, keepdims=True))).max(axis=-1, keepdims=True)
    weights = np.exp(shifted) / np.exp(shifted).sum(axis=-1, keepdims=True)
    factor = np.exp(2 * d) * (1 + gamma(2 * keys + 2 * EXP + 3, unit)) - 1
    return factor * (weights @ abs(v)) + TINY


BOUNDS = {
    "linear": linear,
    "conv2d": conv2d,
    "depthwise_conv2d": depthwise_conv2d,
    "conv_transpose2d": conv_transpose2d,
    "layer_norm": layer_norm,
    "layer_norm_2d": layer_norm_2d,
    "batch_norm": batch_norm,
    "gelu": gelu,
    "relu": relu,
    "attention": attention,
}
