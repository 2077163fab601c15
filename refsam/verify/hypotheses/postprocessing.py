"""What ports do to mask logits on their way to a mask of the picture's size."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from refsam.coreml import app_postprocessing
from refsam.coreml.app_switches import Switches
from refsam.metal.definitions import gaussian_blur
from refsam.ops.resize import bilinear
from refsam.types import Array, Bool, Size
from refsam.verify.hypotheses.resizing import CATMULL_ROM, Resize
from refsam.verify.hypothesis import Hypothesis


def changed(name: str, remedy: str, **fields: Any) -> Hypothesis:
    """A postprocessing hypothesis that sets fields of the pipeline."""
    return Hypothesis(name, ("postprocessing",), remedy, lambda pipeline: replace(pipeline, **fields))


def one_step(low_res_masks: Array, input_size: Size, original_size: Size, image_size: int) -> Array:
    """Straight from S/4 to the picture, the padding cut off at S/4."""
    side = low_res_masks.shape[-1]
    height, width = (max(round(n * side / image_size), 1) for n in input_size)
    return bilinear(low_res_masks[..., :height, :width], original_size)


def texture_corners(low_res_masks: Array, input_size: Size, original_size: Size, image_size: int) -> Array:  # noqa: ARG001
    """In one step, each pixel sampling the texture of logits at its upper left corner, not at its middle; padding bleeds in."""
    side, switches = low_res_masks.shape[-1], Switches(mask_steps="one", mask_half_pixel=False)
    masks = [app_postprocessing.upsample(x, original_size, image_size, switches) for x in low_res_masks.reshape(-1, side, side)]
    return np.reshape(masks, (*low_res_masks.shape[:-2], *original_size))


def padding_kept(low_res_masks: Array, input_size: Size, original_size: Size, image_size: int) -> Array:  # noqa: ARG001
    """The whole frame squeezed into the picture."""
    return bilinear(bilinear(low_res_masks, (image_size, image_size)), original_size)


def crop_exchanged(low_res_masks: Array, input_size: Size, original_size: Size, image_size: int) -> Array:
    """Height and width exchanged where the padding is cut off."""
    full = bilinear(low_res_masks, (image_size, image_size))
    return bilinear(full[..., : input_size[1], : input_size[0]], original_size)


def crop_in_the_middle(low_res_masks: Array, input_size: Size, original_size: Size, image_size: int) -> Array:
    """Cut out of the frame as if half of the padding were on each side."""
    full = bilinear(low_res_masks, (image_size, image_size))
    top, left = ((image_size - n) // 2 for n in input_size)
    return bilinear(full[..., top : top + input_size[0], left : left + input_size[1]], original_size)


def logits_exchanged(low_res_masks: Array, input_size: Size, original_size: Size, image_size: int) -> Array:
    """Columns of the low-resolution mask read as its rows."""
    full = bilinear(low_res_masks.swapaxes(-1, -2), (image_size, image_size))
    return bilinear(full[..., : input_size[0], : input_size[1]], original_size)


def by_weights(sample: Callable[[int, int], Array]) -> Callable[..., Array]:
    """Two resizes as upstream's, with other weights of the four neighbours: `sample(n_in, n_out)` (n_out, n_in)."""

    def upsample(low_res_masks: Array, input_size: Size, original_size: Size, image_size: int) -> Array:
        side = low_res_masks.shape[-1]
        first = sample(side, image_size).astype(low_res_masks.dtype)
        full = first[: input_size[0]] @ low_res_masks @ first[: input_size[1]].T
        down, across = (sample(n, m).astype(full.dtype) for n, m in zip(input_size, original_size, strict=True))
        return down @ full @ across.T

    return upsample


def triangle(n_in: int, position: Array) -> Array:
    """Bilinear weights of samples at these positions, clamped to the ends."""
    return np.maximum(0, 1 - np.abs(np.clip(position, 0, n_in - 1)[:, None] - np.arange(n_in)))


def corners_aligned(n_in: int, n_out: int) -> Array:
    """align_corners=True."""
    return triangle(n_in, np.arange(n_out) * ((n_in - 1) / max(n_out - 1, 1)))


