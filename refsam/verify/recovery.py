"""What a tensor must have been, where a stage shows it: the port's own result, solved for the weights of the last operation.

Only operations whose result *is* the stage, or becomes it by a batch norm, can be solved; for what lies deeper there are the
guesses of `hypotheses.tensors`. Whatever is read off here is tried like any other hypothesis before it is believed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from refsam.ops import Ops
from refsam.types import Array, Float
from refsam.verify.hypotheses.tensors import changed
from refsam.verify.hypothesis import Area, Hypothesis

_SAME = 1e-4  # of a row's length: rounding of a float32 solution
_FEW = 4
_MOST_INPUTS = 1300  # of a linear map that is solved: beyond that it would take longer than the rest of the search
_EPS = 1e-5


@dataclass(frozen=True)
class Call:
    """One operation as it ran: its name, the names of its tensors (None for a plain array), its arguments and its result."""

    op: str
    names: tuple[str | None, ...]
    arguments: tuple[Any, ...]
    result: Array


def recovered(calls: Sequence[Call], reference: Array, target: Array, area: Area) -> Iterator[Hypothesis]:
    """Hypotheses about the tensors of the operation that made a stage.

    Args:
        calls: those that ran since the stage before, the last one last.
        reference, target: the stage as it should be on the port's inputs, and as the port has it.
    """
    chain = _last(calls, reference)
    if not chain or target.shape != reference.shape:
        return
    y, t = rows(reference), rows(target)
    norm = chain[-1] if chain[-1].op in ("batch_norm", "layer_norm", "layer_norm_2d") else None
    if norm is not None:
        yield from _of_norm(norm, y, t, area)
    if chain[-1].op == "batch_norm":
        scale, shift = _scale_and_shift(chain[-1])
        if len(chain) > 1 and (scale != 0).all():
            yield from _of_map(chain[-2], (t - shift) / scale, area)
    elif norm is None:
        yield from _of_map(chain[-1], t, area)


def rows(x: Array) -> Float[Array, "P D"]:
    """A map (1, D, H, W) or tokens (..., D) as positions by channels, in float64."""
    x = np.asarray(x, np.float64)
    return x[0].reshape(x.shape[1], -1).T if x.ndim == 4 else x.reshape(-1, x.shape[-1])


def _last(calls: Sequence[Call], reference: Array) -> list[Call]:
    """The last operation, and the one that feeds it, where the stage is the last one's result."""
    calls = [call for call in calls if any(call.names)]
    if not calls or calls[-1].result.size != reference.size:
        return []
    last, y = rows(calls[-1].result), rows(reference)
    if last.shape != y.shape or not np.allclose(last, y, rtol=1e-3, atol=1e-4 * float(np.abs(y).max() + 1e-30)):
        return []
    feeds = len(calls) > 1 and calls[-2].result is calls[-1].arguments[0]
    return list(calls[-2:]) if feeds else [calls[-1]]


# --- norms ------------------------------------------------------------------------------------------------------------------


def _scale_and_shift(call: Call) -> tuple[Array, Array]:
    mean, variance, weight, bias = (np.asarray(x, np.float64) for x in call.arguments[1:5])
    scale = weight / np.sqrt(variance + _EPS)
    return scale, bias - mean * scale


def _of_norm(call: Call, y: Float[Array, "P D"], t: Float[Array, "P D"], area: Area) -> Iterator[Hypothesis]:
    """Scale and shift of each channel, read as a change of one of the norm's tensors."""
    slope, offset = _lines(y, t)
    if call.op != "batch_norm":
        weight, bias = (np.asarray(x, np.float64) for x in call.arguments[1:3])
        found = [(weight * slope, call.arguments[1], call.names[1]), (offset + slope * bias, call.arguments[2], call.names[2])]
    else:
        mean, _, weight, bias = (np.asarray(x, np.float64) for x in call.arguments[1:5])
        scale, shift = _scale_and_shift(call)
        new_scale, new_shift = slope * scale, offset + slope * shift
        with np.errstate(all="ignore"):
            values = ((bias - new_shift) / scale, (weight / new_scale) ** 2 - _EPS, slope * weight, new_shift + mean * scale)
        found = list(zip(values, call.arguments[1:5], call.names[1:5], strict=True))
    for value, tensor, name in found:
        if name is not None and np.isfinite(value).all():
            yield from _readings(name, np.asarray(tensor, np.float64), value, area)


def _lines(y: Float[Array, "P D"], t: Float[Array, "P D"]) -> tuple[Array, Array]:
    """For each channel the slope and offset that take y nearest to t."""
    centre, target = y.mean(axis=0), t.mean(axis=0)
    variance = np.mean((y - centre) ** 2, axis=0)
    slope = np.mean((y - centre) * (t - target), axis=0) / np.where(variance > 0, variance, 1)
    return slope, target - slope * centre


# --- linear maps ------------------------------------------------------------------------------------------------------------


def _of_map(call: Call, t: Float[Array, "P D"], area: Area) -> Iterator[Hypothesis]:
    """Weight and bias of a linear layer or a convolution whose result should have been `t`."""
    if call.op not in ("linear", "conv2d", "depthwise_conv2d"):
        return
    error = t - rows(call.result)
    weight, name = np.asarray(call.arguments[1], np.float64), call.names[1]
    if len(call.names) > 2 and call.names[2] is not None:
        bias = np.asarray(call.arguments[2], np.float64)
        yield from _readings(call.names[2], bias, bias + error.mean(axis=0), area)
    if name is None:
        return
    yield from _rows_by_result(call, name, weight, t, area)
    inputs = _inputs(call)
    if inputs is not None:
        yield from _readings(name, weight, weight + _solved(inputs, error).reshape(weight.shape), area)


