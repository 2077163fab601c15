"""`refsam coreml`: Core ML packages on any system."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from refsam import coreml
from refsam.cli.common import DIFFERENCE, OK, JsonFlag, one_line, print_json
from refsam.cli.coreml_app import app as app_path
from refsam.cli.coreml_check import check
from refsam.cli.coreml_constants import constants
from refsam.cli.coreml_export import export
from refsam.cli.coreml_ops import package_document, print_package, print_run, run_document
from refsam.cli.results import check_places
from refsam.coreml import tensors
from refsam.coreml.mil import Program
from refsam.coreml.types import Feature
from refsam.coreml.verdicts import judge_package, judge_run
from refsam.errors import InputError
from refsam.loading import load as load_model
from refsam.types import Array

app = App(name="coreml", help="Core ML packages, on any system: describe, run, judge operation by operation.")
app.command(export)
app.command(constants)
app.command(app_path, name="app")
app.command(check)

Precision = Annotated[
    Literal["typed", "fp64", "fp32", "fp16", "fp16-accumulate"],
    Parameter(help="What is rounded to float16, and when; 'typed' is as the program says."),
]
Inputs = Annotated[Path, Parameter(help="A .npz, a .safetensors, or a folder with one .bin or .npy for each input.")]
Out = Annotated[Path | None, Parameter(help="Save the outputs, as .npz or .safetensors.")]
Against = Annotated[
    Path | None,
    Parameter(help="Results of an executor: .npz, .safetensors, or a folder of .bin or .npy. They are judged one by one."),
]
Weights = Annotated[
    str | None, Parameter(help="The weights that the package was made from: it is held against refsam with them.")
]
Declared = Annotated[
    Literal["typed", "fp64", "fp32", "fp16", "fp16-accumulate"], Parameter(help="What the executor says that it computes in.")
]
All = Annotated[bool, Parameter(name="--all", negative=(), help="Save every intermediate result too.")]


@app.command
def info(package: Path, /, *, as_json: JsonFlag = False) -> int:
    """Describe an .mlpackage: versions, inputs and outputs, which operations it has, and whether refsam can run it."""
    program = coreml.load(package)
    supported, why = _supported(program)
    document = {
        "path": program.path,
        "specification_version": program.model.specification_version,
        "opset": program.model.opset,
        "inputs": [_feature(feature) for feature in program.inputs],
        "outputs": [_feature(feature) for feature in program.outputs],
        "operations": dict(Counter(operation.type for operation in program.ops).most_common()),
        "runs": supported,
        "why_not": why,
        "metadata": program.model.metadata,
    }
    if as_json:
        print_json(document)
    else:
        _print_info(document)
    return OK


@app.command
def run(
    package: Path,
    /,
    *,
    inputs: Inputs,
    out: Out = None,
    precision: Precision = "typed",
    every: All = False,
    as_json: JsonFlag = False,
) -> int:
    """Run an .mlpackage on tensors and summarise its outputs."""
    program = coreml.load(package)
    if every and out is None:
        raise InputError("--all saves every intermediate result; say where with --out")
    if out is not None:
        check_places([out], [package, inputs])
    given = tensors.read(inputs, program.types)
    kept: dict[str, Array] = {}

    def keep(operation: Any, _bound: Any, results: list[Any]) -> None:
        kept.update({output.name: value for output, value in zip(operation.outputs, results, strict=True)})

    results = program.run(given, None if precision == "typed" else precision, observe=keep if every else None)
    if out is not None:
        tensors.write(out, {**kept, **results})
    rows = [{"name": name, **_summary(value)} for name, value in results.items()]
    if as_json:
        print_json({"path": program.path, "precision": precision, "file": out, "outputs": rows})
    else:
        for row in rows:
            print(
                f"{one_line(row['name'])}  {row['dtype']} {tuple(row['shape'])}  rms {row['rms']:.6g}  max {row['max_abs']:.6g}"
            )
    return OK


@app.command
def ops(
    package: Path,
    /,
    *,
    inputs: Inputs,
    against: Against = None,
    weights: Weights = None,
    precision: Declared = "typed",
    as_json: JsonFlag = False,
) -> int:
    """Judge operation by operation: with --against an executor's results, with --weights the package itself.

    Exits with 1 where a fault is found, and names the operation at which it enters.
    """
    if (against is None) == (weights is None):
        raise InputError("give --against (an executor's results) or --weights (what the package was made from), one of them")
    if weights is not None and precision != "typed":
        raise InputError(f"--precision {precision} is what an executor computes in; with --weights the package runs in float64")
    program = coreml.load(package)
    given = tensors.read(inputs, program.types)
    if against is not None:
        types = program.types_for(given) if against.is_dir() else program.types  # only raw files need them
        run_verdict = judge_run(program, given, tensors.read(against, types), None if precision == "typed" else precision)
        print_json(run_document(run_verdict)) if as_json else print_run(run_verdict)
        return OK if run_verdict else DIFFERENCE
    verdict = judge_package(program, load_model(weights, backend="reference"), given)
    print_json(package_document(verdict)) if as_json else print_package(verdict)
    return OK if verdict else DIFFERENCE


def _supported(program: Program) -> tuple[bool, str]:
    try:
        program.check_supported()
    except InputError as error:
        return False, str(error)
    return True, ""


def _feature(feature: Feature) -> dict[str, Any]:
    dtype = feature.dtype if feature.kind == "array" else feature.kind
    return {"name": feature.name, "dtype": dtype, "shape": list(feature.shape), "accepts": feature.expected()}


def _summary(value: Array) -> dict[str, Any]:
    plain = value.astype("float64") if value.size else value.reshape(-1)
    rms = float((plain * plain).mean() ** 0.5) if value.size else 0.0
    greatest = float(abs(plain).max()) if value.size else 0.0
    return {"shape": list(value.shape), "dtype": str(value.dtype), "rms": rms, "max_abs": greatest}


def _print_info(document: dict[str, Any]) -> None:
    print(f"{document['path']}: ML program, specification {document['specification_version']}, opset {document['opset']}")
    for kind in ("inputs", "outputs"):
        for feature in document[kind]:
            print(f"  {kind[:-1]:<7} {one_line(feature['name'])}: {feature['dtype']} {feature['accepts']}")
    counts = ", ".join(f"{one_line(kind)} {count}" for kind, count in document["operations"].items())
    print(f"  {sum(document['operations'].values())} operations: {counts}")
    print("  refsam can run it" if document["runs"] else f"  refsam cannot run it: {one_line(document['why_not'])}")
    for key, text in document["metadata"].items():
        print(f"  {one_line(key)}: {one_line(text):.200}")
