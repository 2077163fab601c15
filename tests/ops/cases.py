"""One list of cases for every operation, shared by the tests of the definition, the tests of backends and the benchmarks.

A case knows its arguments, the naive definition (naive.py: plain loops) and the rounding error that any good implementation
stays within (bounds.py). Small cases have odd shapes and run against the loops; large ones are calls that MobileSAM makes
at its real size, and are for holding a backend against the definition and for timing.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ops.bounds import BOUNDS
from ops.naive import NAIVE

Shape = tuple[int, ...] | None


@dataclass(frozen=True)
class OpCase:
    """One call of an operation of `refsam.ops.Ops`.

    Attributes:
        name: `op/what`, the same in test reports and in benchmark rows.
        op: the attribute of `Ops`.
        shapes: of the array arguments in order, None where the argument is None.
        options: the positional arguments after the arrays.
        offset: added to the first argument, so that its mean is far from zero.
        large: of the model's real size.
    """

    name: str
    op: str
    shapes: tuple[Shape, ...]
    options: tuple[Any, ...] = ()
    offset: float = 0.0
    large: bool = False

    def arguments(self, rng: np.random.Generator, dtype: Any) -> tuple[Any, ...]:
        """Random arguments; float32 values in any dtype, so that a float64 run sees the very numbers of the float32 run."""
        arrays = [None if shape is None else self._draw(rng, place, shape, dtype) for place, shape in enumerate(self.shapes)]
        return (*arrays, *self.options)

    def seeded(self, dtype: Any) -> tuple[Any, ...]:
        """The case's own arguments, the same on every call."""
        return self.arguments(np.random.default_rng(zlib.crc32(self.name.encode())), dtype)

    def naive(self, *arguments: Any) -> np.ndarray:
        """The result by plain loops, in float64."""
        return np.asarray(NAIVE[self.op](*arguments))

    def bound(self, arguments: Sequence[Any], unit: float) -> np.ndarray:
        """For each element of the result: how far rounding may take it, `unit` being half the distance from 1 to the next
        number of the dtype. The arguments have to be float64."""
        return np.asarray(BOUNDS[self.op](*arguments, unit=unit))

    def _draw(self, rng: np.random.Generator, place: int, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        is_variance = self.op == "batch_norm" and place == 2
        x = rng.uniform(0.01, 2, shape) if is_variance else rng.standard_normal(shape, np.float32)
        return (x + (self.offset if place == 0 else 0)).astype(np.float32).astype(dtype)


def _small(name: str, *shapes: Shape, options: tuple[Any, ...] = (), offset: float = 0.0) -> OpCase:
    return OpCase(name, name.split("/")[0], shapes, options, offset)


def _large(name: str, *shapes: Shape, options: tuple[Any, ...] = ()) -> OpCase:
    return OpCase(name, name.split("/")[0], shapes, options, large=True)


def _affine(*shape: int, axis: int) -> tuple[Shape, ...]:
    """Shapes of x, weight and bias of a normalisation over `axis`."""
    return shape, (shape[axis],), (shape[axis],)


SMALL = (
    _small("linear/tokens", (2, 3, 5), (7, 5), (7,)),
    _small("linear/vector", (5,), (3, 5), (3,)),
    _small("linear/no-tokens", (2, 0, 5), (4, 5), (4,)),
    _small("linear/one-channel", (3, 1), (2, 1), (2,)),
    _small("conv2d/3x3-padded", (2, 3, 5, 7), (4, 3, 3, 3), None, options=(1, 1)),
    _small("conv2d/3x3-stride-2", (1, 3, 5, 8), (2, 3, 3, 3), None, options=(2, 1)),
    _small("conv2d/2x2-stride-2-bias", (2, 1, 6, 4), (3, 1, 2, 2), (3,), options=(2, 0)),
    _small("conv2d/1x1", (2, 5, 3, 4), (6, 5, 1, 1), None, options=(1, 0)),
    _small("conv2d/1x1-bias", (1, 5, 3, 1), (2, 5, 1, 1), (2,), options=(1, 0)),
    _small("conv2d/1x1-stride-2-padded", (2, 3, 4, 5), (2, 3, 1, 1), None, options=(2, 1)),
    _small("depthwise_conv2d/odd", (2, 3, 5, 7), (3, 1, 3, 3), options=(1,)),
    _small("depthwise_conv2d/stride-2-odd", (1, 2, 7, 5), (2, 1, 3, 3), options=(2,)),
    _small("depthwise_conv2d/stride-2-even", (2, 1, 6, 4), (1, 1, 3, 3), options=(2,)),
    _small("depthwise_conv2d/one-pixel", (1, 4, 1, 1), (4, 1, 3, 3), options=(1,)),
    _small("conv_transpose2d/odd", (2, 3, 3, 5), (3, 4, 2, 2), (4,)),
    _small("conv_transpose2d/one-pixel", (1, 2, 1, 1), (2, 1, 2, 2), (1,)),
    _small("layer_norm/tokens", *_affine(2, 3, 7, axis=-1)),
    _small("layer_norm/far-from-zero", *_affine(2, 5, axis=-1), offset=1000.0),
    _small("layer_norm_2d/odd", *_affine(2, 5, 3, 4, axis=1)),
    _small("layer_norm_2d/far-from-zero", *_affine(1, 6, 2, 3, axis=1), offset=-300.0),
    _small("batch_norm/odd", (2, 3, 5, 4), (3,), (3,), (3,), (3,)),
    _small("gelu/map", (2, 3, 5, 7)),
    _small("gelu/empty", (0, 3)),
    _small("relu/map", (2, 3, 5)),
    _small("attention/square-biased", (2, 3, 4, 5), (2, 3, 4, 5), (2, 3, 4, 5), (3, 4, 4)),
    _small("attention/cross", (2, 1, 3, 4), (2, 1, 7, 4), (2, 1, 7, 4)),
    _small("attention/one-key", (1, 2, 3, 4), (1, 2, 1, 4), (1, 2, 1, 4)),
    _small("attention/wide-scores", (1, 2, 3, 6), (1, 2, 5, 6), (1, 2, 5, 6), offset=20.0),
)

# Shapes as MobileSAM calls them with one click: 5 output tokens, the point and its padding.
LARGE = (
    _large("linear/layers.1-qkv", (361, 49, 128), (384, 128), (384,)),
    _large("linear/layers.1-fc1", (1, 16384, 128), (512, 128), (512,)),
    _large("linear/layers.1-fc2", (1, 16384, 512), (128, 512), (128,)),
    _large("linear/layers.2-qkv", (25, 196, 160), (480, 160), (480,)),
    _large("linear/layers.2-fc1", (1, 4096, 160), (640, 160), (640,)),
    _large("linear/layers.3-qkv", (100, 49, 320), (960, 320), (960,)),
    _large("linear/layers.3-fc2", (1, 4096, 1280), (320, 1280), (320,)),
    _large("linear/decoder-keys", (1, 4096, 256), (128, 256), (128,)),
    _large("linear/decoder-tokens", (1, 7, 256), (2048, 256), (2048,)),
    _large("conv2d/patch-embed-0", (1, 3, 1024, 1024), (32, 3, 3, 3), None, options=(2, 1)),
    _large("conv2d/patch-embed-2", (1, 32, 512, 512), (64, 32, 3, 3), None, options=(2, 1)),
    _large("conv2d/mb-conv-expand", (1, 64, 256, 256), (256, 64, 1, 1), None, options=(1, 0)),
    _large("conv2d/mb-conv-project", (1, 256, 256, 256), (64, 256, 1, 1), None, options=(1, 0)),
    _large("conv2d/neck-0", (1, 320, 64, 64), (256, 320, 1, 1), None, options=(1, 0)),
    _large("conv2d/neck-2", (1, 256, 64, 64), (256, 256, 3, 3), None, options=(1, 1)),
    _large("depthwise_conv2d/mb-conv", (1, 256, 256, 256), (256, 1, 3, 3), options=(1,)),
    _large("depthwise_conv2d/merge-0", (1, 128, 256, 256), (128, 1, 3, 3), options=(2,)),
    _large("depthwise_conv2d/layers.1", (1, 128, 128, 128), (128, 1, 3, 3), options=(1,)),
    _large("depthwise_conv2d/merge-2", (1, 320, 64, 64), (320, 1, 3, 3), options=(1,)),
    _large("conv_transpose2d/upscaling-0", (1, 256, 64, 64), (256, 64, 2, 2), (64,)),
    _large("conv_transpose2d/upscaling-3", (1, 64, 128, 128), (64, 32, 2, 2), (32,)),
    _large("layer_norm/layers.1-windows", *_affine(361, 49, 128, axis=-1)),
    _large("layer_norm/layers.1-mlp", *_affine(1, 16384, 128, axis=-1)),
    _large("layer_norm/decoder-keys", *_affine(1, 4096, 256, axis=-1)),
    _large("layer_norm_2d/neck-1", *_affine(1, 256, 64, 64, axis=1)),
    _large("layer_norm_2d/upscaling-1", *_affine(1, 64, 128, 128, axis=1)),
    _large("batch_norm/mb-conv", (1, 256, 256, 256), (256,), (256,), (256,), (256,)),
    _large("gelu/mb-conv", (1, 256, 256, 256)),
    _large("gelu/layers.1-mlp", (1, 16384, 512)),
    _large("gelu/upscaling-3", (1, 32, 256, 256)),
    _large("relu/decoder-mlp", (1, 7, 2048)),
    _large("attention/layers.1", (361, 4, 49, 32), (361, 4, 49, 32), (361, 4, 49, 32), (4, 49, 49)),
    _large("attention/layers.2", (25, 5, 196, 32), (25, 5, 196, 32), (25, 5, 196, 32), (5, 196, 196)),
    _large("attention/layers.3", (100, 10, 49, 32), (100, 10, 49, 32), (100, 10, 49, 32), (10, 49, 49)),
    _large("attention/tokens-to-image", (1, 8, 7, 16), (1, 8, 4096, 16), (1, 8, 4096, 16)),
    _large("attention/image-to-tokens", (1, 8, 4096, 16), (1, 8, 7, 16), (1, 8, 7, 16)),
    _large("attention/tokens", (1, 8, 7, 32), (1, 8, 7, 32), (1, 8, 7, 32)),
)

CASES = SMALL + LARGE