def _rows_by_result(call: Call, name: str, weight: Array, t: Float[Array, "P D"], area: Area) -> Iterator[Hypothesis]:
    """Another order of rows, seen as another order of the result's channels: needs fewer positions than to solve for them."""
    bias = np.asarray(call.arguments[2], np.float64) if len(call.names) > 2 and call.names[2] else np.zeros(len(weight))
    order = _order(rows(call.result).T - bias[:, None], t.T - bias[:, None])
    if order is not None and call.op != "depthwise_conv2d":
        yield changed(name, "with rows in another order", area, lambda w: w[name][order])


def _inputs(call: Call) -> Float[Array, "G P K"] | None:
    """What the weights are multiplied with at each position: one matrix, or one for each channel of a depthwise convolution."""
    x, weight = np.asarray(call.arguments[0], np.float64), call.arguments[1]
    if call.op == "linear":
        return rows(x)[None] if x.shape[-1] <= _MOST_INPUTS else None
    count = int(np.prod(weight.shape[1:]))
    pick = np.eye(count).reshape(count, *weight.shape[1:])
    if call.op == "conv2d":
        return rows(Ops.conv2d(x, pick, None, *call.arguments[3:]))[None] if count <= _MOST_INPUTS else None
    stride = call.arguments[2] if len(call.arguments) > 2 else 1
    return np.stack([rows(Ops.conv2d(x[:, c : c + 1], pick, None, stride, 1)) for c in range(x.shape[1])])


def _solved(inputs: Float[Array, "G P K"], error: Float[Array, "P D"]) -> Float[Array, "D K"]:
    """The least change of the weights that explains the error."""
    if len(inputs) == 1:
        return np.linalg.lstsq(inputs[0], error, rcond=1e-7)[0].T
    return np.stack([np.linalg.lstsq(x, e, rcond=1e-7)[0] for x, e in zip(inputs, error.T, strict=True)])


# --- reading ----------------------------------------------------------------------------------------------------------------


def _readings(name: str, tensor: Array, value: Array, area: Area) -> Iterator[Hypothesis]:
    """What a tensor's new values look like, in words: the plainest that may be meant first."""
    wide, new = tensor.reshape(len(tensor), -1), value.reshape(len(tensor), -1)
    for axis, said in ((0, "rows"), (1, "columns")):
        if axis < tensor.ndim and tensor.shape[axis] > 1:
            lines = [np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1) for x in (tensor, value)]
            order = _order(*lines)
            if order is not None:
                yield changed(name, f"with {said} in another order", area, _taken(name, order, axis))
    gone = np.linalg.norm(new - wide, axis=1)
    worst = np.argsort(-gone)[:_FEW]
    touched = [int(row) for row in worst if gone[row] > max(_SAME * np.linalg.norm(wide[row]), 0.1 * gone.max())]
    if len(touched) == 1:
        yield from _of_row(name, touched[0], tensor, value, area)
    elif touched and len(touched) < min(_FEW, len(tensor)):
        listed = ", ".join(map(str, sorted(touched)))
        yield changed(name, f"with rows {listed} changed", area, _with_rows(name, touched, value))


def _of_row(name: str, row: int, tensor: Array, value: Array, area: Area) -> Iterator[Hypothesis]:
    """One row is zero, or one of its elements is another, or all are."""
    yield changed(name, f"with row {row} zero", area, _with_rows(name, [row], 0 * value))
    gone = np.abs(value[row] - tensor[row])
    place = (row, *(int(i) for i in np.unravel_index(int(gone.argmax()), gone.shape)))
    single = tensor.copy()
    single[place] = value[place]
    said = f"with element {place} at {value[place]:.4g} in place of {tensor[place]:.4g}"
    yield changed(name, said, area, _with_rows(name, [row], single))
    if tensor.ndim > 1:
        yield changed(name, f"with row {row} changed", area, _with_rows(name, [row], value))


def _taken(name: str, order: Array, axis: int) -> Callable[[Mapping[str, Array]], Array]:
    return lambda tensors: np.take(tensors[name], order, axis)


def _with_rows(name: str, touched: Sequence[int], value: Array) -> Callable[[Mapping[str, Array]], Array]:
    def change(tensors: Mapping[str, Array]) -> Array:
        wrong = tensors[name].copy()
        wrong[list(touched)] = value[list(touched)]
        return wrong

    return change


def _order(lines: Float[Array, "N K"], new: Float[Array, "N K"]) -> Array | None:
    """The permutation for which new[i] is near lines[order[i]]; None where there is none, or none but the order as it is."""
    squares = (lines**2).sum(axis=1)
    distance = (new**2).sum(axis=1)[:, None] + squares - 2 * new @ lines.T
    order = distance.argmin(axis=1)
    if len(set(order.tolist())) < len(lines) or np.array_equal(order, np.arange(len(lines))):
        return None
    left = float(np.linalg.norm(new - lines[order]))
    return order if left < 0.3 * float(np.linalg.norm(new - lines)) else None
