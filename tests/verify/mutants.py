"""Faults planted by chance in a port of the tiny model: a seed draws what is changed, and how, from stated odds.

Nothing here looks at a hypothesis or a budget. Where a hypothesis that says the same thing is known, `names` has it, so that a
table can count how often the oracle names it first.
"""

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from verify.chance import Random, pick
from verify.mistaken import cases
from verify.mutant_calls import at_a_call
from verify.mutant_tensors import tensor

from refsam.config import Config
from refsam.transforms import PIXEL_MEAN, PIXEL_STD
from refsam.verify.hypotheses.resizing import to_uint8
from refsam.verify.pipeline import Pipeline, Place

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
        calls: case -> the operations of its run, in order (`mutant_calls.calls_of`).
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
        return f"levels times {gain:.3g}", lambda: Pipeline(picture=lambda x: to_uint8(x * gain)), ()
    mean, std, pad = PIXEL_MEAN.copy(), PIXEL_STD.copy(), 0.0
    channel, value = int(rng.randint(3)), float(rng.uniform(-20, 20))
    if way == "padding":
        pad = value / 20
    else:
        (mean if way == "mean" else std)[channel] += value
    return (
        f"{way} {value:.3g} off in channel {channel}",
        lambda: Pipeline(place=Place(tuple(mean.tolist()), tuple(std.tolist()), pad)),
        (),
    )


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
