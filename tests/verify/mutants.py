"""Faults planted by chance in a port of the tiny model: a seed draws what is changed, and how, from stated odds.

Nothing here looks at a hypothesis or a budget. Where a hypothesis that says the same thing is known, `names` has it, so that a
table can count how often the oracle names it first.
"""

import itertools
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from verify.mistaken import cases

from refsam.config import Config
from refsam.ops import Ops
from refsam.parameters import parameter_shapes
from refsam.verify.hypotheses import encoder, preprocessing
from refsam.verify.pipeline import Pipeline, normalized
from refsam.verify.precision import OPERATIONS

Random = np.random.RandomState  # its stream is frozen
Change = Callable[[np.ndarray], np.ndarray]

ODDS = {
    "tensor": 0.5,
    "operation": 0.12,
    "axis": 0.09,
    "constant": 0.09,
    "index": 0.08,
    "picture": 0.04,
    "prompt": 0.04,
    "mask": 0.04,
}
"""How often each kind is drawn."""

PRECISIONS = {"float32": 0.7, "fp16": 0.3}


class Mutant(NamedTuple):
    """A fault that was drawn.

    Attributes:
        kind: one of ODDS.
        words: what was changed.
        case, precision: what the port is asked, and what it computes in.
        pipeline: makes the port; anew for each run, since it counts its operations.
        names: parts of the names of hypotheses that say the same, any of them; empty where there is none.
    """

    kind: str
    words: str
    case: str
    precision: str
    pipeline: Callable[[], Pipeline]
    names: tuple[str, ...] = ()


def draw(seed: int, count: int, config: Config, calls: Callable[[str], list[str]]) -> list[Mutant]:
    """So many mutants of a seed.

    Args:
        calls: case -> the operations of its run, in order (`calls_of`).
    """
    rng = Random(seed)
    return [one(rng, config, calls) for _ in range(count)]


def one(rng: Random, config: Config, calls: Callable[[str], list[str]]) -> Mutant:
    kind = pick(rng, list(ODDS), list(ODDS.values()))
    case = pick(rng, list(cases(config)))
    precision = pick(rng, list(PRECISIONS), list(PRECISIONS.values()))
    if kind == "tensor":
        words, pipeline, names = tensor(rng, config)
    elif kind in ("picture", "prompt", "mask"):
        words, pipeline, names = {"picture": picture, "prompt": prompt, "mask": mask}[kind](rng)
    else:
        words, pipeline, names = at_a_call(rng, kind, calls(case))
    return Mutant(kind, words, case, precision, pipeline, names)


def pick(rng: Random, options: list[Any], odds: list[float] | None = None) -> Any:
    return options[int(rng.choice(len(options), p=odds))]


# --- tensors ----------------------------------------------------------------------------------------------------------------


