"""Activations: functions of one number with parameters, and softmax."""

import math

import numpy as np

from refsam.backends.fast.activation import gelu as gelu_in_place
from refsam.backends.fast.scratch import of_thread
from refsam.coreml.arithmetic import Arithmetic
from refsam.coreml.ops.registry import op
from refsam.coreml.types import check_broadcast
from refsam.errors import UnsupportedOp
from refsam.ops.activation import gelu as exact_gelu
from refsam.types import Array


@op("relu")
def relu(x: Array) -> Array:
    """max(x, 0)."""
    return np.maximum(x, 0)


@op("relu6")
def relu6(x: Array) -> Array:
    """x between 0 and 6."""
    return np.clip(x, 0, 6)


@op("clamped_relu")
def clamped_relu(x: Array, alpha: Array, beta: Array) -> Array:
    """min(x, beta), negative values times alpha."""
    check_broadcast(x, alpha, beta)
    return np.minimum(beta, np.where(x >= 0, x, alpha * x))


@op("leaky_relu")
def leaky_relu(x: Array, alpha: Array) -> Array:
    """Negative values times alpha."""
    check_broadcast(x, alpha)
    return np.where(x >= 0, x, alpha * x)


@op("thresholded_relu")
def thresholded_relu(x: Array, alpha: Array) -> Array:
    """0 below alpha."""
    check_broadcast(x, alpha)
    return np.where(x >= alpha, x, np.zeros_like(x))


@op("prelu")
def prelu(x: Array, alpha: Array) -> Array:
    """Negative values times their channel's alpha; channels are axis 1."""
    slopes = alpha.reshape((-1,) + (1,) * (x.ndim - 2))
    check_broadcast(x, slopes)
    return np.where(x >= 0, x, x * slopes)


@op("elu")
def elu(x: Array, alpha: Array) -> Array:
    """Negative values become alpha (e^x - 1)."""
    check_broadcast(x, alpha)
    return np.where(x >= 0, x, alpha * np.expm1(np.minimum(x, 0)))


@op("linear_activation")
def linear_activation(x: Array, alpha: Array, beta: Array) -> Array:
    """alpha x + beta."""
    check_broadcast(x, alpha, beta)
    return x * alpha + beta


@op("scaled_tanh")
def scaled_tanh(x: Array, alpha: Array, beta: Array) -> Array:
    """alpha tanh(beta x)."""
    check_broadcast(x, alpha, beta)
    return alpha * np.tanh(x * beta)


@op("sigmoid")
def sigmoid(c: Arithmetic, x: Array) -> Array:
    """1 / (1 + e^-x)."""
    return c.mapped(_sigmoid, x)


@op("sigmoid_hard")
def sigmoid_hard(x: Array, alpha: Array, beta: Array) -> Array:
    """alpha x + beta, between 0 and 1."""
    check_broadcast(x, alpha, beta)
    return np.clip(x * alpha + beta, 0, 1)


@op("silu")
def silu(c: Arithmetic, x: Array) -> Array:
    """x sigmoid(x)."""
    return c.mapped(lambda part: part * _sigmoid(part), x)


@op("softplus")
def softplus(c: Arithmetic, x: Array) -> Array:
    """ln(1 + e^x)."""
    return c.mapped(lambda part: np.logaddexp(part, np.zeros((), part.dtype)), x)


@op("softplus_parametric")
def softplus_parametric(x: Array, alpha: Array, beta: Array) -> Array:
    """alpha ln(1 + e^(beta x)), alpha and beta of x's channel (axis 1)."""
    factor, slope = (v.reshape((-1,) + (1,) * (x.ndim - 2)) for v in (alpha, beta))
    check_broadcast(x, factor, slope)
    return factor * np.logaddexp(x * slope, np.zeros((), x.dtype))


@op("softsign")
def softsign(x: Array) -> Array:
    """x / (1 + |x|)."""
    return x / (1 + np.abs(x))


@op("gelu")
def gelu(c: Arithmetic, x: Array, mode: str = "EXACT") -> Array:
    """x Phi(x): by erf (EXACT, the default), or approximately by tanh or a sigmoid."""
    functions = {"EXACT": exact_gelu, "TANH_APPROXIMATION": _tanh_gelu, "SIGMOID_APPROXIMATION": _sigmoid_gelu}
    if mode not in functions:
        raise UnsupportedOp(f"gelu has no mode {mode!r:.40}; there are: {', '.join(functions)}")
    return c.blocks(_single_gelu, x) if mode == "EXACT" and x.dtype == np.float32 else c.mapped(functions[mode], x)


@op("softmax")
def softmax(c: Arithmetic, x: Array, axis: int | Array = -1) -> Array:
    """e^x / sum e^x along an axis; the greatest is subtracted first."""
    along = int(axis)
    if x.ndim < 2 or along not in (-1, x.ndim - 1):
        return _softmax(c, x, along)
    return c.rows(lambda part: _softmax(c, part, -1), x.reshape(-1, x.shape[-1])).reshape(x.shape)


def _softmax(c: Arithmetic, x: Array, axis: int) -> Array:
    e = c.step(np.exp(c.step(x - x.max(axis, keepdims=True))))
    return e / c.step(e.sum(axis, keepdims=True))


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def _single_gelu(x: Array, out: Array) -> None:
    """The fast backend's: off by at most 1e-6, where float32's own spacing is up to 5e-7, in an eighth of the time."""
    np.copyto(out, x)
    gelu_in_place(of_thread(), out)
    if np.isnan(out.max(initial=0)):  # the fast one has no value for infinities, which float16 programs do reach
        np.copyto(out, exact_gelu(x))


def _tanh_gelu(x: Array) -> Array:
    inner = x.dtype.type(math.sqrt(2 / math.pi)) * (x + x.dtype.type(0.044715) * x * x * x)
    return x.dtype.type(0.5) * x * (1 + np.tanh(inner))


def _sigmoid_gelu(x: Array) -> Array:
    return x * _sigmoid(x.dtype.type(1.702) * x)
