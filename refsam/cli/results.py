"""What `refsam segment` found, as a table, as JSON, as pictures and as COCO's run-length code."""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from cyclopts import Parameter

from refsam.cli.common import one_line, write_json
from refsam.cli.prompts import Prompt
from refsam.drawing import overlay
from refsam.errors import InputError
from refsam.files import atomic_write, check_writable, is_stdout, is_stream
from refsam.masks import area, box_of, coco_encode_rle, cut_out, mask_to_rle, rle_to_mask
from refsam.types import Array, Bool, Float, UInt8

TENSORS = ".safetensors"
PICTURES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
FILES = {"overlay": "overlay.png", "mask_out": "mask.png", "cutout": "cutout.png", "rle": "masks.json", "logits": "logits.npz"}
"""What `--out DIR` writes, by option."""

_OVERLAY_HELP = (
    "The picture with masks and prompts drawn onto it: .png, .jpg or .webp (NAME.refsam.png in the current folder where no"
    " output is named, nor --json)."
)
SUFFIXES = {"overlay": tuple(PICTURES), "mask_out": (".png",), "cutout": (".png",), "rle": (".json",), "logits": (".npz",)}


@dataclass(frozen=True)
class Candidate:
    """One mask that a prompt may have meant.

    Attributes:
        predicted_iou: the model's own score.
        area: pixels.
        box: x0, y0, x1, y1 of the first and last pixels, None where the mask is empty.
        rle: COCO's compressed run-length code.
    """

    predicted_iou: float
    area: int
    box: list[float] | None
    rle: dict[str, Any]


@dataclass(frozen=True)
class Result:
    """A prompt's answer. Masks are kept as run-length code: those of many prompts on a large picture would fill the memory."""

    prompt: Prompt
    candidates: list[Candidate]
    best: int
    low_res_masks: Float[Array, "M L L"]
    iou_predictions: Float[Array, " M"]

    @classmethod
    def of(
        cls,
        prompt: Prompt,
        masks: Bool[Array, "M H W"],
        iou_predictions: Float[Array, " M"],
        low_res_masks: Float[Array, "M L L"],
    ) -> "Result":
        """From what `SamPredictor.predict` returns."""
        candidates = [_candidate(mask, float(score)) for mask, score in zip(masks, iou_predictions, strict=True)]
        best = int(np.argmax(iou_predictions))
        return cls(prompt, candidates, best, low_res_masks, iou_predictions)

    def mask(self) -> Bool[Array, "H W"]:
        """The best candidate's mask at the picture's size, decoded anew."""
        return rle_to_mask(self.candidates[self.best].rle)


def _candidate(mask: Bool[Array, "H W"], score: float) -> Candidate:
    box = box_of(mask)
    return Candidate(score, area(mask), None if box is None else box.tolist(), coco_encode_rle(mask_to_rle(mask)))


def candidate_summary(result: Result) -> dict[str, Any]:
    """A prompt's answer for `--json`, in the words of upstream's and COCO's annotations.

    bbox is x, y, width, height, counted in pixels as COCO does; that of `refsam everything` is 1 less wide and high.
    """
    prompt = result.prompt
    return {
        "name": prompt.name,
        "point_coords": prompt.points,
        "point_labels": prompt.labels,
        "box": prompt.box,
        "mask_input": prompt.mask,
        "best": result.best,
        "candidates": [
            {"predicted_iou": c.predicted_iou, "area": c.area, "bbox": _bbox(c.box), "segmentation": c.rle}
            for c in result.candidates
        ],
    }


def _bbox(box: list[float] | None) -> list[float]:
    """COCO's x, y, width, height in whole pixels: a mask of one pixel is 1 wide."""
    return [0.0, 0.0, 0.0, 0.0] if box is None else [box[0], box[1], box[2] - box[0] + 1, box[3] - box[1] + 1]


def candidate_table(results: Sequence[Result]) -> None:
    """Print all candidates of all prompts, the best marked."""
    from rich.console import Console
    from rich.table import Table

    table = Table("prompt", "", "predicted IoU", "area", "of picture", "x0, y0, x1, y1")
    for number, result in enumerate(results):
        for index, candidate in enumerate(result.candidates):
            label = one_line(result.prompt.name or str(number + 1)) if index == 0 else ""
            box = "empty" if candidate.box is None else ", ".join(f"{side:g}" for side in candidate.box)
            share = f"{candidate.area / math.prod(candidate.rle['size']):.1%}"
            mark = "best" if index == result.best else ""
            table.add_row(label, mark, f"{candidate.predicted_iou:.3f}", str(candidate.area), share, box)
    Console(markup=False, highlight=False).print(table)


