"""Arithmetic, comparisons and functions of one number. Two tensors broadcast as in NumPy.

Core ML adds small numbers where a result could be infinite: to the argument of `inverse`, `log` and `rsqrt`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from refsam.coreml.arithmetic import Arithmetic
from refsam.coreml.ops.registry import op
from refsam.coreml.types import BY_NAME, check_broadcast
from refsam.errors import UnsupportedOp
from refsam.ops.activation import erf as error_function
from refsam.types import Array

BINARY: dict[str, np.ufunc] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "floor_div": np.floor_divide, "mod": np.mod,
    "maximum": np.maximum, "minimum": np.minimum,
    "equal": np.equal, "not_equal": np.not_equal, "greater": np.greater, "greater_equal": np.greater_equal,
    "less": np.less, "less_equal": np.less_equal,
    "logical_and": np.logical_and, "logical_or": np.logical_or, "logical_xor": np.logical_xor,
}  # fmt: skip

UNARY: dict[str, Callable[[Any], Any]] = {
    "abs": np.abs, "acos": np.arccos, "asin": np.arcsin, "atan": np.arctan, "atanh": np.arctanh, "ceil": np.ceil, "cos": np.cos,
    "cosh": np.cosh, "erf": error_function, "exp": np.exp, "exp2": np.exp2, "floor": np.floor, "round": np.round, "sign": np.sign,
    "sin": np.sin, "sinh": np.sinh, "sqrt": np.sqrt, "square": np.square, "tan": np.tan, "tanh": np.tanh,
}  # fmt: skip
"""`round` is to the even neighbour where both are as near."""


def _binary(function: np.ufunc) -> Callable[..., Array]:
    def compute(c: Arithmetic, x: Array, y: Array) -> Array:
        check_broadcast(x, y)
        return c.pairs(function, x, y)

    return compute


def _unary(function: Callable[[Any], Any]) -> Callable[..., Array]:
    def compute(c: Arithmetic, x: Array) -> Array:
        return c.mapped(lambda part: np.asarray(function(part)), x)

    return compute


for _name in BINARY:
    op(_name)(_binary(BINARY[_name]))
for _name in UNARY:
    op(_name)(_unary(UNARY[_name]))


@op("real_div")
def real_div(c: Arithmetic, x: Array, y: Array) -> Array:
    """x / y; of whole numbers the whole part, towards zero (converters use it on shapes)."""
    check_broadcast(x, y)
    if x.dtype.kind == "f":
        return c.pairs(np.divide, x, y)
    return np.trunc(x / np.where(y == 0, 1, y)).astype(x.dtype)


@op("pow")
def power(x: Array, y: Array) -> Array:
    """x ** y."""
    check_broadcast(x, y)
    return np.square(x) if y.ndim == 0 and y == 2 else np.asarray(np.power(x, y))


@op("logical_not")
def logical_not(x: Array) -> Array:
    """Whether x is false."""
    return np.logical_not(x)


@op("identity", moves=True)
def identity(x: Array) -> Array:
    """x."""
    return x


@op("inverse")
def inverse(x: Array, epsilon: float | Array = 1e-4) -> Array:
    """1 / (x + epsilon)."""
    return _one(x) / (x + np.asarray(epsilon, x.dtype))


@op("log")
def log(c: Arithmetic, x: Array, epsilon: float | Array = 1e-45) -> Array:
    """ln(x + epsilon)."""
    return c.mapped(lambda part: np.log(part + np.asarray(epsilon, x.dtype)), x)


@op("rsqrt")
def rsqrt(x: Array, epsilon: float | Array = 1e-12) -> Array:
    """1 / sqrt(x + epsilon)."""
    return _one(x) / np.sqrt(x + np.asarray(epsilon, x.dtype))


@op("clip")
def clip(x: Array, alpha: Array, beta: Array) -> Array:
    """x, at least alpha and at most beta."""
    check_broadcast(x, alpha, beta)
    return np.minimum(np.maximum(x, alpha), beta)


@op("threshold")
def threshold(x: Array, alpha: Array) -> Array:
    """x, at least alpha."""
    check_broadcast(x, alpha)
    return np.maximum(x, alpha)


@op("cast")
def cast(c: Arithmetic, x: Array, dtype: str) -> Array:
    """x as another type; floats lose their fraction, towards zero, when they become whole numbers."""
    if dtype not in BY_NAME or dtype == "string":
        raise UnsupportedOp(f"cast to {dtype!r:.40} is not one of MIL's casts")
    if dtype in ("fp16", "fp32", "fp64"):  # which of its values remain, the result's type says
        return x.astype(c.dtype)
    return x.astype(BY_NAME[dtype].numpy)


@op("select", moves=True)
def select(cond: Array, a: Array, b: Array) -> Array:
    """a where cond is true, else b."""
    check_broadcast(cond, a, b)
    return np.where(cond, a, b)


def _one(x: Array) -> Array:
    return np.ones((), x.dtype)
