"""A folder of black and white PNGs, one for each mask, with metadata.csv: what upstream's scripts/amg.py writes."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from refsam.cli.results import write_picture
from refsam.errors import InputError
from refsam.files import atomic_folder, atomic_write
from refsam.masks import rle_to_mask
from refsam.types import Progress

COLUMNS = (
    "id", "area", "bbox_x0", "bbox_y0", "bbox_w", "bbox_h", "point_input_x", "point_input_y", "predicted_iou", "stability_score",
    "crop_box_x0", "crop_box_y0", "crop_box_w", "crop_box_h",
)  # fmt: skip
TABLE = "metadata.csv"


def check_folder(folder: Path) -> None:
    """Raise InputError unless `folder` is new, empty or of an earlier run: it is replaced as a whole.

    Of an earlier run means: our table, and the PNGs that its rows count. Numbered PNGs alone may be the frames of a video.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InputError(f"--masks {folder}: it is not a folder")
    names = {entry.name for entry in folder.iterdir()}
    others = sorted(names - _written(folder))
    if others:
        raise InputError(f"--masks {folder}: it has other things in it ({', '.join(others[:3])}); name a new folder")


def _written(folder: Path) -> set[str]:
    """The names that `write_folder` gave to what it wrote into this folder; none where it did not."""
    with suppress(OSError, UnicodeDecodeError), (folder / TABLE).open(encoding="ascii") as file:
        if file.readline() == _line(COLUMNS):
            return {TABLE, *(f"{number}.png" for number, _ in enumerate(file))}
    return set()


def write_folder(folder: Path, records: Sequence[dict[str, Any]], progress: Progress) -> None:
    """One PNG after another: 0.png is the first record's. The folder is there when all of it is."""
    with atomic_folder(folder) as new:
        for number, record in enumerate(records):
            write_picture(new / f"{number}.png", np.multiply(rle_to_mask(record["segmentation"]), 255, dtype=np.uint8))
            progress(number + 1, len(records))
        rows = [COLUMNS, *(_row(number, record) for number, record in enumerate(records))]
        with atomic_write(new / TABLE) as file:
            file.write("".join(map(_line, rows)).encode())


def _line(row: Sequence[Any]) -> str:
    return ",".join(map(str, row)) + "\n"


def _row(number: int, record: dict[str, Any]) -> tuple[Any, ...]:
    scores = (record["predicted_iou"], record["stability_score"])
    return (number, record["area"], *record["bbox"], *record["point_coords"][0], *scores, *record["crop_box"])
