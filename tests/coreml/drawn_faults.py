"""Faults drawn by lot: part, operation, parameter and mistake. Nothing was tuned on them, so they give a rate."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
from coreml.faults import D, E, Fault, P, one_wrong, swap_pairs

from refsam.coreml.mil import Program

Change = Callable[[Any], Any]


def _exchanged(x: np.ndarray) -> np.ndarray:
    """The first two of the first axis."""
    x = x.copy()
    x[[0, 1]] = x[[1, 0]]
    return x


def _first(factor: float) -> Change:
    """The first of the first axis times a factor."""

    def change(x: np.ndarray) -> np.ndarray:
        x = x.copy()
        x[0] *= x.dtype.type(factor)
        return x

    return change


def _times(factor: float) -> Change:
    return lambda x: (x * x.dtype.type(factor)).astype(x.dtype)


def _rolled(x: np.ndarray) -> np.ndarray:
    return np.roll(x, 1, -1)


def _bf16(x: np.ndarray) -> np.ndarray:
    """Cut to 8 bits of significand."""
    return (np.ascontiguousarray(x, np.float32).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


def _clipped(x: np.ndarray) -> np.ndarray:
    limit = np.quantile(np.abs(x), 0.99).astype(x.dtype)
    return np.clip(x, -limit, limit)


MISTAKES: dict[str, dict[str, Change]] = {
    "weight": {"two outputs exchanged": _exchanged, "an output forgotten": _first(0), "an output 10 % off": _first(1.1),
               "inputs rolled by one": _rolled, "an output negated": _first(-1), "5 % off": _times(1.05)},
    "bias": {"forgotten": np.zeros_like, "negated": np.negative, "rolled by one": _rolled, "one 50 % off": _first(1.5)},
    "gamma": {"forgotten": np.ones_like, "one forgotten": _first(0), "1 % off": _times(1.01), "rolled by one": _rolled},
    "beta": {"forgotten": np.zeros_like, "negated": np.negative, "5 % off": _times(1.05)},
    "epsilon": {"a thousand times as great": _times(1000)},
    "y": {"2 % off": _times(1.02), "forgotten": np.zeros_like},
    "mode": {"tanh": lambda _: "TANH_APPROXIMATION", "sigmoid": lambda _: "SIGMOID_APPROXIMATION"},
    "axis": {"the last but one": lambda a: a * 0 - 2},
    "pad": {"on the other side": swap_pairs},
}  # fmt: skip
"""Parameter -> mistake; possible in packages and in executors."""

RESULTS: dict[str, Change] = {
    "0.3 % off": _times(1.003), "one element wrong": one_wrong, "rolled by one": _rolled, "cut to bfloat16": _bf16,
    "clipped at the 99th percentile": _clipped, "negated": np.negative,
}  # fmt: skip
"""What an executor may do besides."""

OPERATIONS = ("linear", "conv", "conv_transpose", "layer_norm", "batch_norm", "gelu", "softmax", "mul", "add", "pad")
ROUNDING = ("linear", "conv", "layer_norm", "gelu", "softmax", "matmul", "add", "mul", "sub", "real_div", "sqrt", "relu")


def drawn(seed: int, programs: dict[str, Program], in_executor: bool) -> Fault:
    """One fault of this seed."""
    rng = random.Random(seed + 1000 * in_executor)
    part = rng.choice((E, E, E, D, D, D, P))
    program = programs[part]
    if in_executor and rng.random() < 0.5:
        kind = rng.choice([kind for kind in ROUNDING if any(op.type == kind for op in program.ops)])
        mistake = rng.choice(list(RESULTS))
        count = sum(op.type == kind for op in program.ops)
        return Fault(f"result of {kind} {mistake}", part, kind, rng.randrange(count), "result", RESULTS[mistake])
    constants = {op.name: op for op in program.ops if op.type == "const"}
    places: list[tuple[str, str, int]] = []
    for kind in OPERATIONS:
        for parameter in MISTAKES:
            having = [op for op in program.ops if op.type == kind and parameter in op.inputs]
            having = [op for op in having if parameter != "y" or op.inputs["y"][0] in constants]
            places += [(kind, parameter, nth) for nth, op in enumerate(having) if op.inputs[parameter][0] in constants]
    kind = rng.choice(sorted({place[0] for place in places}))
    kind, parameter, nth = rng.choice([place for place in places if place[0] == kind])
    mistake = rng.choice(list(MISTAKES[parameter]))
    return Fault(f"{parameter} of {kind}: {mistake}", part, kind, nth, parameter, MISTAKES[parameter][mistake])
