"""Binary masks: COCO's run-length code, a mask as a prompt, and their few measures.

A mask is (H, W) bool in image pixels. Its run-length code counts pixels down the columns, by turns outside and inside,
outside first (so a mask whose first pixel is inside starts with 0). Whatever is made of a mask takes one of 0 and 255, too.
"""

import operator
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np

from refsam.errors import InputError
from refsam.images import MAX_PIXELS, as_image
from refsam.ops.resize import pillow_bilinear
from refsam.transforms import resized_size
from refsam.types import Array, Bool, Float, Int, Size, UInt8

Rle: TypeAlias = dict[str, Any]
"""COCO's object: {"size": [height, width], "counts": whole numbers, or their compressed text}."""

PROMPT_LOGIT = 10.0
"""The logit of a pixel that is surely inside, in a prompt made of a binary mask. The model's own are of this order."""

_END = 1 << 32
"""One more than the largest count: COCO's own code keeps 32 bits."""
_MAX_GROUPS = 7  # of 5 bits: more than the 33 that a difference of two counts of 32 bits needs


def as_mask(mask: Any, size: Size | None = None, name: str = "mask") -> Bool[Array, "H W"]:
    """The caller's array as a mask (height, width) of booleans: whole numbers are inside where they are not 0.

    Raises InputError for another shape, for another size than `size`, the picture's, and for other numbers, such as logits.
    """
    array = np.asarray(mask)
    if array.ndim != 2:
        remedy = ": give one mask at a time, masks[0]" if array.ndim == 3 else ""
        raise InputError(f"{name} has shape {array.shape}; (height, width) is needed{remedy}")
    if size is not None and array.shape != size:
        raise InputError(f"{name} has shape {array.shape}, but the picture is {size}")
    if array.dtype.kind not in "bui":
        raise InputError(f"{name} is of {array.dtype}; booleans are needed: of logits, logits > 0")
    return array if array.dtype == np.bool_ else array != 0


def mask_to_rle(mask: Bool[Array, "H W"]) -> Rle:
    """The mask's run-length code with plain counts. Raises InputError where it is none (`as_mask`).

    Upstream: utils/amg.py mask_to_rle_pytorch.
    """
    mask = as_mask(mask)
    height, width = mask.shape
    row, column = np.divmod(np.flatnonzero(mask[1:] != mask[:-1]), max(width, 1))
    between = np.flatnonzero(mask[:1, 1:] != mask[-1:, :-1])  # the end of a column and the top of the next
    changes = np.sort(np.concatenate([column * height + row + 1, (between + 1) * height]))
    counts = np.diff(changes, prepend=0, append=mask.size).tolist()
    starts_inside = mask.size > 0 and bool(mask[0, 0])
    return {"size": [height, width], "counts": [0, *counts] if starts_inside else counts}


def rle_to_mask(rle: Mapping[str, Any], max_pixels: int = MAX_PIXELS) -> Bool[Array, "H W"]:
    """The mask of a run-length code, with plain counts or compressed (text or bytes).

    Raises InputError where the code is damaged, does not fill its size, or is of more than `max_pixels`: that of a huge mask
    is tiny.
    """
    height, width = _size(rle)
    if height * width > max_pixels:
        raise InputError(f"run-length code: {height} x {width} is more than {max_pixels} pixels; max_pixels= allows more")
    counts = plain_counts(rle)
    if int(counts.sum()) != height * width:
        raise InputError(f"run-length code: its counts add up to {counts.sum()}, but {height} x {width} is {height * width}")
    inside = np.arange(counts.size) % 2 == 1
    return np.ascontiguousarray(np.repeat(inside, counts).reshape(width, height).T)


def coco_encode_rle(rle: Mapping[str, Any]) -> Rle:
    """The same code with its counts compressed to text, as COCO's JSON files hold it.

    Numerics: the text is pycocotools' own, byte for byte. From the fourth on, a count is written as its difference to the
    last but one; a number is cut into groups of 5 bits, lowest first, each a character from "0" on; 32 means more follow.
    Upstream: utils/amg.py coco_encode_rle.
    """
    numbers = plain_counts(rle)
    numbers[3:] -= plain_counts(rle)[1:-2]
    groups = np.zeros((numbers.size, _MAX_GROUPS), np.uint8)
    used = np.zeros(groups.shape, np.bool_)
    more = np.ones(numbers.size, np.bool_)
    for place in range(_MAX_GROUPS):
        used[:, place] = more
        bits = numbers & 31
        numbers >>= 5
        more = more & (numbers != np.where(bits & 16, -1, 0))  # bit 16 of the last group is the sign
        groups[:, place] = bits + 32 * more + 48
    return {"size": [*_size(rle)], "counts": groups[used].tobytes().decode("ascii")}


def area_of_rle(rle: Mapping[str, Any]) -> int:
    """Pixels inside.  Upstream: utils/amg.py area_from_rle."""
    return int(plain_counts(rle)[1::2].sum())


