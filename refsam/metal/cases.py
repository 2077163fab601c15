"""One list of cases for every kernel: what the tests, `refsam kernels test` and `refsam kernels bench` run.

Small cases have odd shapes: results that tiles of 128 x 64, strips of 4 or groups of any size do not divide. Large ones are
calls of MobileSAM at its real size.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from refsam.metal import bounds, calls, definitions
from refsam.metal.case import KernelCase, Shape
from refsam.metal.runner import Runner
from refsam.ops import Ops
from refsam.ops.resize import bilinear
from refsam.transforms import preprocess
from refsam.types import Array


def _matmuls(kernel: str) -> Iterator[KernelCase]:
    def make(what: str, *shapes: Shape, large: bool = False, **how: Any) -> KernelCase:
        a, b = (np.broadcast_to(0.0, shape) for shape in shapes[:2] if shape)
        product = _untransposed(a, b, how.get("transposed", ""))
        flops = 2 * max(len(a), len(b)) * product[0].shape[1] * product[0].shape[2] * product[1].shape[2]
        return KernelCase(
            f"{kernel}/{what}", shapes, partial(calls.matmul, kernel=kernel, **how), partial(_matmul, **how),
            partial(_matmul_bound, **how), flops=flops, large=large,
        )  # fmt: skip

    yield make("one", (1, 1, 1), (1, 1, 1), None)
    yield make("tokens", (1, 7, 33), (1, 70, 33), (70,), transposed="b")
    yield make("tiles", (1, 131, 37), (1, 37, 67), (67,))
    yield make("pictures", (1, 130, 5), (3, 5, 65), (130,), bias_of="row")
    yield make("masks", (2, 4, 32), (2, 32, 81), None)
    yield make("transposed", (2, 40, 9), (2, 40, 13), (13,), transposed="a")
    yield make("both", (1, 35, 6), (1, 18, 35), None, transposed="ab")
    yield make("relu", (1, 9, 33), (1, 33, 6), (6,), act="relu")
    yield make("gelu", (1, 19, 40), (1, 23, 40), (23,), transposed="b", act="gelu")
    if kernel == "matmul":
        yield make("layers.1-fc1", (1, 16384, 128), (1, 512, 128), (512,), large=True, transposed="b", act="gelu")
        yield make("layers.3-fc2", (1, 4096, 1280), (1, 320, 1280), (320,), large=True, transposed="b")
        yield make("mb-conv-expand", (1, 256, 64), (1, 64, 65536), None, large=True)
        yield make("square-1024", (1, 1024, 1024), (1, 1024, 1024), None, large=True)


def _untransposed(a: Array, b: Array, transposed: str) -> tuple[Array, Array]:
    return a.swapaxes(1, 2) if "a" in transposed else a, b.swapaxes(1, 2) if "b" in transposed else b


def _matmul(a: Array, b: Array, bias: Array | None, transposed: str = "", bias_of: str = "column", act: str = "none") -> Array:
    left, right = _untransposed(a, b, transposed)
    y = left @ right
    y = y if bias is None else y + (bias if bias_of == "column" else bias[:, None])
    return {"none": lambda x: x, "relu": Ops.relu, "gelu": Ops.gelu}[act](y)


def _matmul_bound(
    a: Array, b: Array, bias: Array | None, transposed: str = "", bias_of: str = "column", act: str = "none"
) -> Array:
    return bounds.matmul(*_untransposed(a, b, transposed), bias, bias_of, act)


def _convolutions(kernel: str) -> Iterator[KernelCase]:
    def make(what: str, *shapes: Shape, options: tuple[int, int], large: bool = False) -> KernelCase:
        x, weight = (shape or () for shape in shapes[:2])
        pixels = np.prod([(n + 2 * options[1] - weight[-1]) // options[0] + 1 for n in x[2:]])
        return KernelCase(
            f"{kernel}/{what}", shapes, partial(calls.conv2d, kernel=kernel), Ops.conv2d, bounds.conv2d, options,
            flops=int(2 * x[0] * pixels * np.prod(weight)), large=large,
        )  # fmt: skip

    yield make("3x3-padded", (2, 3, 5, 7), (4, 3, 3, 3), None, options=(1, 1))
    yield make("3x3-stride-2", (1, 3, 17, 22), (5, 3, 3, 3), None, options=(2, 1))
    yield make("2x2-stride-2", (2, 1, 6, 4), (3, 1, 2, 2), (3,), options=(2, 0))
    yield make("tiles", (1, 5, 9, 11), (130, 5, 3, 3), (130,), options=(1, 1))
    if kernel == "conv2d":
        yield make("patch-embed-0", (1, 3, 1024, 1024), (32, 3, 3, 3), None, options=(2, 1), large=True)
        yield make("neck-2", (1, 256, 64, 64), (256, 256, 3, 3), None, options=(1, 1), large=True)


def _depthwise(kernel: str) -> Iterator[KernelCase]:
    def make(what: str, x: tuple[int, ...], stride: int, large: bool = False) -> KernelCase:
        return KernelCase(
            f"{kernel}/{what}", (x, (x[1], 1, 3, 3)), partial(calls.depthwise_conv2d, kernel=kernel), Ops.depthwise_conv2d,
            bounds.depthwise_conv2d, (stride,), flops=18 * int(np.prod(x)) // stride**2, large=large,
        )  # fmt: skip

    yield make("odd", (2, 3, 5, 7), 1)
    yield make("stride-2-odd", (1, 2, 7, 5), 2)
    yield make("stride-2-even", (2, 1, 6, 4), 2)
    yield make("one-pixel", (1, 4, 1, 1), 1)
    yield make("wide", (1, 2, 3, 21), 1)
    if kernel == "depthwise_conv2d":
        yield make("mb-conv", (1, 256, 256, 256), 1, large=True)
        yield make("merge-0", (1, 128, 256, 256), 2, large=True)


def _transposed_convolutions(kernel: str) -> Iterator[KernelCase]:
    def make(what: str, x: tuple[int, ...], outputs: int, large: bool = False) -> KernelCase:
        return KernelCase(
            f"{kernel}/{what}", (x, (x[1], outputs, 2, 2), (outputs,)), partial(calls.conv_transpose2d, kernel=kernel),
            Ops.conv_transpose2d, bounds.conv_transpose2d, flops=8 * outputs * int(np.prod(x)), large=large,
        )  # fmt: skip

    yield make("odd", (2, 3, 3, 5), 4)
    yield make("one-pixel", (1, 2, 1, 1), 1)
    yield make("tiles", (1, 37, 7, 10), 35)
    if kernel == "conv_transpose2d":
        yield make("upscaling-0", (1, 256, 64, 64), 64, large=True)


def _norms() -> Iterator[KernelCase]:
    def make(kernel: str, what: str, x: tuple[int, ...], axis: int, offset: float = 0.0, large: bool = False) -> KernelCase:
        two_d = kernel == "layer_norm_2d"
        run: Callable[..., Array] = calls.layer_norm_2d if two_d else partial(calls.layer_norm, kernel=kernel)
        definition = Ops.layer_norm_2d if two_d else Ops.layer_norm
        bound = bounds.layer_norm_2d if two_d else bounds.layer_norm
        shapes = (x, (x[axis],), (x[axis],))
        options = (1e-6 if two_d else 1e-5,)
        return KernelCase(f"{kernel}/{what}", shapes, run, definition, bound, options, offset=offset, large=large)

    for kernel in ("layer_norm_1_naive", "layer_norm"):
        yield make(kernel, "tokens", (2, 3, 7), -1)
        yield make(kernel, "far-from-zero", (2, 5), -1, offset=1000.0)
        yield make(kernel, "wide", (75, 40), -1)
    yield make("layer_norm", "layers.1", (1, 16384, 128), -1, large=True)
    yield make("layer_norm_2d", "odd", (2, 5, 3, 4), 1)
    yield make("layer_norm_2d", "far-from-zero", (1, 6, 2, 3), 1, offset=-300.0)
    yield make("layer_norm_2d", "neck-1", (1, 256, 64, 64), 1, large=True)
    for what, x, large in (("odd", (2, 3, 5, 4), False), ("wide", (1, 2, 31, 37), False), ("mb-conv", (1, 256, 256, 256), True)):
        yield KernelCase(
            f"batch_norm/{what}", (x, *[(x[1],)] * 4), _batch_norm, Ops.batch_norm, bounds.batch_norm, (1e-5,), large=large
        )


def _batch_norm(runner: Runner, x: Array, *rest: Any) -> Array:
    return calls.batch_norm(runner, x, rest[:4], rest[4])


def _elementwise() -> Iterator[KernelCase]:
    for kernel in ("gelu_1_naive", "gelu"):
        run = partial(calls.gelu, kernel=kernel)
        for what, shape in (("map", (2, 3, 5, 7)), ("three", (3,)), ("four", (4,))):
            yield KernelCase(f"{kernel}/{what}", (shape,), run, Ops.gelu, bounds.gelu)
        yield KernelCase(f"{kernel}/tails", ((2001,),), run, Ops.gelu, bounds.gelu, offset=-4.0)
    yield KernelCase("gelu/mb-conv", ((1, 256, 256, 256),), calls.gelu, Ops.gelu, bounds.gelu, large=True)
    yield KernelCase("relu/map", ((2, 3, 5, 67),), calls.relu, Ops.relu, bounds.relu)
    yield KernelCase("relu/decoder-mlp", ((1, 7, 2048),), calls.relu, Ops.relu, bounds.relu, large=True)


def _attentions(kernel: str) -> Iterator[KernelCase]:
    def make(what: str, q: tuple[int, ...], keys: int, width: int, bias: bool = False, **more: Any) -> KernelCase:
        batch, heads, queries, _ = q
        shapes = (q, (batch, heads, keys, q[3]), (batch, heads, keys, width), (heads, queries, keys) if bias else None)
        run = partial(calls.attention, kernel=kernel)
        flops = 2 * batch * heads * queries * keys * (q[3] + width)
        return KernelCase(f"{kernel}/{what}", shapes, run, Ops.attention, bounds.attention, flops=flops, **more)

    room = 5 if kernel == "attention_1_naive" else int(kernel.rpartition("_")[2])
    yield make("windows", (2, 3, 49, room), 49, room, bias=True)
    yield make("cross", (2, 1, 3, room - 1), 70, room - 2)
    yield make("one-key", (1, 2, 3, 4), 1, 4)
    yield make("blocks", (1, 1, 67, 4), 33, 3, bias=True)
    yield make("wide-scores", (1, 2, 3, 6 if room > 5 else 5), 40, 5, offset=20.0)
    if kernel == "attention_32":
        yield make("layers.2", (25, 5, 196, 32), 196, 32, bias=True, large=True)
        yield make("layers.1", (361, 4, 49, 32), 49, 32, bias=True, large=True)
    if kernel == "attention_16":
        yield make("tokens-to-image", (1, 8, 7, 16), 4096, 16, large=True)
        yield make("image-to-tokens", (1, 8, 4096, 16), 7, 16, large=True)
    if kernel == "attention_1_naive":
        yield make("wide-heads", (1, 1, 5, 70), 37, 66)


def _pictures() -> Iterator[KernelCase]:
    def make(what: str, picture: tuple[int, int], size: tuple[int, int], side: int, large: bool = False) -> KernelCase:
        return KernelCase(
            f"resize_rows_and_normalize/{what}", ((*picture, 3),), calls.preprocess, _preprocess, bounds.preprocess_error,
            (size, side), large=large, pixels=True,
        )  # fmt: skip

    def plain(what: str, picture: tuple[int, int], *options: Any, large: bool = False) -> KernelCase:
        return KernelCase(
            f"preprocess_bilinear/{what}", ((*picture, 3),), calls.preprocess_bilinear, definitions.preprocess_bilinear,
            bounds.preprocess_bilinear_error, options, large=large, pixels=True,
        )  # fmt: skip

    yield make("shrinks", (61, 83), (24, 32), 32)
    yield make("grows", (7, 5), (32, 23), 32)
    yield make("stays", (16, 16), (16, 16), 16)
    yield make("sliver", (1, 90), (1, 16), 16)
    yield make("12-megapixels", (3024, 4032), (768, 1024), 1024, large=True)
    yield plain("half-pixel", (61, 83), (24, 32), 32, True, 0)
    yield plain("app", (61, 83), (24, 32), 32, False, 8)
    yield plain("grows", (7, 5), (32, 23), 32, True, 0)
    yield plain("12-megapixels", (3024, 4032), (768, 1024), 1024, False, 256, large=True)


def _preprocess(image: Array, size: tuple[int, int], side: int) -> Array:  # noqa: ARG001 - as the kernel's arguments
    return preprocess(image, side)


def _masks() -> Iterator[KernelCase]:
    for what, x, size, crop, large in (
        ("grows", (2, 7, 9), (28, 36), (28, 36), False),
        ("crops", (1, 16, 16), (64, 64), (40, 64), False),
        ("shrinks", (1, 20, 31), (9, 13), (9, 13), False),
        ("grows-far", (1, 3, 400), (3, 4001), (3, 4001), False),
        ("one-pixel", (1, 1, 1), (3, 5), (3, 5), False),
        ("12-megapixels", (1, 768, 1024), (3024, 4032), (3024, 4032), True),
    ):
        yield KernelCase(f"bilinear/{what}", (x,), calls.bilinear, _bilinear, bounds.bilinear_error, (size, crop), large=large)
        yield KernelCase(
            f"bilinear_threshold/{what}", (x,), partial(calls.bilinear, threshold=0.0), _bilinear, bounds.bilinear_error,
            (size, crop), large=large, is_mask=True,
        )  # fmt: skip
    for kernel in ("gaussian_blur_1_naive", "gaussian_blur"):
        run = partial(calls.gaussian_blur, kernel=kernel)
        for what, x, sigma, large in (
            ("mask", (2, 19, 45), 1.5, False),
            ("long-rows", (1, 3, 1300), 3.0, False),
            ("smaller-than-the-kernel", (1, 5, 6), 5.0, False),
            ("app", (1, 720, 1280), 5.0, True),
        ):
            definition, bound = definitions.gaussian_blur, bounds.gaussian_blur_error
            yield KernelCase(f"{kernel}/{what}", (x,), run, definition, bound, (sigma,), large=large)


def _bilinear(x: Array, size: tuple[int, int], crop: tuple[int, int]) -> Array:
    return bilinear(x, size)[..., : crop[0], : crop[1]]


def _all() -> Iterator[KernelCase]:
    for kernel in ("matmul_1_naive", "matmul_2_tiled", "matmul"):
        yield from _matmuls(kernel)
    for kernel in ("conv2d_1_naive", "conv2d"):
        yield from _convolutions(kernel)
    for kernel in ("depthwise_conv2d_1_naive", "depthwise_conv2d"):
        yield from _depthwise(kernel)
    for kernel in ("conv_transpose2d_1_naive", "conv_transpose2d"):
        yield from _transposed_convolutions(kernel)
    yield from _norms()
    yield from _elementwise()
    for kernel in ("attention_1_naive", "attention_16", "attention_32", "attention_64"):
        yield from _attentions(kernel)
    yield from _pictures()
    yield from _masks()


CASES = tuple(_all())
SMALL = tuple(case for case in CASES if not case.large)
LARGE = tuple(case for case in CASES if case.large)
WITHOUT_CASE = {"resize_columns": "runs before resize_rows_and_normalize", "canary": "every runner asks it first"}
"""Kernels without a case of their own, and where they run."""