@Parameter(name="*")
@dataclass(frozen=True)
class Outputs:
    """Where to write what. A file is whole or not there; those of an earlier run are replaced, inputs never."""

    out: Annotated[Path | None, Parameter(help="A folder for all of: " + ", ".join(FILES.values()) + ".")] = None
    overlay: Annotated[Path | None, Parameter(help=_OVERLAY_HELP)] = None
    mask_out: Annotated[Path | None, Parameter(help="The mask as a black and white .png; of several prompts -1, -2, ...")] = None
    cutout: Annotated[Path | None, Parameter(help="What is inside the mask on a transparent ground, .png; -1, -2, ...")] = None
    rle: Annotated[Path | None, Parameter(help="COCO's annotations with run-length code, .json.")] = None
    logits: Annotated[Path | None, Parameter(help="low_res_masks and iou_predictions of all candidates, .npz.")] = None

    def paths(self, image: Path, prompts: int, *, default: bool, inputs: Sequence[Path]) -> "Targets":
        """The files to write, checked before any work. `default`: draw NAME.refsam.png where no option names an output.

        Raises InputError where a name's ending does not fit, two outputs are one file, or an output is an input.
        """
        chosen: dict[str, Path] = {}
        for option, name in FILES.items():
            path = getattr(self, option) or (self.out / name if self.out else None)
            if path is not None:
                chosen[option] = path
        if not chosen and default:
            chosen["overlay"] = Path(f"{image.stem}.refsam.png")
        targets = Targets({option: _numbered(option, path, prompts) for option, path in chosen.items()}, self.out)
        check_places(list(targets.all()), inputs, self.out)
        return targets


@dataclass(frozen=True)
class Targets:
    """Option -> the files to write for it."""

    files: dict[str, list[Path]]
    folder: Path | None

    def all(self) -> Iterator[Path]:
        """Every file."""
        for paths in self.files.values():
            yield from paths

    def listed(self) -> dict[str, list[Path]]:
        """Option -> files, for `--json`."""
        return {option.removesuffix("_out"): paths for option, paths in self.files.items()}

    def write(self, image: Path, picture: UInt8[Array, "H W 3"], results: Sequence[Result]) -> None:
        """Write them all. Raises InputError where one cannot be written."""
        if self.folder is not None:
            make_folder(self.folder)
        for path in self.files.get("overlay", []):
            write_picture(path, _drawn(picture, results))
        for path, result in zip(self.files.get("mask_out", []), results, strict=False):
            write_picture(path, np.multiply(result.mask(), 255, dtype=np.uint8))
        for path, result in zip(self.files.get("cutout", []), results, strict=False):
            write_picture(path, cut_out(picture, result.mask()))
        for path in self.files.get("rle", []):
            write_json(_coco(image, picture, results), path)
        for path in self.files.get("logits", []):
            _write(path, lambda file: _save_logits(file, results))


def _numbered(option: str, path: Path, prompts: int) -> list[Path]:
    """One file, or one for each of several prompts where it holds only one mask."""
    check_suffix(option, path, SUFFIXES[option])
    if prompts == 1 or option not in ("mask_out", "cutout"):
        return [path]
    return [path.with_name(f"{path.stem}-{number + 1}{path.suffix}") for number in range(prompts)]


def check_suffix(option: str, path: Path, suffixes: Sequence[str]) -> None:
    """Raise InputError where a name's ending does not say one of the kinds of file that the option writes."""
    if path.suffix.lower() not in suffixes:
        raise InputError(f"--{option.replace('_', '-')} {path}: its name has to end in {' or '.join(suffixes)}")


def check_tensors(path: Path, inputs: Sequence[Path]) -> None:
    """`check_places` of a file of tensors. Raises InputError, too, where its name says that it is of another kind, so that what
    it is read with would not know it. A pipe or an open descriptor has no name of its own."""
    check_places([path], inputs)
    if path.suffix.lower() != TENSORS and not is_stream(path):
        raise InputError(f"cannot write {path}: its name has to end in {TENSORS}, which is what is written")


