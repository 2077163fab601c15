"""`refsam coreml check`: picture, preprocessing, packages, postprocessing, masks, held against the reference stage by stage."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from refsam.cli.common import DIFFERENCE, OK, JsonFlag, narrow_table, print_json, progress
from refsam.cli.coreml_prompt import picture_and_points
from refsam.cli.model import ModelOptions, describe
from refsam.cli.prompts import Points
from refsam.coreml import check as checking
from refsam.coreml import mil
from refsam.coreml.app_parts import ModelParts, PackageParts, Runnable
from refsam.coreml.check_native import NativeProgram, Units
from refsam.coreml.check_rounding import Rounded
from refsam.coreml.check_ways import Way, around
from refsam.coreml.constants import read_image_pe
from refsam.coreml.export import PACKAGES, Part
from refsam.errors import InputError
from refsam.metal.device import default_name
from refsam.model.sam import MobileSam
from refsam.verify.comparison import K
from refsam.verify.ports.coreml import compression_notes, declared, other_weights
from refsam.verify.precision import model_of_precision, precision_of

PackagesOption = Annotated[Path, Parameter(help="The folder of ImageEncoder, PromptEncoder and MaskDecoder.mlpackage.")]
PeOption = Annotated[Path | None, Parameter(name="--image-pe", help="The app's .bin of the image's positional encoding.")]
PrecisionOption = Annotated[
    Literal["auto", "fp32", "fp16", "int8", "int8-fp16"], Parameter(help="What the packages promise; auto: by the types in each.")
]
WayOption = Annotated[Way, Parameter(help="kernels/*.metal; NumPy; the app as it ships; the app as its sources read.")]
DeviceOption = Annotated[Literal["metal", "emulator"] | None, Parameter(help="What runs kernels (default: a Mac's GPU, if any).")]
NativeOption = Annotated[bool, Parameter(negative=(), help="Core ML itself runs the packages (a Mac with coremltools).")]
UnitsOption = Annotated[Units, Parameter(help="What Core ML may compute on, with --native.")]


def check(
    photo: Path,
    /,
    *,
    packages: PackagesOption,
    point: Points | None = None,
    image_pe: PeOption = None,
    precision: PrecisionOption = "auto",
    preprocessing: WayOption = "kernel",
    postprocessing: WayOption = "kernel",
    device: DeviceOption = None,
    native: NativeOption = False,
    units: UnitsOption = "ALL",
    model: ModelOptions | None = None,
    as_json: JsonFlag = False,
) -> int:
    """Hold the whole path of an app against the reference: PHOTO, preprocessing, three packages, postprocessing, masks.

    Exit code 1 where a stage is off by more than rounding to the packages' precision explains. The weights have to be named.
    """
    options = replace(model or ModelOptions(), dtype="float64", backend="reference")
    with progress("check", unit="steps") as advance:
        advance(0, 3)
        programs = {part: mil.load(packages / name) for part, name in PACKAGES.items()}
        runs = _native(packages, units) if native else programs
        loaded = options.load(named=True)
        if others := other_weights(programs, loaded):
            raise InputError(others[0])
        picture, points = picture_and_points(photo, point or [], loaded.config)
        advance(1, 3)
        before, after = around(preprocessing, postprocessing, device or default_name())
        encoding = loaded.image_pe if image_pe is None else read_image_pe(image_pe, loaded.image_pe.shape)
        candidate = checking.Candidate(before, PackageParts(runs, encoding), after)
        advance(2, 3)
        promised = {part: declared({part: program}) if precision == "auto" else precision for part, program in programs.items()}
        report = checking.check(picture, points, candidate, ModelParts(loaded), _rounded(loaded, promised), K)
        advance(3, 3)
    ways = {"preprocessing": preprocessing, "postprocessing": postprocessing, "native": native, "precisions": promised}
    notes = compression_notes(programs) if precision == "auto" else ()
    if as_json:
        document = {"image": photo, "packages": packages, **describe(loaded, options), **ways, "k": K, "notes": notes}
        print_json(document | report.to_dict())
    else:
        _print(report)
        for note in notes:
            print(note)
    return OK if report else DIFFERENCE


def _native(packages: Path, units: Units) -> Mapping[Part, Runnable]:
    return {part: NativeProgram(packages / name, units) for part, name in PACKAGES.items()}


def _rounded(model: MobileSam, promised: Mapping[Part, str]) -> Rounded:
    """The model at each package's precision."""
    models = {name: ModelParts(model_of_precision(model, name)) for name in set(promised.values())}
    parts = {part: models[name] for part, name in promised.items()}
    return Rounded(parts, {part: precision_of(name).unit for part, name in promised.items()})


def _print(report: checking.Report) -> None:
    """Tables that fit a terminal of 80 columns."""
    from rich.console import Console

    stages = narrow_table("stage", "local", "budgets", "total", "budgets", "", left=(0, 5))
    for stage in report.stages:
        verdict = "holds" if stage.holds else "DIFFERS HERE" if stage.enters_here else "follows"
        figures = ((stage.local, stage.local_budget), (stage.total, stage.total_budget))
        texts = (text for error, budget in figures for text in (f"{error:.1e}", f"{error / budget:.3g}"))
        stages.add_row(stage.name, *texts, verdict)
    masks = narrow_table("mask", "IoU", "flipped", "unexplained", "IoU of postprocessing", "", left=(0, 5))
    for mask in report.masks:
        verdict = "holds" if mask.holds else "DIFFERS HERE" if mask.local_unexplained else "follows"
        figures_of = (f"{mask.iou:.5f}", str(mask.flipped), str(mask.unexplained), f"{mask.local_iou:.5f}")
        masks.add_row(str(mask.index), *figures_of, verdict)
    console = Console(markup=False, highlight=False)
    console.print(stages, masks)
    budgets = f"{K:g} rounding budgets are allowed"
    console.print(f"all hold; {budgets}" if report else f"a difference enters at {report.first}; {budgets}")
