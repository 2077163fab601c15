"""`refsam everything`: all that a grid of points finds in a picture."""

import dataclasses
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from refsam.automatic_mask_generator import SamAutomaticMaskGenerator
from refsam.cli.common import OK, JsonFlag, print_json, printable, progress, write_json
from refsam.cli.mask_folder import check_folder, write_folder
from refsam.cli.model import ModelOptions, describe
from refsam.cli.results import PICTURES, check_places, check_suffix, make_folder, write_picture
from refsam.drawing import overlay
from refsam.images import read_image
from refsam.masks import rle_to_mask
from refsam.types import Array, Bool, Progress, UInt8

SHOWN = 20
"""Masks in the table."""


@Parameter(name="*")
@dataclass(frozen=True)
class Search:
    """Where to look and what to keep; upstream's options and defaults."""

    points_per_side: Annotated[int, Parameter(help="Points along one side of the grid.")] = 32
    points_per_batch: Annotated[int, Parameter(help="Points decoded at once: more take more memory.")] = 64
    pred_iou_thresh: Annotated[float, Parameter(help="Drop masks that the model rates at this or lower; 0 keeps all.")] = 0.88
    stability_score_thresh: Annotated[float, Parameter(help="Drop masks of a lower stability score; 0 keeps all.")] = 0.95
    stability_score_offset: Annotated[float, Parameter(help="By how much the threshold moves for that score, in logits.")] = 1.0
    box_nms_thresh: Annotated[float, Parameter(help="Of two masks whose boxes have a greater IoU, drop one.")] = 0.7
    crop_n_layers: Annotated[int, Parameter(help="Look again in crops: layer n has 2**n to a side.")] = 0
    crop_nms_thresh: Annotated[float, Parameter(help="As --box-nms-thresh, between crops.")] = 0.7
    crop_overlap_ratio: Annotated[float, Parameter(help="By how much of the short side crops overlap.")] = 512 / 1500
    crop_n_points_downscale_factor: Annotated[int, Parameter(help="Layer n has so many times fewer points, to the n-th.")] = 1
    min_mask_region_area: Annotated[int, Parameter(help="Remove holes and islands of fewer pixels.")] = 0


@Parameter(name="*")
@dataclass(frozen=True)
class Outputs:
    """Where to write what. A file is whole or not there; those of an earlier run are replaced, inputs never."""

    out: Annotated[Path | None, Parameter(help="A folder for all of: overlay.png, masks.json, masks/.")] = None
    overlay: Annotated[
        Path | None,
        Parameter(help="The picture with all masks: .png, .jpg or .webp (NAME.refsam.png where no output is named, nor --json)."),
    ] = None
    rle: Annotated[Path | None, Parameter(help="The records in the form of SA-1B's files, .json.")] = None
    masks: Annotated[Path | None, Parameter(help="A folder of black and white PNGs, with metadata.csv.")] = None

    def chosen(self, image: Path, *, default: bool, inputs: Sequence[Path]) -> "Outputs":
        """With all names filled in, checked before any work. Raises InputError where a name cannot be used."""
        within = {"overlay": "overlay.png", "rle": "masks.json", "masks": "masks"}
        full = {name: getattr(self, name) or (self.out and self.out / leaf) for name, leaf in within.items()}
        if default and not any(full.values()):
            full["overlay"] = Path(f"{image.stem}.refsam.png")
        for option, suffixes in (("overlay", tuple(PICTURES)), ("rle", (".json",))):
            if path := full[option]:
                check_suffix(option, path, suffixes)
        masks = full["masks"]
        check_places([path for path in full.values() if path], inputs, self.out, [masks] if masks else [])
        if masks:
            check_folder(masks)
        return dataclasses.replace(self, **full)

    def listed(self) -> dict[str, Path]:
        """Option -> file or folder."""
        return {name: path for name in ("overlay", "rle", "masks") if (path := getattr(self, name)) is not None}

    def write(self, image: Path, picture: UInt8[Array, "H W 3"], records: Sequence[dict[str, Any]], step: Progress) -> None:
        """Write them all. Raises InputError where one cannot be written."""
        if self.out is not None:
            make_folder(self.out)
        if self.rle is not None:
            write_json(sa_1b(image, picture, records), self.rle)
        if self.overlay is not None:
            write_picture(self.overlay, overlay(picture, _largest_first(records)))
        if self.masks is not None:
            write_folder(self.masks, records, step)


