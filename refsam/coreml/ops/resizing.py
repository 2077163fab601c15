"""Resizing the last two axes. None of these is antialiased; they differ in which points of the input they sample."""

import math
from typing import Any

import numpy as np

from refsam.coreml.ops.registry import op
from refsam.coreml.types import Shape, check_elements
from refsam.errors import PackageError, UnsupportedOp
from refsam.types import Array, Float

SAMPLING_MODES = ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "DEFAULT", "OFFSET_CORNERS", "UNALIGN_CORNERS")


def sample_points(n_in: int, n_out: int, mode: str) -> Float[Array, " n"]:
    """Where each of n_out results lies on the input's grid 0 .. n_in - 1."""
    i = np.arange(n_out)
    gaps = max(n_out - 1, 1)
    if mode == "UNALIGN_CORNERS":  # torch's align_corners=False
        points = (i + 0.5) * (n_in / n_out) - 0.5
    elif mode == "DEFAULT":
        points = i * ((n_in - n_in / n_out) / gaps)
    elif mode == "OFFSET_CORNERS":
        points = (i + 0.5) * (max(1, n_in - 1) / n_out)
    elif mode == "ALIGN_CORNERS" and n_out == 1:
        points = np.array([(n_in - 1) / 2])
    elif mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        points = i * ((n_in - 1) / gaps)
    else:
        raise UnsupportedOp(f"there is no sampling_mode {mode!r:.40}; there are: {', '.join(SAMPLING_MODES)}")
    return np.clip(points, 0, n_in - 1)


def bilinear(x: Array, height: int, width: int, mode: str) -> Array:
    """Both axes sampled linearly."""
    _check(x, height, width)
    if x.dtype.kind != "f":
        raise UnsupportedOp(
            f"a linear resize of {x.dtype} is documented nowhere as to how it rounds; convert it to a float first"
        )
    return _linear(_linear(x, -1, sample_points(x.shape[-1], width, mode)), -2, sample_points(x.shape[-2], height, mode))


def _linear(x: Array, axis: int, points: Float[Array, " n"]) -> Array:
    near = np.minimum(points.astype(np.int64), x.shape[axis] - 1)
    far = np.minimum(near + 1, x.shape[axis] - 1)
    weight = (points - near).astype(x.dtype).reshape((-1, 1) if axis == -2 else (-1,))
    return np.take(x, near, axis) * (1 - weight) + np.take(x, far, axis) * weight


def _check(x: Array, height: int, width: int) -> None:
    if x.ndim < 3 or min(height, width, *x.shape[-2:]) < 1:
        raise PackageError(f"an input of shape {x.shape} cannot be resized to {height} x {width}")
    check_elements("the result", (*x.shape[:-2], height, width))
    check_elements("half the result", (*x.shape[:-1], width))


def _nearest(x: Array, height: int, width: int) -> Array:
    _check(x, height, width)
    rows, columns = (np.arange(n) * m // n for n, m in ((height, x.shape[-2]), (width, x.shape[-1])))
    return np.take(np.take(x, rows, -2), columns, -1)


def _scaled(length: int, factor: Any, declared: int | None) -> int:
    """floor(length * factor), in which 0.7 is a float32 a little below: converters take 10 times that for 7 or for 6, as their
    NumPy multiplies in float32 or in float64. The program says which."""
    exact, rounded = math.floor(length * float(factor)), math.floor(float(np.float32(length) * np.float32(factor)))
    return rounded if declared == rounded else exact


def _scaled_sides(x: Array, factors: tuple[Any, Any], declared: Shape) -> tuple[int, int]:
    """The last two lengths of the result."""
    sides = declared[-2:] if len(declared) == x.ndim else (None, None)
    height, width = (_scaled(*each) for each in zip(x.shape[-2:], factors, sides, strict=True))
    return height, width


@op("upsample_bilinear")
def upsample_bilinear(
    x: Array,
    scale_factor_height: Any = 1,
    scale_factor_width: Any = 1,
    align_corners: Any = True,
    half_pixel_centers: Any = None,
    declared: Shape = (),
) -> Array:
    """By factors; the corners stay where they are unless align_corners is false. half_pixel_centers is then true by default."""
    if half_pixel_centers is not None and bool(half_pixel_centers) == bool(align_corners):
        raise UnsupportedOp(
            f"upsample_bilinear with align_corners and half_pixel_centers both {bool(align_corners)} is not computed"
        )
    height, width = _scaled_sides(x, (scale_factor_height, scale_factor_width), declared)
    return bilinear(x, height, width, "STRICT_ALIGN_CORNERS" if bool(align_corners) else "UNALIGN_CORNERS")


@op("upsample_nearest_neighbor", moves=True)
def upsample_nearest_neighbor(x: Array, scale_factor_height: Any = 1, scale_factor_width: Any = 1, declared: Shape = ()) -> Array:
    """By factors, each pixel repeated."""
    return _nearest(x, *_scaled_sides(x, (scale_factor_height, scale_factor_width), declared))


@op("resize_bilinear")
def resize_bilinear(x: Array, target_size_height: Any = 1, target_size_width: Any = 1, sampling_mode: str = "DEFAULT") -> Array:
    """To a size, at the points of one of SAMPLING_MODES."""
    return bilinear(x, int(target_size_height), int(target_size_width), sampling_mode)


@op("resize_nearest_neighbor", moves=True)
def resize_nearest_neighbor(x: Array, target_size_height: Any, target_size_width: Any) -> Array:
    """To a size, each result from the input pixel at floor(i in / out)."""
    return _nearest(x, int(target_size_height), int(target_size_width))


@op("resize")
def resize(x: Array, shape: Any, resized_dims: Any, interpolation_mode: str = "LINEAR", sampling_mode: str = "DEFAULT") -> Array:
    """To the last one or two lengths of `shape`; 0 keeps that axis's length."""
    count, lengths = int(resized_dims), [int(n) for n in np.ravel(shape)]
    if count not in (1, 2) or count > len(lengths) or x.ndim < 3:
        raise UnsupportedOp(
            f"resize of {count} axes of {x.ndim} to {lengths}; the last one or two, of at least three, are computed"
        )
    wanted = [*x.shape[-2:-count], *lengths[-count:]]
    height, width = (n or m for n, m in zip(wanted, x.shape[-2:], strict=True))
    if interpolation_mode == "LINEAR":
        return bilinear(x, height, width, sampling_mode)
    if interpolation_mode != "NEAREST_NEIGHBOR" or sampling_mode != "DEFAULT":
        raise UnsupportedOp(
            f"resize {interpolation_mode!r:.40} with sampling_mode {sampling_mode!r:.40} is not among what refsam computes"
        )
    return _nearest(x, height, width)


@op("crop", moves=True)
def crop(x: Array, crop_height: Any, crop_width: Any) -> Array:
    """Without these many rows at the top and bottom, and columns at the left and right."""
    (top, bottom), (left, right) = (tuple(int(v) for v in np.ravel(c)) for c in (crop_height, crop_width))
    if min(top, bottom, left, right) < 0:
        raise PackageError(f"crop by {(top, bottom, left, right)}")
    return x[..., top : x.shape[-2] - bottom, left : x.shape[-1] - right]
