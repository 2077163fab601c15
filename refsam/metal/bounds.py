"""How far each element of a kernel's result may be from the definition in float64: the "Bound" lines of the kernels' headers.

U is the relative error of one rounding in float32; `gamma(n)` that of n roundings on top of each other, and of a sum of n
products in any order, as a part of the sum of their sizes (Higham, Accuracy and Stability, section 3.1). Under fast math MSL
promises 2.5 ulp (5 U) for a division, 2 ulp for rsqrt, 3 + 2|x| ulp for exp(x), one ulp being at most 2 U; sums, products and fma
are correctly rounded but may be ordered and contracted in any way. Arguments are float64 and stand for exact numbers. SMALL
covers what is flushed to zero below 2^-126, a few thousand times.
"""

import math

import numpy as np

from refsam.metal.definitions import gaussian_blur, gaussian_weights, preprocess_bilinear
from refsam.ops import Ops
from refsam.ops.activation import erf
from refsam.ops.resize import bilinear
from refsam.transforms import PIXEL_MEAN, PIXEL_STD, preprocess
from refsam.types import Array, Float, Size, UInt8

U = 2.0**-24 * (1 + 1e-6)  # the definition in float64 has an error of its own, a billionth of this
SMALL = 1e-34
KEYS = 32
"""In a tile of attention.metal."""


def gamma(n: int) -> float:
    """The relative error that n roundings make at most."""
    return n * U / (1 - n * U)


def matmul(a: Array, b: Array, bias: Array | None, bias_of: str, act: str) -> Array:
    """See kernels/matmul.metal; `a` and `b` are (B, M, K) and (B, K, N), `bias` is shaped to be added."""
    shift = 0.0 if bias is None else (bias if bias_of == "column" else bias[:, None])
    error = gamma(a.shape[-1] + 1) * (abs(a) @ abs(b) + abs(shift)) + SMALL
    return error if act != "gelu" else 1.13 * error + gelu(a @ b + shift)


def conv2d(x: Array, weight: Array, bias: Array | None, stride: int, padding: int) -> Array:
    """See kernels/conv2d.metal."""
    size = Ops.conv2d(abs(x), abs(weight), None if bias is None else abs(bias), stride, padding)
    return gamma(weight[0].size + 1) * size + SMALL


def depthwise_conv2d(x: Array, weight: Array, stride: int) -> Array:
    """See kernels/depthwise_conv2d.metal."""
    return gamma(10) * Ops.depthwise_conv2d(abs(x), abs(weight), stride) + SMALL


def conv_transpose2d(x: Array, weight: Array, bias: Array) -> Array:
    """See kernels/conv_transpose2d.metal."""
    return gamma(len(weight) + 1) * Ops.conv_transpose2d(abs(x), abs(weight), abs(bias)) + SMALL


def layer_norm(x: Array, weight: Array, bias: Array, eps: float) -> Array:
    """See kernels/layer_norm.metal. The mean is off by d, so a centred value by e, so the variance by mean(2 |c| e + e^2) and its
    own roundings; 1 / sqrt(variance + eps) is off by the relative error r of variance + eps at most, while r <= 1/2."""
    count = x.shape[-1]
    centred = abs(x - x.mean(axis=-1, keepdims=True))
    d = gamma(count + 5) * abs(x).mean(axis=-1, keepdims=True)
    e = d + U * (centred + d)
    variance = np.mean(centred**2, axis=-1, keepdims=True)
    off = np.mean(2 * centred * e + e * e, axis=-1, keepdims=True)
    off = off + gamma(count + 6) * (variance + off)
    r = off / (variance + eps) + 2 * U
    scale = abs(weight) / np.sqrt(variance + eps)
    largest = (centred + e) * scale * (1 + r) * (1 + gamma(8)) + abs(bias) * (1 + U)
    return np.where(r <= 0.5, largest - (centred * scale + abs(bias)), np.inf) + SMALL


