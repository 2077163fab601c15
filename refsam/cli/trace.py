"""`refsam trace`: the intermediate results of one prediction, listed and saved."""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
from cyclopts import Parameter

from refsam.cli.common import OK, JsonFlag, print_json, printable, progress
from refsam.cli.model import ModelOptions, describe
from refsam.cli.prompts import Boxes, MaskFile, Points, PromptFile, collect
from refsam.cli.results import check_tensors
from refsam.errors import InputError
from refsam.images import read_image
from refsam.model.sam import MobileSam
from refsam.predictor import SamPredictor
from refsam.predictor import trace as trace_prediction
from refsam.tracing import Trace
from refsam.types import Array, UInt8

Stages = Annotated[str, Parameter(help="Glob patterns of stage names, separated by commas: 'image_encoder.layers.*,masks'.")]
Out = Annotated[Path | None, Parameter(help="Save the stages as .safetensors; refsam.Trace.load reads them.")]
Multimask = Annotated[bool, Parameter(name="--multimask", negative="--single", help="Three candidates, or a single mask.")]


def trace(
    image: Path,
    /,
    *,
    point: Points | None = None,
    box: Boxes | None = None,
    mask: MaskFile = None,
    prompts: PromptFile = None,
    stages: Stages = "*",
    out: Out = None,
    multimask: Multimask = True,
    model: ModelOptions | None = None,
    as_json: JsonFlag = False,
) -> int:
    """Run one prediction on IMAGE and list its stages: names as in the checkpoint, shapes, greatest values.

    The weights have to be named, by --weights or $REFSAM_WEIGHTS.
    """
    options = model or ModelOptions()
    asked = collect(point or [], box or [], mask, prompts)
    if len(asked) != 1:
        raise InputError(f"a trace is of one prompt, and there are {len(asked)}")
    if out is not None:
        check_tensors(out, [path for path in (image, asked[0].mask, prompts, *options.inputs()) if path is not None])
    with progress("trace", unit="steps") as advance:
        advance(0, 3)
        picture = read_image(image)
        advance(1, 3)
        loaded = options.load(named=True)
        advance(2, 3)
        kwargs = asked[0].predict_kwargs(loaded.config, (picture.shape[0], picture.shape[1]))
        kwargs["multimask_output"] = multimask
        rows = _list(loaded, picture, stages, kwargs) if out is None else _save(loaded, picture, stages, kwargs, out)
        advance(3, 3)
    if as_json:
        print_json({"image": image, **describe(loaded, options), "file": out, "stages": rows})
    else:
        _print_rows(rows)
        print(f"{len(rows)} stages" + (f", wrote {printable(out)}" if out is not None else ""))
    return OK


class _Listing(Trace):
    """A trace that keeps a summary of each stage in place of the stage: all of MobileSAM's take 3 GB."""

    def __init__(self, stages: str) -> None:
        super().__init__(stages)
        self.rows: list[dict[str, Any]] = []

    def record(self, name: str, value: Array) -> None:
        if self.wants(name):
            self.rows.append({"stage": name, **_summary(np.ascontiguousarray(value))})  # in the order that a trace sums it in


def _list(model: MobileSam, picture: UInt8[Array, "H W 3"], stages: str, kwargs: dict[str, Any]) -> list[dict[str, Any]]:
    listing = _Listing(stages)
    predictor = SamPredictor(model.traced(listing))
    predictor.set_image(picture)
    predictor.predict(**kwargs)
    return _some(listing.rows, stages)


def _save(
    model: MobileSam, picture: UInt8[Array, "H W 3"], stages: str, kwargs: dict[str, Any], out: Path
) -> list[dict[str, Any]]:
    result = trace_prediction(model, picture, stages=stages, **kwargs)
    rows = _some([{"stage": name, **_summary(value)} for name, value in result.items()], stages)
    result.save(out)
    return rows


def _some(rows: list[dict[str, Any]], stages: str) -> list[dict[str, Any]]:
    if not rows:
        raise InputError(f"no stage has a name like {stages!r}; refsam trace without --stages lists them all")
    return rows


def _summary(value: Array) -> dict[str, Any]:
    """Shape, type, and two numbers that tell at a glance whether two traces differ."""
    plain = value.astype(np.float64) if value.size else np.zeros(1)
    return {
        "shape": list(value.shape),
        "dtype": str(value.dtype),
        "max_abs": float(np.abs(plain).max()),
        "rms": float(np.sqrt(np.mean(plain * plain))),
    }


def _print_rows(rows: list[dict[str, Any]]) -> None:
    """Plain columns: names of stages are long, and are searched and cut with other tools."""
    names, shapes = [row["stage"] for row in rows], [" x ".join(map(str, row["shape"])) for row in rows]
    width, shape_width = max(map(len, names)), max(map(len, shapes))
    print(f"{'stage':<{width}}  {'shape':<{shape_width}}  dtype         rms     max |x|")
    for row, shape in zip(rows, shapes, strict=True):
        numbers = f"{row['rms']:10.4g}  {row['max_abs']:10.4g}"
        print(f"{row['stage']:<{width}}  {shape:<{shape_width}}  {row['dtype']:<7} {numbers}")