def area(mask: Bool[Array, "H W"]) -> int:
    """Pixels inside."""
    return int(np.count_nonzero(mask))


def box_of(mask: Bool[Array, "H W"]) -> Float[Array, "4"] | None:
    """The box (x0, y0, x1, y1) of the first and last pixels inside, None for an empty mask.  Upstream: batched_mask_to_box."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return None
    return np.array([columns[0], rows[0], columns[-1], rows[-1]], np.float64)


def iou(a: Bool[Array, "H W"], b: Bool[Array, "H W"]) -> float:
    """Intersection over union; 1 for two empty masks."""
    union = area(a | b)
    return area(a & b) / union if union else 1.0


def mask_to_logits(mask: Bool[Array, "H W"], image_size: int = 1024) -> Float[Array, "1 L L"]:
    """A binary mask of the picture as a mask prompt: float32 logits in the padded frame, L = image_size / 4.

    Each logit is PROMPT_LOGIT * (2 * inside - 1), where `inside` is the share of that cell's 4 x 4 input pixels in the mask,
    after the mask is resized as its picture is. Padding is outside. Raises InputError where it is no mask (`as_mask`).
    """
    mask = as_mask(mask)
    height, width = resized_size((mask.shape[0], mask.shape[1]), image_size)
    grey = np.where(mask, np.uint8(255), np.uint8(0))[..., None]
    padded = np.zeros((image_size, image_size), np.float32)
    padded[:height, :width] = pillow_bilinear(grey, (height, width))[..., 0]
    side = image_size // 4
    inside = padded.reshape(side, 4, side, 4).mean(axis=(1, 3)) / 255
    logits: Float[Array, "1 L L"] = (np.float32(PROMPT_LOGIT) * (2 * inside - 1))[None]
    return logits


def cut_out(image: UInt8[Array, "H W 3"], mask: Bool[Array, "H W"]) -> UInt8[Array, "H W 4"]:
    """RGBA: the picture inside the mask, fully transparent black outside. Raises InputError where one is none, or they differ."""
    inside = as_mask(mask, as_image(image).shape[:2])
    rgba = np.zeros((*inside.shape, 4), np.uint8)
    np.copyto(rgba[..., :3], image, where=inside[..., None])
    np.copyto(rgba[..., 3], np.uint8(255), where=inside)
    return rgba


def _size(rle: Mapping[str, Any]) -> tuple[int, int]:
    size = rle.get("size")
    try:
        height, width = map(operator.index, size)  # type: ignore[arg-type]  # whatever it is
    except (TypeError, ValueError):
        height = width = -1
    if height < 0 or width < 0:
        raise InputError(f"run-length code: size is {size!r}; [height, width] is needed")
    return height, width


def plain_counts(rle: Mapping[str, Any]) -> Int[Array, "N"]:
    """The counts of a run-length code as a new array, whatever form they come in. Raises InputError where they are damaged."""
    counts = rle.get("counts")
    if isinstance(counts, str | bytes):
        plain = _decompress(counts.encode("ascii", "replace") if isinstance(counts, str) else counts)
    else:
        plain = _as_array(counts)
    if plain.size and (plain.min() < 0 or plain.max() >= _END):
        raise InputError(f"run-length code: a count of {plain.min() if plain.min() < 0 else plain.max()} cannot be")
    return plain.astype(np.int64)


def _as_array(counts: Any) -> Array:
    """Plain counts as whole numbers of any type."""
    try:
        plain = np.array(counts)
    except (ValueError, OverflowError):
        plain = np.zeros(1)
    if plain.size == 0 and plain.ndim == 1:
        return np.zeros(0, np.int64)  # an empty list is one of floats
    if plain.ndim != 1 or plain.dtype.kind not in "iu":
        raise InputError("run-length code: counts have to be a list of whole numbers, or their compressed text")
    return plain


def _decompress(text: bytes) -> Int[Array, "N"]:
    """Undo `coco_encode_rle`: groups of 5 bits to numbers, differences to counts."""
    groups = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    last = np.flatnonzero(groups & 32 == 0)
    first = np.concatenate([[0], last[:-1] + 1])
    if groups.size == 0 or groups.min() < 0 or groups.max() > 63 or last.size == 0 or last[-1] != groups.size - 1:
        raise InputError("run-length code: the compressed counts are damaged or cut short")
    if (last - first).max() >= _MAX_GROUPS:
        raise InputError("run-length code: a compressed count is longer than any that 32 bits can hold")
    place = np.arange(groups.size) - np.repeat(first, last - first + 1)
    numbers = np.add.reduceat((groups & 31) << (5 * place), first)
    numbers -= np.where(groups[last] & 16, 1 << (5 * (last - first + 1)), 0)
    for start in (1, 2):
        numbers[start::2] = np.cumsum(numbers[start::2])
    return numbers
