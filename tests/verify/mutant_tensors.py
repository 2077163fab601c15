"""Faults in tensors of the checkpoint: a seed draws which, and how."""

import re
from collections.abc import Callable, Mapping

import numpy as np
from verify.chance import Random, pick

from refsam.config import Config
from refsam.parameters import parameter_shapes
from refsam.verify.pipeline import Pipeline


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