def check_places(paths: Sequence[Path], inputs: Sequence[Path], folder: Path | None = None, folders: Sequence[Path] = ()) -> None:
    """Raise InputError where two outputs are one file, an output is or holds an input, is stdout, or cannot be written there.

    Before any work, so that nobody waits for masks that cannot be written. `folder` is one that will be made; those of `paths`
    that are folders to write, and are replaced as a whole, are `folders`.
    """
    if folder is not None:
        above = [folder, *folder.parents]
        existing = next(place for place in above if place.exists())
        if not existing.is_dir():
            raise InputError(f"cannot make the folder {folder}: {existing} is a file")
        if existing != folder:
            check_writable(above[above.index(existing) - 1], folder=True)
    places, given_places = ([Path(os.path.realpath(path)) for path in some] for some in (paths, inputs))
    for path, place in zip(paths, places, strict=True):
        if places.count(place) > 1 and not place.is_char_device():  # /dev/null takes all
            raise InputError(f"two outputs have the same name {path}")
        if is_stdout(path):  # where the command prints its answer, with --json or without
            raise InputError(f"cannot write {path}: the answer is printed there; name a file, or /dev/fd/3 and end with 3>&1 >&2")
        for given, given_place in zip(inputs, given_places, strict=True):
            if place == given_place:
                raise InputError(f"{path} is an input; it is not overwritten. Give the output another name")
            if path in folders and place in given_place.parents:
                raise InputError(f"{path} has the input {given} in it; it is not replaced. Name another folder")
        if path.parent != folder and not path.parent.is_dir():
            raise InputError(f"cannot write {path}: there is no folder {path.parent}")
        if path.parent.is_dir():
            check_writable(path, folder=path in folders)


def make_folder(folder: Path) -> None:
    """Where it is missing, with those above it. Raises InputError where that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {folder}: {error.strerror}") from None


def _drawn(picture: UInt8[Array, "H W 3"], results: Sequence[Result]) -> UInt8[Array, "H W 3"]:
    prompts = [result.prompt for result in results]
    return overlay(
        picture,
        (result.mask() for result in results),
        points=[point for prompt in prompts for point in prompt.points],
        labels=[label for prompt in prompts for label in prompt.labels],
        boxes=[prompt.box for prompt in prompts if prompt.box is not None],
    )


def _coco(image: Path, picture: UInt8[Array, "H W 3"], results: Sequence[Result]) -> dict[str, Any]:
    """COCO's file of annotations: the best mask of each prompt."""
    annotations = []
    for number, result in enumerate(results):
        best = result.candidates[result.best]
        shape = {"segmentation": best.rle, "area": best.area, "bbox": _bbox(best.box), "iscrowd": 0, "score": best.predicted_iou}
        annotations.append({"id": number + 1, "image_id": 1, "category_id": 1, **shape})
    return {
        "images": [{"id": 1, "file_name": image.name, "height": picture.shape[0], "width": picture.shape[1]}],
        "categories": [{"id": 1, "name": "object"}],
        "annotations": annotations,
    }


def _save_logits(file: BufferedIOBase, results: Sequence[Result]) -> None:
    """Arrays (prompts, candidates, ...), so that --mask and numpy.load read them back."""
    low_res_masks = np.stack([result.low_res_masks for result in results])
    iou_predictions = np.stack([result.iou_predictions for result in results])
    np.savez_compressed(file, low_res_masks=low_res_masks, iou_predictions=iou_predictions)


def write_picture(path: Path, pixels: UInt8[Array, "..."]) -> None:
    """A picture file of the kind that its name says. Raises InputError where it cannot be written."""
    from PIL import Image

    options: dict[str, Any] = {"PNG": {"compress_level": 1}, "JPEG": {"quality": 92}, "WEBP": {"quality": 92}}[
        PICTURES[path.suffix.lower()]
    ]
    try:
        _write(path, lambda file: Image.fromarray(pixels).save(file, format=PICTURES[path.suffix.lower()], **options))
    except InputError:
        raise
    except ValueError as error:  # JPEG and WebP have a greatest side
        raise InputError(f"cannot write {path}: {error}") from None


def _write(path: Path, write: Callable[[Any], Any]) -> None:
    with atomic_write(path) as file:
        write(file)