def no_half_pixel(n_in: int, n_out: int) -> Array:
    """Sampled at i * scale."""
    return triangle(n_in, np.arange(n_out) * (n_in / n_out))


def nearest(n_in: int, n_out: int) -> Array:
    """One neighbour, as mode="nearest"."""
    weights = np.zeros((n_out, n_in))
    weights[np.arange(n_out), np.arange(n_out) * n_in // n_out] = 1
    return weights


def nearest_then_cubic(low_res_masks: Array, input_size: Size, original_size: Size, image_size: int) -> Array:
    """Logits to S by nearest; their mask, as 0 and 255, by Catmull-Rom to the picture, where it is cut at 100."""
    first = nearest(low_res_masks.shape[-1], image_size)
    inside = (first[: input_size[0]] @ low_res_masks @ first[: input_size[1]].T > 0) * np.float32(255)
    cubic = Resize(CATMULL_ROM)
    resized = cubic.along(cubic.along(inside, -1, original_size[1]), -2, original_size[0])
    return np.clip(np.rint(resized), 0, 255) - 100


def moved(down: int, across: int) -> Callable[[Array], Array]:
    """The mask moved by whole pixels, wrapping around."""
    return lambda logits: np.roll(logits > 0, (down, across), (-2, -1))


def blurred(cut: float) -> Callable[[Array], Bool[Array, "*N"]]:
    """The app's Gaussian over the mask, and what is above `cut` of it."""
    return lambda logits: gaussian_blur((logits > 0).astype(np.float32), app_postprocessing.BLUR_SIGMA) > cut


def above(threshold: float) -> Callable[[Array], Bool[Array, "*N"]]:
    """Another threshold of the logits."""
    return lambda logits: logits > threshold


_TWO_STEPS = "bilinear to S x S, cut off the padding, bilinear to the picture's size; align_corners=False both times"
_PLACE = "pixel (0, 0) of the mask is pixel (0, 0) of the picture"
_HARD = "a mask has hard edges: no blur"
_ZERO = "a mask is where the logit is above 0"

HYPOTHESES = (
    changed("resized in one step", _TWO_STEPS, upsample=one_step),
    changed("padding kept in the mask", _TWO_STEPS, upsample=padding_kept),
    changed("height and width exchanged in the crop", _TWO_STEPS, upsample=crop_exchanged),
    changed("crop in the middle of the frame", _TWO_STEPS, upsample=crop_in_the_middle),
    changed("x and y of logits exchanged", "low_res_masks is masks x rows x columns", upsample=logits_exchanged),
    changed("align_corners upsampling", _TWO_STEPS, upsample=by_weights(corners_aligned)),
    changed("upsampling without half pixel", _TWO_STEPS, upsample=by_weights(no_half_pixel)),
    changed("mask texture sampled at corners, in one step", _TWO_STEPS, upsample=texture_corners),
    changed("nearest upsampling", _TWO_STEPS, upsample=by_weights(nearest)),
    changed("nearest upsampling, then the mask by Catmull-Rom", _TWO_STEPS, upsample=nearest_then_cubic),
    changed("mask upside down", _PLACE, binarize=lambda logits: (logits > 0)[..., ::-1, :]),
    changed("mask mirrored", _PLACE, binarize=lambda logits: (logits > 0)[..., ::-1]),
    changed("mask moved down by a pixel", _PLACE, binarize=moved(1, 0)),
    changed("mask moved up by a pixel", _PLACE, binarize=moved(-1, 0)),
    changed("mask moved right by a pixel", _PLACE, binarize=moved(0, 1)),
    changed("mask moved left by a pixel", _PLACE, binarize=moved(0, -1)),
    changed("mask blurred", _HARD, binarize=blurred(0.5)),
    changed("mask grown by its blur", _HARD, binarize=blurred(0.0)),
    changed("threshold 0.5 on logits", _ZERO, binarize=above(0.5)),
    changed("threshold 1 on logits", _ZERO, binarize=above(1.0)),
    changed("threshold 0 on probabilities", _ZERO, binarize=lambda logits: np.ones(logits.shape, np.bool_)),
    changed("mask inverted", _ZERO, binarize=lambda logits: ~(logits > 0)),
    changed("1 - clamp(logit) above 0.5", _ZERO, binarize=lambda logits: logits < 0.5),
)
