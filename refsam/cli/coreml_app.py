"""`refsam coreml app`: what the iOS app's deviations from the reference cost on a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from refsam.cli.common import OK, JsonFlag, narrow_table, print_json, progress
from refsam.cli.coreml_prompt import Packages, picture_and_points
from refsam.cli.model import ModelOptions, describe
from refsam.cli.prompts import Points
from refsam.coreml.app_parts import ModelParts, PackageParts, Parts
from refsam.coreml.app_report import Cost, costs
from refsam.images import read_image
from refsam.model.sam import MobileSam
from refsam.verify.precision import model_of_precision

Before = Annotated[
    Path | None, Parameter(help="The picture that the app had before this one (default: this one turned by 90 degrees).")
]


def app(
    photo: Path,
    /,
    *,
    point: Points | None = None,
    before: Before = None,
    packages: Packages = None,
    model: ModelOptions | None = None,
    as_json: JsonFlag = False,
) -> int:
    """Run PHOTO through the app's own path: what each of its deviations costs, alone and together.

    IoU is of the mask that the app would show and the reference's, both on the same model.
    """
    options = model or ModelOptions()
    loaded = options.load()
    picture, points = picture_and_points(photo, point or [], loaded.config)
    earlier = None if before is None else read_image(before)
    parts, rounded = _parts(loaded, packages)
    with progress("app", unit="rows") as advance:
        rows = costs(parts, picture, points, earlier, rounded, advance)
    if as_json:
        print_json({"image": photo, **describe(loaded, options), "packages": packages, "rows": [row.row() for row in rows]})
    else:
        _print(rows)
    return OK


def _parts(model: MobileSam, packages: Path | None) -> tuple[Parts, Parts]:
    """Exact, and at the app's precision."""
    if packages is None:
        return ModelParts(model), ModelParts(model_of_precision(model, "fp16"))
    exact = PackageParts.load(packages, model.image_pe, "fp32")
    return exact, PackageParts(exact.programs, exact.image_pe)


def _print(rows: Sequence[Cost]) -> None:
    """Figures first, which fit a terminal of 80 columns; then in words what each row is."""
    from rich.console import Console

    console = Console(markup=False, highlight=False)
    table = narrow_table("switch", "kind", "levels", "p99", "displaced", "embedding", "IoU", "score", left=(0, 1))
    for row in rows:
        levels = (
            [f"{row.levels:.2f}", f"{row.levels_p99:.0f}", f"{row.displaced:.1%}"] if row.levels + row.displaced else [""] * 3
        )
        embedding = f"{row.embedding:.2g}" if row.embedding else ""
        table.add_row(row.name, row.kind, *levels, embedding, f"{row.iou:.4f}", f"{row.score:.3f}")
    console.print(table)
    for row in rows:
        console.print(f"{row.name}: {row.what}", soft_wrap=True)