def layer_norm_2d(x: Array, weight: Array, bias: Array, eps: float) -> Array:
    """As `layer_norm`, along another axis."""
    return np.moveaxis(layer_norm(np.moveaxis(x, 1, -1), weight, bias, eps), -1, 1)


def batch_norm(x: Array, mean: Array, variance: Array, weight: Array, bias: Array, eps: float) -> Array:
    """See kernels/batch_norm.metal."""
    scale = abs(weight) / np.sqrt(variance + eps)
    return gamma(11) * (abs(x) * scale[:, None, None] + (abs(mean) * scale + abs(bias))[:, None, None]) + SMALL


def gelu(x: Array) -> Array:
    """See kernels/gelu.metal; 1 % is for what is of second order."""
    t = x / math.sqrt(2)
    size = abs(erf(t))
    inner = 2 * abs(t) * 2 / math.sqrt(math.pi) * np.exp(-t * t) + 3 * size + 2 * (6 + 2 * t * t) * (1 - size)
    return 1.01 * U * (abs(x) / 2 * inner + abs(x / 2 * (1 + erf(t)))) + SMALL


def relu(x: Array) -> Array:
    """Exact, but for what is flushed to zero."""
    return np.full(x.shape, SMALL)


def attention(q: Array, k: Array, v: Array, bias: Array | None) -> Array:
    """See kernels/attention.metal: `off` is the relative error of each exp, then numerator and denominator."""
    width, keys = q.shape[-1], k.shape[-2]
    tiles = -(-keys // KEYS)
    size = abs(q) @ abs(k).swapaxes(-1, -2) / math.sqrt(width)
    scores = q @ k.swapaxes(-1, -2) / math.sqrt(width)
    if bias is not None:
        size, scores = size + abs(bias), scores + bias
    e = (gamma(width + 4) * size).max(axis=-1, keepdims=True)
    z = scores.max(axis=-1, keepdims=True) - scores
    off = np.exp(2 * e) * (1 + U * z + 2 * U * (3 * (tiles + 1) + 2 * z)) - 1
    weights = np.exp(-z) / np.exp(-z).sum(axis=-1, keepdims=True)
    denominator = (weights * off).sum(axis=-1, keepdims=True) + gamma(2 * keys + 2 * tiles + 16)
    return 1.01 * ((weights * (off + denominator)) @ abs(v)) + SMALL


def preprocess_error(image: UInt8[Array, "H W 3"], size: Size, side: int) -> Array:  # noqa: ARG001 - as the kernel's arguments
    """See kernels/preprocess.metal."""
    return gamma(6) * abs(preprocess(image, side).astype(np.float64)) + SMALL


def preprocess_bilinear_error(image: UInt8[Array, "H W 3"], size: Size, side: int, half_pixel: bool, shift: int) -> Array:
    """See kernels/preprocess_bilinear.metal."""
    value = abs(preprocess_bilinear(image, size, side, half_pixel, shift))
    sums = gamma(18) * ((255 + PIXEL_MEAN.astype(np.float64)) / PIXEL_STD)[:, None, None]
    return sums * (1 + gamma(6)) + gamma(6) * value + SMALL


def bilinear_error(x: Float[Array, "B H W"], size: Size, crop: Size) -> Array:
    """See kernels/bilinear.metal; the definition's own coordinates, in float64, are good to n 2^-50 of a pixel."""
    coordinates = max(x.shape[1:]) * 2.0**-50 * float(abs(x).max())
    return gamma(16) * bilinear(abs(x), size)[..., : crop[0], : crop[1]] + coordinates + SMALL


def gaussian_blur_error(x: Float[Array, "B H W"], sigma: float) -> Array:
    """See kernels/gaussian_blur.metal: two passes, and the rounding of the weights in each."""
    return gamma(2 * (len(gaussian_weights(sigma)) + 2)) * gaussian_blur(abs(x), sigma) + SMALL