def tensor(rng: Random, config: Config) -> tuple[str, Callable[[], Pipeline], tuple[str, ...]]:
    """A tensor of the checkpoint, each as likely as another, changed in one of these ways, each as likely as another."""
    shapes = parameter_shapes(config)
    name = pick(rng, list(shapes))
    shown = positions(name, config)
    inputs = int(np.prod(shapes[name][1:]))
    ways = [
        scaled,
        negated,
        zero,
        rows_permuted,
        columns_permuted,
        transposed,
        row_zero,
        element,
        rows_exchanged,
        shifted,
        another,
    ]
    while True:
        found = pick(rng, ways)(rng, name, shapes)
        if found is not None:
            break
    words, change, names = found

    def apply(weights: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        return {**weights, name: np.ascontiguousarray(change(weights), np.float32)}

    if (names and names[0] in READ and shown < 3) or (names and names[0] in SOLVED and shown < inputs):
        names = ()
    if name.endswith(".bn.running_var") and names == ("scaled by",):  # the same but for epsilon
        return f"{name} {words}", lambda: Pipeline(weights=apply), (f"{name} scaled", f"{name[:-12]}.weight scaled")
    return f"{name} {words}", lambda: Pipeline(weights=apply), tuple(f"{name} {said}" for said in names)


ROWS, COLUMNS, ROW, ELEMENT = "with rows in another order", "with columns in another order", "with row", "with element"
READ = (ROWS, ROW)
"""What can be read off a stage that the tensor's operation ends, ..."""
SOLVED = (COLUMNS, ELEMENT)
"""... and what can be solved for where it has at least as many positions as the tensor has inputs."""


def positions(name: str, config: Config) -> int:
    """At how many places a stage that is shown ends with this tensor's operation; 0 where it lies deeper."""
    sides = [config.image_size // n for n in (4, 8, 16, 16)]
    layer = int(name.split(".")[2]) if name.startswith("image_encoder.layers") else 0
    window = config.window_sizes[layer]
    grids = {
        r"patch_embed.seq.2.|layers.0.blocks.*.conv": sides[0] ** 2,
        r"downsample.conv3.": sides[min(layer + 1, 3)] ** 2,
        r"attn.proj.": (-(-sides[layer] // window) * window) ** 2,
        r"image_encoder.*mlp.fc2.|local_conv.": sides[layer] ** 2,
        r"neck.|image_to_token.out_proj.|norm4.": config.embedding_size**2,
        r"out_proj.|mlp.lin2.|norm_final_attn.": 6,
    }
    return next((count for pattern, count in grids.items() if re.search(pattern, name)), 0)


Shapes = Mapping[str, tuple[int, ...]]
Found = tuple[str, Callable[[Mapping[str, np.ndarray]], np.ndarray], tuple[str, ...]] | None


def scaled(rng: Random, name: str, shapes: Shapes) -> Found:
    factor = np.float32(np.exp(rng.uniform(-1, 1)))
    return f"times {factor:.3g}", lambda w: w[name] * factor, ("scaled by",)


def negated(rng: Random, name: str, shapes: Shapes) -> Found:
    return "negated", lambda w: -w[name], ("negated",)


def zero(rng: Random, name: str, shapes: Shapes) -> Found:
    return "zero", lambda w: 0 * w[name], ("zero",)


def shifted(rng: Random, name: str, shapes: Shapes) -> Found:
    """A constant added to every element."""
    offset = np.float32(rng.uniform(-0.3, 0.3))
    return f"plus {offset:.3g}", lambda w: w[name] + offset, ()


def rows_permuted(rng: Random, name: str, shapes: Shapes) -> Found:
    order = rng.permutation(shapes[name][0])
    return None if len(order) < 3 else ("with its rows permuted", lambda w: w[name][order], (ROWS,))


def columns_permuted(rng: Random, name: str, shapes: Shapes) -> Found:
    if len(shapes[name]) < 2 or shapes[name][1] < 3:
        return None
    order = rng.permutation(shapes[name][1])
    return "with its columns permuted", lambda w: w[name][:, order], (COLUMNS,)


def transposed(rng: Random, name: str, shapes: Shapes) -> Found:
    """The last two axes exchanged; those of a matrix that is not square have its numbers in the other order."""
    shape = shapes[name]
    if len(shape) < 2 or shape[-1] == 1:
        return None
    return "transposed", lambda w: w[name].swapaxes(-1, -2).reshape(shape), ("transposed",)


def row_zero(rng: Random, name: str, shapes: Shapes) -> Found:
    row = int(rng.randint(shapes[name][0]))
    keep = np.arange(shapes[name][0]) != row
    return (
        f"with row {row} zero",
        lambda w: w[name] * keep.reshape(-1, *[1] * (w[name].ndim - 1)),
        ("zero",) if shapes[name][0] == 1 else (ROW,),
    )


def rows_exchanged(rng: Random, name: str, shapes: Shapes) -> Found:
    """Two of them."""
    if shapes[name][0] < 2:
        return None
    order = np.arange(shapes[name][0])
    i, j = (int(n) for n in rng.choice(len(order), 2, replace=False))
    order[[i, j]] = j, i
    return f"with rows {i} and {j} exchanged", lambda w: w[name][order], (ROWS,)


def element(rng: Random, name: str, shapes: Shapes) -> Found:
    """One, set to another element's value plus as much as all of them vary."""
    place = tuple(int(rng.randint(n)) for n in shapes[name])

    def change(w: Mapping[str, np.ndarray]) -> np.ndarray:
        wrong = w[name].copy()
        wrong[place] += max(float(np.std(wrong)), 0.1)
        return wrong

    return f"with element {place} changed", change, (ELEMENT,)


def another(rng: Random, name: str, shapes: Shapes) -> Found:
    """Another tensor of the same shape in its place."""
    others = [other for other, shape in shapes.items() if shape == shapes[name] and other != name]
    if not others:
        return None
    other = pick(rng, others)
    alike = sum(a != b for a, b in zip(name.split("."), other.split("."), strict=False)) == 1
    return f"taken from {other}", lambda w: w[other], (f"taken from {other}",) if alike else ()


# --- operations -------------------------------------------------------------------------------------------------------------


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


# --- before and after the model ---------------------------------------------------------------------------------------------


def picture(rng: Random) -> tuple[str, Callable[[], Pipeline], tuple[str, ...]]:
    """The picture's channels, its place, its size, or the constants of normalising."""
    way = pick(rng, ["channels", "moved", "size", "mean", "std", "padding", "levels"])
    if way == "channels":
        order = pick(rng, [p for p in itertools.permutations(range(3)) if p != (0, 1, 2)])
        names = ("BGR",) if order == (2, 1, 0) else ()
        return f"channels in the order {order}", lambda: Pipeline(picture=lambda image: image[..., list(order)]), names
    if way == "moved":
        step, along = int(rng.randint(1, 4)), int(rng.randint(2))
        return f"moved by {step} pixels along axis {along}", lambda: Pipeline(picture=lambda x: np.roll(x, step, along)), ()
    if way == "size":
        return "one row and column short", lambda: Pipeline(size=lambda o, s: tuple(n - 1 for n in Pipeline().size(o, s))), ()
    if way == "levels":
        gain = float(rng.uniform(0.9, 1.1))
        return f"levels times {gain:.3g}", lambda: Pipeline(picture=lambda x: preprocessing.to_uint8(x * gain)), ()
    mean, std, pad = preprocessing.PIXEL_MEAN.copy(), preprocessing.PIXEL_STD.copy(), 0.0
    channel, value = int(rng.randint(3)), float(rng.uniform(-20, 20))
    if way == "padding":
        pad = value / 20
    else:
        (mean if way == "mean" else std)[channel] += value
    return f"{way} {value:.3g} off in channel {channel}", lambda: Pipeline(place=normalized(mean, std, pad)), ()


def prompt(rng: Random) -> tuple[str, Callable[[], Pipeline], tuple[str, ...]]:
    """Coordinates with a factor, an offset, or axes exchanged."""
    way = pick(rng, ["factor", "offset", "exchanged"])
    right = Pipeline().coords
    if way == "exchanged":
        return "x and y exchanged", lambda: Pipeline(coords=lambda *a: right(*a)[..., ::-1]), ("x and y of points exchanged",)
    value, along = float(rng.uniform(-4, 4)), np.arange(2) == rng.randint(2)
    if way == "factor":
        return f"coordinates times {2**value:.3g}", lambda: Pipeline(coords=lambda *a: right(*a) * 2**value), ()
    return f"one coordinate plus {value:.3g}", lambda: Pipeline(coords=lambda *a: right(*a) + value * along), ()


def mask(rng: Random) -> tuple[str, Callable[[], Pipeline], tuple[str, ...]]:
    """The threshold, or the place of the mask."""
    if rng.randint(2):
        value = float(rng.uniform(-2, 2))
        return f"threshold {value:.3g}", lambda: replace(Pipeline(), binarize=lambda logits: logits > value), ()
    step, along = int(rng.randint(1, 3)), int(rng.randint(1, 3))
    return f"moved by {step} pixels", lambda: replace(Pipeline(), binarize=lambda x: np.roll(x > 0, step, -along)), ()