def everything(
    image: Path,
    /,
    *,
    search: Search | None = None,
    model: ModelOptions | None = None,
    outputs: Outputs | None = None,
    as_json: JsonFlag = False,
) -> int:
    """Find the masks of all things in IMAGE that a grid of points hits.

    With neither an output option nor --json, the picture with all masks drawn onto it goes to NAME.refsam.png in the current
    folder. Ctrl-C leaves whole files only.
    """
    options, wanted = model or ModelOptions(), search or Search()
    targets = (outputs or Outputs()).chosen(image, default=not as_json, inputs=[image, *options.inputs()])
    picture = read_image(image)
    generator = SamAutomaticMaskGenerator(options.load(), **dataclasses.asdict(wanted), output_mode="coco_rle")
    with progress("points", unit="steps") as step:
        records = generator.generate(picture, step)
    with progress("writing", unit="steps") as step:
        targets.write(image, picture, records, step)
    if not records:
        print(f"refsam: {hint(generator.highest, wanted)}", file=sys.stderr)
    if as_json:
        header = {**describe(generator.predictor.model, options), "parameters": dataclasses.asdict(wanted)}
        print_json({**sa_1b(image, picture, records), **header, "files": targets.listed()})
    else:
        table(records, picture.shape[0] * picture.shape[1])
        for path in targets.listed().values():
            print(f"wrote {printable(path)}")
    return OK


def sa_1b(image: Path, picture: UInt8[Array, "H W 3"], records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The records as the data set SA-1B has them, in one document for a picture."""
    return {
        "image": {"image_id": 1, "file_name": image.name, "height": picture.shape[0], "width": picture.shape[1]},
        "annotations": [{"id": number + 1, **record} for number, record in enumerate(records)],
    }


def hint(highest: dict[str, float], search: Search) -> str:
    """Why there is no mask, and what to change."""
    iou, stability = highest["predicted_iou"], highest["stability_score"]
    if search.pred_iou_thresh > 0 and not iou > search.pred_iou_thresh:
        lower = f"--pred-iou-thresh {max(math.floor(90 * iou) / 100, 0):g}"
        return f"no mask: the best predicted IoU is {iou:.3f}, not above {search.pred_iou_thresh:g}; try {lower}"
    if search.stability_score_thresh > 0 and not stability >= search.stability_score_thresh:
        return (
            f"no mask: the best stability score is {stability:.3f}, below {search.stability_score_thresh:g}; try"
            f" --stability-score-thresh {max(math.floor(90 * stability) / 100, 0) if stability >= 0 else 0:g},"
            f" or an offset smaller than --stability-score-offset {search.stability_score_offset:g}"
        )
    return "no mask: all were cut off by the edge of a crop; try a smaller --crop-n-layers"


def table(records: Sequence[dict[str, Any]], pixels: int) -> None:
    """Print the first masks."""
    from rich.console import Console
    from rich.table import Table

    rows = Table("mask", "IoU", "stability", "area", "share", "x, y, width, height", "point")
    for number, record in enumerate(records[:SHOWN]):
        scores = (f"{record['predicted_iou']:.3f}", f"{record['stability_score']:.3f}")
        box, point = (", ".join(f"{n:.0f}" for n in values) for values in (record["bbox"], record["point_coords"][0]))
        rows.add_row(str(number), *scores, str(record["area"]), f"{record['area'] / pixels:.1%}", box, point)
    console = Console(markup=False, highlight=False)
    if records:
        console.print(rows)
    more = f", the first {SHOWN} of them above" if len(records) > SHOWN else ""
    console.print(f"{len(records)} masks{more}")


def _largest_first(records: Sequence[dict[str, Any]]) -> Iterator[Bool[Array, "H W"]]:
    """So that what lies on something else is drawn over it; decoded one at a time."""
    return (rle_to_mask(record["segmentation"]) for record in sorted(records, key=lambda record: -record["area"]))
