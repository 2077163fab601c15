"""Faults in single calls of operations: a seed draws which, and how."""

from collections.abc import Callable
from typing import Any

import numpy as np
from verify.chance import Random, pick

from refsam.ops import Ops
from refsam.verify.hypotheses import encoder
from refsam.verify.pipeline import Pipeline
from refsam.verify.precision import OPERATIONS


class Counter:
    """The operations of the definition, with the call of one number changed; it notes what it runs."""

    def __init__(self, number: int = -1, change: Callable[..., np.ndarray] | None = None) -> None:
        self.number, self.change = number, change
        self.calls: list[str] = []

    def ops(self) -> dict[str, Callable[..., np.ndarray]]:
        return {name: self._counted(name) for name in OPERATIONS}

    def _counted(self, name: str) -> Callable[..., np.ndarray]:
        def run(*args: Any, **kwargs: Any) -> np.ndarray:
            self.calls.append(name)
            op = getattr(Ops, name)
            if self.change is not None and len(self.calls) - 1 == self.number:
                return np.asarray(self.change(op, *args, **kwargs), np.float32)
            return op(*args, **kwargs)

        return run


def at_a_call(rng: Random, kind: str, calls: list[str]) -> tuple[str, Callable[[], Pipeline], tuple[str, ...]]:
    """One call of an operation, each as likely as another, changed."""
    while True:
        number = int(rng.randint(len(calls)))
        found = {"operation": operation, "axis": axis, "constant": constant, "index": index}[kind](rng, calls[number])
        if found is not None:
            break
    words, change, names = found
    return f"{calls[number]} (call {number}) {words}", lambda: Pipeline().with_ops(**Counter(number, change).ops()), names


Changed = tuple[str, Callable[..., np.ndarray], tuple[str, ...]] | None


def plain(op: Callable[..., np.ndarray], x: np.ndarray, *rest: Any, **options: Any) -> np.ndarray:
    """The operation's input in place of its result."""
    return x


