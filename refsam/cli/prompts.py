"""Prompts from the command line and from JSON files."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import numpy as np
from cyclopts import Parameter

from refsam.config import Config
from refsam.errors import InputError
from refsam.files import can_name_a_file
from refsam.formats import npz_file
from refsam.images import read_image
from refsam.masks import mask_to_logits
from refsam.types import Array, Float, Size

_POINT_HELP = "X,Y or X,Y,LABEL in pixels; label 1 (default) is on the object, 0 is not. May be repeated."
_BOX_HELP = "X0,Y0,X1,Y1 in pixels. Several boxes are several prompts."
_MASK_HELP = (
    "Mask prompt: a picture of the same size (white is inside, black or transparent is not), or the logits.npz of an"
    " earlier run with one prompt."
)
Points: TypeAlias = Annotated[list[str], Parameter(name="--point", negative=(), allow_leading_hyphen=True, help=_POINT_HELP)]
Boxes: TypeAlias = Annotated[list[str], Parameter(name="--box", negative=(), allow_leading_hyphen=True, help=_BOX_HELP)]
MaskFile: TypeAlias = Annotated[Path | None, Parameter(name="--mask", help=_MASK_HELP)]
PromptFile: TypeAlias = Annotated[Path | None, Parameter(name="--prompts", help="JSON file of prompts, see docs/console.md.")]

KEYS = {"name", "points", "labels", "box", "mask"}
MAX_JSON_BYTES = 16 * 2**20
MAX_NPZ_BYTES = 256 * 2**20
HALF = 128
"""A pixel of a mask picture whose brightest channel has at least this is inside."""


@dataclass(frozen=True)
class Prompt:
    """One prompt in image pixels: any of points with labels, a box, and a mask file."""

    points: tuple[tuple[float, float], ...] = ()
    labels: tuple[int, ...] = ()
    box: tuple[float, float, float, float] | None = None
    mask: Path | None = None
    name: str = field(default="")

    def predict_kwargs(self, config: Config, original_size: Size) -> dict[str, Any]:
        """The arguments of `SamPredictor.predict`. Raises InputError where it is outside the picture or its mask does not fit."""
        self._check_place(original_size)
        kwargs: dict[str, Any] = {}
        if self.points:
            kwargs |= {"point_coords": np.array(self.points), "point_labels": np.array(self.labels)}
        if self.box is not None:
            kwargs["box"] = np.array(self.box)
        if self.mask is not None:
            kwargs["mask_input"] = read_mask_prompt(self.mask, config, original_size)
        return kwargs

    def _check_place(self, original_size: Size) -> None:
        height, width = original_size
        for x, y in self.points:
            if not (0 <= x <= width and 0 <= y <= height):
                raise InputError(f"the point {x:g},{y:g} is outside the picture, which is {width} wide and {height} high")
        if self.box is not None:
            x0, y0, x1, y1 = self.box
            if x1 < x0 or y1 < y0:
                raise InputError(f"the box {_list(self.box)} is inside out; give X0,Y0,X1,Y1 with X0 <= X1 and Y0 <= Y1")
            if x1 < 0 or y1 < 0 or x0 > width or y0 > height:
                raise InputError(f"the box {_list(self.box)} is outside the picture, which is {width} wide and {height} high")


def collect(points: Sequence[str], boxes: Sequence[str], mask: Path | None, file: Path | None) -> list[Prompt]:
    """The prompts of one command line. Raises InputError where there are none, or options that do not go together."""
    if file is not None:
        if points or boxes or mask:
            raise InputError("give prompts either in the --prompts file or with --point, --box and --mask")
        return read_prompts(file)
    clicks = [_point(text) for text in points]
    frames = [_numbers("box", text.split(","), 4) for text in boxes]
    if len(frames) > 1 and (clicks or mask):
        raise InputError("several --box are several prompts; what points or a mask belong to, only a --prompts file can tell")
    if not (clicks or frames or mask):
        raise InputError("there is no prompt; give --point X,Y or --box X0,Y0,X1,Y1 or --mask FILE or --prompts FILE")
    first = Prompt(tuple((x, y) for x, y, _ in clicks), tuple(label for *_, label in clicks), mask=mask)
    return [replace(first, box=_box(frame)) for frame in frames] or [first]


def read_prompts(path: Path) -> list[Prompt]:
    """The prompts in a JSON file.

    One prompt is an object with any of `points` [[x, y], ...], `labels` [1, 0, ...] (default: all 1), `box` [x0, y0, x1, y1],
    `mask` (a file, from the JSON file's folder) and `name`. A file is one prompt, a list of them, or {"prompts": list}.
    samexporter's lists of {"type": "point" or "rectangle", "data": [...], "label": n} are read as one prompt.

    Raises InputError naming the file and the entry.
    """
    document = _read_json(path)
    try:
        return _prompts(document, path.parent)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def read_mask_prompt(path: Path, config: Config, original_size: Size) -> Float[Array, "1 L L"]:
    """The logits of a mask prompt from a picture of the same size, or from the .npz of an earlier run.

    Raises InputError where the file cannot be read or does not fit, or a picture has nothing or everything inside.
    """
    if path.suffix.lower() == ".npz":
        return _npz_logits(path, config.mask_size)
    picture = read_image(path, ground=0)  # what is transparent is outside
    if picture.shape[:2] != original_size:
        raise InputError(f"the mask {path} is {_list(picture.shape[1::-1])}, but the picture is {_list(original_size[::-1])}")
    inside = picture.max(axis=-1) >= HALF
    if inside.all() or not inside.any():
        raise InputError(
            f"the mask {path} has {'everything' if inside.all() else 'nothing'} inside (the brightest channel"
            f" of its pixels goes from {picture.max(axis=-1).min()} to {picture.max()}, and {HALF} or more is inside);"
            " save it as white on black"
        )
    return mask_to_logits(inside, config.image_size)


def _read_json(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_JSON_BYTES + 1)
    except OSError as error:
        raise InputError(f"cannot read the prompts {path}: {error.strerror}") from None
    if len(text) > MAX_JSON_BYTES:
        raise InputError(f"{path} is larger than any file of prompts ({MAX_JSON_BYTES >> 20} MiB)")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {error}") from None


def _prompts(document: Any, folder: Path) -> list[Prompt]:
    if isinstance(document, dict) and "prompts" in document:
        document = document["prompts"]
    if isinstance(document, dict):
        return [_prompt(document, folder)]
    if not isinstance(document, list) or not document:
        raise InputError("a prompt object, a list of them, or {'prompts': [...]} is needed")
    if all(isinstance(entry, dict) and "type" in entry for entry in document):
        return [_samexporter(document)]
    return [_numbered(index, entry, folder) for index, entry in enumerate(document)]


def _numbered(index: int, entry: Any, folder: Path) -> Prompt:
    try:
        return _prompt(entry, folder)
    except InputError as error:
        raise InputError(f"prompt {index}: {error}") from None


def _prompt(entry: Any, folder: Path) -> Prompt:
    if not isinstance(entry, dict) or not set(entry) <= KEYS:
        raise InputError(f"a prompt is an object with some of {', '.join(sorted(KEYS))}, not {json.dumps(entry)[:80]}")
    points = tuple(_pair(point) for point in _listed("points", entry.get("points", [])))
    labels = tuple(_label(label) for label in _listed("labels", entry.get("labels", [1] * len(points))))
    if len(points) != len(labels):
        raise InputError(f"{len(points)} points have {len(labels)} labels; give one each")
    box = None if entry.get("box") is None else _box(_numbers("box", entry["box"], 4))
    mask = None if entry.get("mask") is None else folder / _file_name("mask", entry["mask"])
    if not (points or box or mask):
        raise InputError("there is neither points nor box nor mask in it")
    return Prompt(points, labels, box, mask, _string("name", entry.get("name", "")))


def _samexporter(entries: list[dict[str, Any]]) -> Prompt:
    points = [(_pair(e.get("data")), _label(e.get("label", 1))) for e in entries if e["type"] == "point"]
    boxes = [_box(_numbers("rectangle", e.get("data"), 4)) for e in entries if e["type"] == "rectangle"]
    if len(points) + len(boxes) < len(entries) or len(boxes) > 1:
        raise InputError("entries with a type have to be points and at most one rectangle: together they are one prompt")
    return Prompt(tuple(point for point, _ in points), tuple(label for _, label in points), boxes[0] if boxes else None)


def _point(text: str) -> tuple[float, float, int]:
    parts = text.split(",")
    if len(parts) not in (2, 3):
        raise InputError(f"the point {text!r} is not X,Y or X,Y,LABEL")
    x, y = _numbers("point", parts[:2], 2)
    return x, y, _label(parts[2] if len(parts) == 3 else 1)


def _label(value: Any) -> int:
    if value in (0, 1, "0", "1") and not isinstance(value, bool):
        return int(value)
    raise InputError(f"the label {value!r} is neither 1 (on the object) nor 0 (not on it)")


def _pair(value: Any) -> tuple[float, float]:
    x, y = _numbers("point", value, 2)
    return x, y


def _box(values: Sequence[float]) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = values
    return x0, y0, x1, y1


def _numbers(what: str, values: Any, count: int) -> list[float]:
    """`count` finite numbers, from texts or from JSON."""
    try:
        numbers = [float(value) for value in values if not isinstance(value, bool)] if isinstance(values, list) else []
    except (TypeError, ValueError, OverflowError):
        numbers = []
    if len(numbers) != count or not isinstance(values, list) or len(values) != count or not all(map(math.isfinite, numbers)):
        given = ",".join(values) if isinstance(values, list) and all(isinstance(v, str) for v in values) else json.dumps(values)
        raise InputError(f"the {what} {given[:80]} is not {count} numbers")
    return numbers


def _listed(what: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise InputError(f"{what} is {json.dumps(value)[:80]}; a list is needed")
    return value


def _string(what: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InputError(f"{what} is {json.dumps(value)[:80]}; a text is needed")
    return value


def _file_name(what: str, value: Any) -> str:
    name = _string(what, value)
    if not can_name_a_file(name):
        raise InputError(f"{what} is {json.dumps(name)[:80]}; that cannot be the name of a file")
    return name


def _list(values: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in values)


def _npz_logits(path: Path, side: int) -> Float[Array, "1 L L"]:
    """The best-scored mask of an earlier run's logits, which has to be of one prompt: another's mask would be a wrong answer."""
    arrays = npz_file.read(path, MAX_NPZ_BYTES, ("low_res_masks", "iou_predictions"))
    if "low_res_masks" not in arrays:
        raise InputError(f"{path} has no array low_res_masks; refsam segment --logits writes one")
    for name, array in arrays.items():
        if array.dtype.kind not in "fiub":
            raise InputError(f"{path}: {name} is of {array.dtype}, which cannot be read as numbers; float32 is needed")
    logits = arrays["low_res_masks"].astype(np.float64)
    scores = arrays.get("iou_predictions", np.zeros(1)).astype(np.float64)
    if logits.shape[-2:] != (side, side) or logits.size != scores.size * side * side or not np.isfinite(logits).all():
        raise InputError(f"{path}: low_res_masks is {logits.shape}; (prompts, masks, {side}, {side}) with a score each is needed")
    prompts = math.prod(logits.shape[:-3])
    if prompts > 1:
        raise InputError(
            f"{path} has the masks of {prompts} prompts, and a mask prompt is one of them;"
            " save those of its prompt alone: refsam segment --logits with one prompt"
        )
    return logits.reshape(-1, side, side)[[int(np.argmax(scores))]]
