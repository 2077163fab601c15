"""How much there is to compute, counted by running the model's own functions on shapes alone."""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from refsam.config import Config
from refsam.model.sam import MobileSam
from refsam.ops import Ops
from refsam.parameters import parameter_shapes
from refsam.tracing import Trace

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Work:
    """Multiply-adds of matrix products, attention and convolutions; and the bytes that have to move at least: the input, the
    output and the weights, each once, in float32. Normalisation and GELU count nothing."""

    macs: int
    bytes: int

    def least_seconds(self, macs_per_second: float, bytes_per_second: float) -> float:
        """The roofline: what takes longer, the arithmetic at the machine's peak or the traffic at its bandwidth."""
        return max(self.macs / macs_per_second, self.bytes / bytes_per_second)


def encoder_stages(config: Config) -> list[str]:
    """The blocks that the encoder's time is split into, in the order in which they run."""
    layers = [
        f"image_encoder.layers.{layer}.{part}"
        for layer in range(4)
        for part in (*(f"blocks.{block}" for block in range(config.depths[layer])), *(["downsample"] if layer < 3 else []))
    ]
    return ["image_encoder.patch_embed", *layers, "image_encoder.neck"]


def encoder_work(config: Config) -> dict[str, Work]:
    """Stage -> work."""
    counter = Counter()
    meter = Meter(encoder_stages(config), counter, 3 * config.image_size**2)
    model = _model(config, counter).traced(meter)
    model.encode_image(_nothing((1, 3, config.image_size, config.image_size)))
    weights = parameter_shapes(config)
    return {
        name: Work(macs, 4 * (elements + sum(prod(shape) for key, shape in weights.items() if key.startswith(f"{name}."))))
        for name, (macs, elements) in meter.stages.items()
    }


def decoder_macs(config: Config, points: int = 1) -> int:
    """Multiply-adds of one prompt of so many points, as upstream computes it: all masks, though three are returned."""
    counter = Counter()
    model = _model(config, counter)
    features = _nothing((1, config.prompt_embed_dim, config.embedding_size, config.embedding_size))
    sparse, dense = model.encode_prompts((np.zeros((1, points, 2)), np.ones((1, points), int)))
    model.decode_masks(features, features, sparse, dense)
    return counter.macs + config.num_mask_tokens * (config.prompt_embed_dim // 8) * config.mask_size**2  # the last product


def operation_macs(name: str) -> int:
    """Multiply-adds of one of the tests' cases."""
    from ops.cases import CASES  # tests/ops/cases.py

    case = next(case for case in CASES if case.name == name)
    return RULES[case.op](*case.shapes, *case.options)[1]


def _model(config: Config, counter: "Counter") -> MobileSam:
    return MobileSam({name: np.zeros(shape, np.float32) for name, shape in parameter_shapes(config).items()}, config, counter)


def _nothing(shape: Shape) -> np.ndarray:
    """Zeros of this shape that take no memory."""
    return np.broadcast_to(np.float32(0), shape)


class Counter(Ops):
    """Computes nothing: adds up the multiply-adds of each call, and answers with zeros of the right shape."""

    def __init__(self) -> None:
        self.macs = 0


def _linear(x: Shape, weight: Shape, _bias: Shape) -> tuple[Shape, int]:
    shape = (*x[:-1], weight[0])
    return shape, prod(shape) * weight[1]


def _conv2d(x: Shape, weight: Shape, _bias: Shape, stride: int, padding: int) -> tuple[Shape, int]:
    shape = (x[0], weight[0], *((n + 2 * padding - weight[-1]) // stride + 1 for n in x[2:]))
    return shape, prod(shape) * prod(weight[1:])


def _depthwise_conv2d(x: Shape, weight: Shape, stride: int) -> tuple[Shape, int]:
    shape = (*x[:2], *((n - 1) // stride + 1 for n in x[2:]))
    return shape, prod(shape) * prod(weight[1:])


def _conv_transpose2d(x: Shape, weight: Shape, _bias: Shape) -> tuple[Shape, int]:
    shape = (x[0], weight[1], *(2 * n for n in x[2:]))
    return shape, prod(shape) * x[1]  # kernel and stride are equal: each result has one product for each input channel


def _attention(q: Shape, k: Shape, v: Shape, *_bias: Shape) -> tuple[Shape, int]:
    shape = (*q[:-1], v[-1])
    return shape, prod(q) * k[-2] + prod(shape) * v[-2]


def _elementwise(x: Shape, *_: Any) -> tuple[Shape, int]:
    return x, 0


RULES: dict[str, Callable[..., tuple[Shape, int]]] = {
    "linear": _linear, "conv2d": _conv2d, "depthwise_conv2d": _depthwise_conv2d, "conv_transpose2d": _conv_transpose2d,
    "attention": _attention, **dict.fromkeys(("layer_norm", "layer_norm_2d", "batch_norm", "gelu", "relu"), _elementwise),
}  # fmt: skip
"""Operation -> (the result's shape, multiply-adds) from the arguments, arrays by their shapes."""


def _counting(rule: Callable[..., tuple[Shape, int]]) -> Any:
    def method(self: Counter, *arguments: Any) -> np.ndarray:
        shape, macs = rule(*(x.shape if isinstance(x, np.ndarray) else x for x in arguments))
        self.macs += macs
        return _nothing(shape)

    return method


for _name, _rule in RULES.items():
    setattr(Counter, _name, _counting(_rule))


class Meter(Trace):
    """A trace that reads the counter at the end of each stage in place of keeping values."""

    def __init__(self, names: list[str], counter: Counter, elements: int) -> None:
        super().__init__(",".join(names))
        self.counter, self.macs, self.elements = counter, 0, elements
        self.stages: dict[str, tuple[int, int]] = {}

    def record(self, name: str, value: np.ndarray) -> None:
        """Note multiply-adds since the stage before, and the elements that came in and went out."""
        if self.wants(name):
            self.stages[name] = (self.counter.macs - self.macs, self.elements + value.size)
            self.macs, self.elements = self.counter.macs, value.size