def instead(function: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    return lambda op, *args, **kwargs: function(*args, **kwargs)


def flipped_kernel(op: Callable[..., np.ndarray], x: np.ndarray, weight: np.ndarray, *rest: Any) -> np.ndarray:
    return op(x, weight[..., ::-1, ::-1], *rest)


def exchanged_kernel(op: Callable[..., np.ndarray], x: np.ndarray, weight: np.ndarray, *rest: Any) -> np.ndarray:
    return op(x, weight.swapaxes(-1, -2), *rest)


def without_bias(op: Callable[..., np.ndarray], x: np.ndarray, weight: np.ndarray, bias: np.ndarray, *rest: Any) -> np.ndarray:
    return op(x, weight, 0 * bias, *rest)


def root_mean_square(op: Callable[..., np.ndarray], x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + 1e-5) * weight + bias


def uniform(op: Callable[..., np.ndarray], q: np.ndarray, k: np.ndarray, v: np.ndarray, *bias: np.ndarray) -> np.ndarray:
    return op(0 * q, k, v)


OTHERS: dict[str, list[tuple[str, Callable[..., np.ndarray], tuple[str, ...]]]] = {
    "gelu": [
        ("is ReLU", instead(Ops.relu), ("ReLU for GELU",)),
        ("is tanh GELU", instead(encoder.gelu_tanh), ("tanh GELU",)),
        ("is SiLU", instead(encoder.silu), ("SiLU for GELU",)),
        ("is left out", plain, ("GELU left out",)),
    ],
    "relu": [
        ("is GELU", instead(Ops.gelu), ("GELU for ReLU",)),
        ("is left out", plain, ("ReLU left out",)),
        ("is the absolute value", lambda op, x: np.abs(x), ()),
    ],
    "linear": [
        ("has no bias", without_bias, ("bias zero", "biases left out")),
        ("has its bias twice", lambda op, x, w, b: op(x, w, 2 * b), ("bias scaled by 2", "biases added twice")),
    ],
    "conv2d": [
        ("has its kernel turned", flipped_kernel, ("kernels flipped",)),
        ("has its kernel transposed", exchanged_kernel, ("transposed",)),
    ],
    "depthwise_conv2d": [
        ("has its kernel turned", flipped_kernel, ("kernels flipped",)),
        ("has its kernel transposed", exchanged_kernel, ("transposed",)),
    ],
    "conv_transpose2d": [
        ("has its kernel turned", flipped_kernel, ("kernels flipped",)),
        ("has its kernel transposed", exchanged_kernel, ("conv_transpose with x and y exchanged", "transposed")),
    ],
    "layer_norm": [
        ("is left out", instead(encoder.without_norm), ("LayerNorm left out",)),
        ("does not centre", root_mean_square, ()),
        # The same as a smaller weight, but for epsilon.
        ("divides by N - 1", instead(encoder.unbiased_layer_norm), ("LayerNorm by N - 1", "weight scaled by 0.9")),
    ],
    "layer_norm_2d": [("is left out", instead(encoder.without_norm), ("LayerNorm2d left out",)), ("is nothing", plain, ())],
    "batch_norm": [
        ("uses the picture's statistics", instead(encoder.batch_statistics), ("BatchNorm in training mode",)),
        ("is nothing", plain, ()),
    ],
    "attention": [
        ("has no softmax", uniform, ()),
        ("runs over the queries", instead(encoder.softmax_over_queries), ("softmax over the queries",)),
        ("exchanges keys and values", lambda op, q, k, v, *bias: op(q, v, k, *bias), ()),
    ],
}  # fmt: skip


def operation(rng: Random, op: str) -> Changed:
    """Another operation in its place."""
    return pick(rng, OTHERS[op])


def axis(rng: Random, op: str) -> Changed:
    """The result turned around along one axis, moved along it, or two axes of equal length exchanged."""
    number, way, shift = int(rng.randint(4)), pick(rng, ["reversed", "moved", "exchanged"]), int(rng.randint(1, 4))

    def change(run: Callable[..., np.ndarray], *args: Any, **kwargs: Any) -> np.ndarray:
        y = run(*args, **kwargs)
        along = sorted(range(y.ndim), key=lambda axis: -y.shape[axis])[number % max(1, sum(n > 1 for n in y.shape))]
        equal = [other for other in range(y.ndim) if other != along and y.shape[other] == y.shape[along]]
        if way == "reversed" or (way == "exchanged" and not equal):
            return np.flip(y, along)
        return np.roll(y, shift, along) if way == "moved" else y.swapaxes(along, equal[0])

    return f"{way} along its axis number {number} by length", change, ()


def constant(rng: Random, op: str) -> Changed:
    """The result with a factor or an offset."""
    size, sign = float(10 ** rng.uniform(-4, 0)), float(rng.choice([-1, 1]))
    if rng.randint(2):
        return f"times {1 + sign * size:.4g}", lambda run, *args, **kw: run(*args, **kw) * np.float32(1 + sign * size), ()
    return f"plus {sign * size:.3g}", lambda run, *args, **kw: run(*args, **kw) + np.float32(sign * size), ()


def index(rng: Random, op: str) -> Changed:
    """One slice of the result is zero, or its neighbour."""
    number, part, zeroed = int(rng.randint(4)), float(rng.uniform()), bool(rng.randint(2))

    def change(run: Callable[..., np.ndarray], *args: Any, **kwargs: Any) -> np.ndarray:
        y = run(*args, **kwargs).copy()
        long = [axis for axis in range(y.ndim) if y.shape[axis] > 1] or [0]
        moved = np.moveaxis(y, long[number % len(long)], 0)
        place = int(part * len(moved))
        moved[place] = 0 if zeroed else moved[place - 1]
        return y

    return f"{'loses' if zeroed else 'repeats'} a slice along its axis {number}", change, ()


def calls_of(run: Callable[[Pipeline], Any]) -> list[str]:
    """The operations that a run makes, in order."""
    counter = Counter()
    run(Pipeline().with_ops(**counter.ops()))
    return counter.calls
