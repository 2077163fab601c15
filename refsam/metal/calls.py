"""One function for each kernel: from arrays to its parameters and its number of threads.

Arrays are float32 (or uint8) and in C order, with at least one element; `kernel` chooses among the numbered versions.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from refsam.errors import InputError
from refsam.metal.definitions import gaussian_weights
from refsam.metal.runner import Output, Runner
from refsam.ops.resize import PRECISION_BITS, triangle_weights
from refsam.transforms import PIXEL_MEAN, PIXEL_STD
from refsam.types import Array, Float, Int, Size, UInt8

GROUP = 256
"""Threads of a group where a kernel asks for them; others are right too."""

MOST_THREADS = 1 << 18
"""More than fill any GPU; what is left over, each thread takes in strides."""

ACTS = ("none", "relu", "gelu")
NOTHING = np.zeros(1, np.float32)
"""Bound where a kernel reads nothing: a binding must not be left empty."""

MAX_RESIZE = 1 << 30
"""Twice n_in * (n_out + 1) has to be below 2^31, where whole numbers end."""

MAX_BLUR_RADIUS = 128


def matmul(
    runner: Runner,
    a: Array,
    b: Array,
    bias: Array | None = None,
    *,
    transposed: str = "",
    bias_of: str = "column",
    act: str = "none",
    kernel: str = "matmul",
) -> Float[Array, "B M N"]:
    """act(a b + bias) for a batch of matrices (B, ., .); one matrix serves all where its batch is 1.

    Args:
        transposed: "a", "b" or "ab": those are given as (K, M) and (N, K).
        bias_of: whether there is one bias for each "column" or each "row".
        act: "none", "relu" or "gelu".
    """
    m, k = a.shape[1:] if "a" not in transposed else a.shape[:0:-1]
    inner, n = b.shape[1:] if "b" not in transposed else b.shape[:0:-1]
    batches = max(len(a), len(b))
    if k != inner or {len(a), len(b)} - {1, batches}:
        raise InputError(f"matmul: {a.shape} and {b.shape} do not fit (transposed: {transposed or 'none'})")
    if bias is not None and bias.shape != ((n,) if bias_of == "column" else (m,)):
        raise InputError(f"matmul: the bias has shape {bias.shape}, one for each {bias_of} is needed")
    params = {
        "M": m, "N": n, "K": k, "batches": batches,
        "a_batch": 0 if len(a) == 1 else m * k, "b_batch": 0 if len(b) == 1 else k * n,
        "transposed": ("a" in transposed) + 2 * ("b" in transposed),
        "bias": 0 if bias is None else 1 + (bias_of == "row"), "act": ACTS.index(act),
    }  # fmt: skip
    tile = {"matmul": (128, 64), "matmul_2_tiled": (16, 16), "matmul_1_naive": (1, GROUP)}[kernel]
    threads = GROUP * batches * -(-m // tile[0]) * -(-n // tile[1])
    return runner.run(kernel, [a, b, NOTHING if bias is None else bias, Output((batches, m, n))], params, threads)


def conv2d(
    runner: Runner, x: Array, weight: Array, bias: Array | None, stride: int, padding: int, *, kernel: str = "conv2d"
) -> Float[Array, "B D Ho Wo"]:
    """Dense convolution of any kernel size."""
    (batches, channels, height, width), (outputs, _, size, _) = x.shape, weight.shape
    down, across = ((n + 2 * padding - size) // stride + 1 for n in (height, width))
    params = {
        "batches": batches, "C": channels, "H": height, "W": width, "D": outputs, "Ho": down, "Wo": across,
        "size": size, "stride": stride, "padding": padding, "has_bias": bias is not None,
    }  # fmt: skip
    tile = (128, 64) if kernel == "conv2d" else (1, GROUP)
    threads = GROUP * batches * -(-outputs // tile[0]) * -(-(down * across) // tile[1])
    values = [x, weight, NOTHING if bias is None else bias, Output((batches, outputs, down, across))]
    return runner.run(kernel, values, params, threads)


def depthwise_conv2d(
    runner: Runner, x: Array, weight: Array, stride: int, *, kernel: str = "depthwise_conv2d"
) -> Float[Array, "B C Ho Wo"]:
    """3x3 of each channel by itself."""
    batches, channels, height, width = x.shape
    down, across = ((n - 1) // stride + 1 for n in (height, width))
    params = {
        "planes": batches * channels, "C": channels, "H": height, "W": width, "Ho": down, "Wo": across, "stride": stride,
    }  # fmt: skip
    strips = -(-across // 4) if kernel == "depthwise_conv2d" else across
    output = Output((batches, channels, down, across))
    return runner.run(kernel, [x, weight, output], params, _some(batches * channels * down * strips))


def conv_transpose2d(
    runner: Runner, x: Array, weight: Array, bias: Array, *, kernel: str = "conv_transpose2d"
) -> Float[Array, "B D H2 W2"]:
    """2x2 with stride 2."""
    batches, channels, height, width = x.shape
    outputs = weight.shape[1]
    params = {"batches": batches, "C": channels, "H": height, "W": width, "D": outputs}
    output = Output((batches, outputs, 2 * height, 2 * width))
    threads = GROUP * batches * -(-4 * outputs // 128) * -(-height * width // 64)
    if kernel == "conv_transpose2d_1_naive":
        threads = _some(math.prod(output.shape))
    return runner.run(kernel, [x, weight, bias, output], params, threads)


def layer_norm(
    runner: Runner, x: Array, weight: Array, bias: Array, eps: float, *, kernel: str = "layer_norm"
) -> Float[Array, "*N C"]:
    """Over the last axis."""
    rows, channels = x.size // x.shape[-1], x.shape[-1]
    threads = _some(rows * (16 if kernel == "layer_norm" else 1))
    return runner.run(kernel, [x, weight, bias, Output(x.shape)], {"rows": rows, "C": channels, "eps": eps}, threads)


def layer_norm_2d(runner: Runner, x: Array, weight: Array, bias: Array, eps: float) -> Float[Array, "B C H W"]:
    """Over the channels of each pixel."""
    params = {"batches": len(x), "C": x.shape[1], "pixels": math.prod(x.shape[2:]), "eps": eps}
    threads = _some(params["batches"] * params["pixels"])
    return runner.run("layer_norm_2d", [x, weight, bias, Output(x.shape)], params, threads)


def batch_norm(runner: Runner, x: Array, statistics: Sequence[Array], eps: float) -> Float[Array, "B C H W"]:
    """By mean, variance, weight and bias of each channel."""
    params = {"planes": len(x) * x.shape[1], "C": x.shape[1], "pixels": math.prod(x.shape[2:]), "eps": eps}
    return runner.run("batch_norm", [x, *statistics, Output(x.shape)], params, GROUP * params["planes"])


def gelu(runner: Runner, x: Array, *, kernel: str = "gelu") -> Float[Array, "*N"]:
    """The exact one."""
    each = 4 if kernel == "gelu" else 1
    return runner.run(kernel, [x, Output(x.shape)], {"n": x.size}, _some(-(-x.size // each)))


def relu(runner: Runner, x: Array) -> Float[Array, "*N"]:
    """max(x, 0)."""
    return runner.run("relu", [x, Output(x.shape)], {"n": x.size}, _some(x.size))


def attention(runner: Runner, q: Array, k: Array, v: Array, bias: Array | None, *, kernel: str = "") -> Float[Array, "B K N d"]:
    """Of each head. By default the kernel with the least room that the heads' width fits in."""
    batches, heads, queries, width = q.shape
    keys, out_width = v.shape[2:]
    params = {
        "jobs": batches * heads, "heads": heads, "lq": queries, "lk": keys, "c": width, "d": out_width,
        "scale": width**-0.5, "has_bias": bias is not None,
    }  # fmt: skip
    chosen = kernel or attention_kernel(max(width, out_width))
    output = Output((batches, heads, queries, out_width))
    threads = 64 * batches * heads * -(-queries // 64)
    if chosen == "attention_1_naive":
        threads = _some(math.prod(output.shape))
    return runner.run(chosen, [q, k, v, NOTHING if bias is None else bias, output], params, threads)


def attention_kernel(width: int) -> str:
    """The name of the kernel for heads of this width."""
    return next((f"attention_{room}" for room in (16, 32, 64) if width <= room), "attention_1_naive")


def preprocess(runner: Runner, image: UInt8[Array, "H W 3"], size: Size, side: int) -> Float[Array, "1 3 S S"]:
    """Pillow's resize to `size`, normalised and padded to side x side."""
    rows, columns = image.shape[:2]
    (first, weights), params = pillow_taps(columns, size[1]), {"H": rows, "W": columns, "w": size[1]}
    middle = Output((rows, size[1], 3), np.uint8)
    narrowed = runner.run(
        "resize_columns", [image, first, weights, middle], params | {"taps": weights.shape[1]}, _some(rows * size[1])
    )
    first, weights = pillow_taps(rows, size[0])
    params = {"H": rows, "w": size[1], "h": size[0], "S": side, "taps": weights.shape[1], **_statistics()}
    values = [narrowed, first, weights, Output((1, 3, side, side))]
    return runner.run("resize_rows_and_normalize", values, params, _some(side * side))


def pillow_taps(n_in: int, n_out: int) -> tuple[Int[Array, " n"], Int[Array, "n t"]]:
    """For each target pixel along an axis its first source and whole-number weights, all rows as long as the longest."""
    bands = [triangle_weights(n_in, n_out, target, target + 1) for target in range(n_out)]
    taps = max(band.hi - band.lo for band in bands)
    first = np.array([min(band.lo, n_in - taps) for band in bands], np.int32)
    weights = np.zeros((n_out, taps), np.int32)
    for target, band in enumerate(bands):
        at = band.lo - first[target]
        weights[target, at : at + band.hi - band.lo] = np.rint(band.weights[0] * (1 << PRECISION_BITS))
    return first, weights


def preprocess_bilinear(
    runner: Runner, image: UInt8[Array, "H W 3"], size: Size, side: int, half_pixel: bool = True, shift: int = 0
) -> Float[Array, "1 3 S S"]:
    """See `definitions.preprocess_bilinear`."""
    _check_resize((image.shape[0], image.shape[1]), size)
    params: Mapping[str, Any] = {
        "H": image.shape[0], "W": image.shape[1], "h": size[0], "w": size[1], "S": side,
        "half_pixel": half_pixel, "shift": shift, **_statistics(),
    }  # fmt: skip
    return runner.run("preprocess_bilinear", [image, Output((1, 3, side, side))], params, _some(side * side))


def bilinear(runner: Runner, x: Float[Array, "B H W"], size: Size, crop: Size, threshold: float | None = None) -> Array:
    """The first crop[0] rows and crop[1] columns of `x` resized to `size`; with a threshold as a mask."""
    _check_resize((x.shape[1], x.shape[2]), size)
    params = {
        "planes": len(x), "H": x.shape[1], "W": x.shape[2], "h": size[0], "w": size[1], "rows": crop[0], "columns": crop[1],
        "threshold": threshold or 0.0,
    }  # fmt: skip
    output = Output((len(x), *crop), np.float32 if threshold is None else np.uint8)
    kernel = "bilinear" if threshold is None else "bilinear_threshold"
    return runner.run(kernel, [x, output], params, _some(math.prod(output.shape)))


def gaussian_blur(
    runner: Runner, x: Float[Array, "B H W"], sigma: float, *, kernel: str = "gaussian_blur"
) -> Float[Array, "B H W"]:
    """Rows by `kernel`, then columns."""
    planes, height, width = x.shape
    weights = gaussian_weights(sigma).astype(np.float32)
    radius = len(weights) // 2
    if radius > MAX_BLUR_RADIUS:
        raise InputError(f"sigma is {sigma}; the blur goes to {MAX_BLUR_RADIUS} pixels, which is 4 sigma")
    along = {"lines": planes * height, "n": width, "inner": 1, "radius": radius}
    threads = GROUP * planes * height * -(-width // GROUP)
    rows = runner.run(kernel, [x, weights, Output(x.shape)], along, threads)
    down = {"lines": planes * width, "n": height, "inner": width, "radius": radius}
    return runner.run("gaussian_blur_1_naive", [rows, weights, Output(x.shape)], down, _some(x.size))


def _some(wanted: int) -> int:
    return min(wanted, MOST_THREADS)


def _statistics() -> dict[str, Any]:
    return {"mean": PIXEL_MEAN, "deviation": PIXEL_STD}


def _check_resize(source: Size, target: Size) -> None:
    for n_in, n_out in zip(source, target, strict=True):
        if n_in * (n_out + 1) >= MAX_RESIZE:
            raise InputError(f"a resize from {n_in} to {n_out} is more than whole numbers of 32 bits can count")
