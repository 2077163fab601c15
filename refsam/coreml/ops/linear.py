"""Matrix products."""

import math

import numpy as np

from refsam.coreml.arithmetic import Arithmetic, check_work
from refsam.coreml.ops.activation import softmax
from refsam.coreml.ops.registry import op
from refsam.coreml.types import check_broadcast, check_elements
from refsam.errors import PackageError, UnsupportedOp
from refsam.types import Array


@op("linear")
def linear(c: Arithmetic, x: Array, weight: Array, bias: Array | None = None) -> Array:
    """x W^T + b over the last axis."""
    rows = x.reshape(-1, x.shape[-1])  # one large product instead of one for each window
    return c.dot(rows, weight.T, bias).reshape(*x.shape[:-1], len(weight))


@op("matmul")
def matmul(c: Arithmetic, x: Array, y: Array, transpose_x: bool | Array = False, transpose_y: bool | Array = False) -> Array:
    """x y, either of them transposed first."""
    x = x.swapaxes(-1, -2) if transpose_x and x.ndim > 1 else x
    y = y.swapaxes(-1, -2) if transpose_y and y.ndim > 1 else y
    return np.asarray(c.dot(x, y))


@op("scaled_dot_product_attention")
def scaled_dot_product_attention(c: Arithmetic, query: Array, key: Array, value: Array, attn_mask: Array | None = None) -> Array:
    """softmax(q k^T / sqrt E + mask) v; of a boolean mask, true takes part."""
    scale = query.dtype.type(1 / math.sqrt(query.shape[-1]))
    scores = c.step(c.dot(query, key.swapaxes(-1, -2)) * scale)
    if attn_mask is not None:
        check_broadcast(scores, attn_mask)
        scores = np.where(attn_mask, scores, -np.inf) if attn_mask.dtype == bool else scores + attn_mask
    return c.dot(c.step(softmax(c, scores)), value)


@op("einsum")
def einsum(c: Arithmetic, values: list[Array], equation: str) -> Array:
    """A product of two tensors with named axes, as NumPy's: "bhwc,bhqc->bhwq"."""
    inputs, arrow, result = equation.replace(" ", "").partition("->")
    names = inputs.split(",")
    if not arrow or [len(n) for n in names] != [v.ndim for v in values] or len(values) != 2 or not "".join(names).isalpha():
        raise UnsupportedOp(
            f"einsum {equation!r:.80} of {len(values)} tensors; two tensors, a letter for each axis, are computed"
        )
    lengths: dict[str, int] = {}
    for name, length in zip("".join(names), (n for v in values for n in v.shape), strict=True):
        if lengths.setdefault(name, length) != length:
            raise PackageError(f"einsum {equation}: axis {name} has lengths {lengths[name]} and {length}")
    if not set(result) <= set(lengths) or any(len(set(n)) < len(n) for n in (*names, result)):
        raise UnsupportedOp(f"einsum {equation!r:.80}: an axis is repeated or unknown")
    check_elements("the result", tuple(lengths[n] for n in result))
    check_work(math.prod(lengths.values()))
    return _as_matmul(c, values[0], values[1], names[0], names[1], result)


def _as_matmul(c: Arithmetic, x: Array, y: Array, x_axes: str, y_axes: str, result: str) -> Array:
    """Axes in both and in the result are a batch, those in both only are summed, those in one only are summed on their own."""
    x, x_axes = _sum_out(x, x_axes, y_axes + result)
    y, y_axes = _sum_out(y, y_axes, x_axes + result)
    batch = [n for n in x_axes if n in y_axes and n in result]
    inner = [n for n in x_axes if n in y_axes and n not in result]
    rows, columns = [n for n in x_axes if n not in y_axes], [n for n in y_axes if n not in x_axes]
    size = dict(zip(x_axes + y_axes, x.shape + y.shape, strict=True))

    def count(axes: list[str]) -> int:
        return math.prod(size[n] for n in axes)

    a = x.transpose([x_axes.index(n) for n in batch + rows + inner]).reshape(count(batch), count(rows), count(inner))
    b = y.transpose([y_axes.index(n) for n in batch + inner + columns]).reshape(count(batch), count(inner), count(columns))
    order = batch + rows + columns
    product = c.dot(a, b).reshape([size[n] for n in order])
    return product.transpose([order.index(n) for n in result])


def _sum_out(x: Array, axes: str, kept: str) -> tuple[Array, str]:
    gone = tuple(i for i, n in enumerate(axes) if n not in kept)
    return x.sum(gone) if gone else x, "".join(n for n in axes if n in kept)
