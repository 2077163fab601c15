"""The table of docs/evidence about clean runs: ports without a fault, none of which may be blamed."""

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from golden.cases import demo
from standin import TINY, standin_weights
from verify import clean_runs, package_port
from verify.mistaken import cases, picture, tiny

from refsam import MobileSam
from refsam.config import MOBILE_SAM
from refsam.images import read_image
from refsam.verify.reference import Case, Reference
from refsam.verify.steps import default_stages
from refsam.verify.verdict import judge

CLEAN = """# Clean runs: the oracle blames nobody

Ports without a fault, computed in other ways than the reference: the fast backend, other BLAS kernels (OPENBLAS_CORETYPE in a
child process), one to three threads, and each declared precision in every way that is valid for it (weights alone rounded; every
stored value too; sums stored after every 16 inputs; Core ML packages as typed, and with float16 sums). Pictures shrink or grow,
are square, portrait and landscape; prompts of each kind and none. *Required k* is the greatest over stages and runs; 4 hold.
Made by `make evidence`.
"""


class Run(NamedTuple):
    """A clean run and what was said of it."""

    model: str
    way: str
    case: str
    holds: bool
    required: float
    stage: str


def clean_run(model: str, way: str, case: str, made: Reference, port: Mapping[str, np.ndarray], precision: str) -> Run:
    verdict = judge(made, port, precision=precision, explain=False)
    worst = max(verdict.report.stages, key=lambda result: result.required_k)
    return Run(model, way, case, bool(verdict), verdict.report.required_k, worst.stage)


def tiny_runs() -> Iterable[Run]:
    """Every way in every case, and other BLAS kernels in four."""
    made = {name: Reference(tiny(), case, default_stages(TINY)) for name, case in clean_runs.more_cases(TINY).items()}
    for name, case_made in made.items():
        for way in clean_runs.WAYS:
            port = clean_runs.run(way, standin_weights(TINY), TINY, case_made.case)
            yield clean_run("tiny", f"{way.precision}, {way.how}", name, case_made, port, way.precision)
    for kernel in clean_runs.KERNELS:
        for (way, name), port in clean_runs.in_child(kernel, ["points", "box", "mask", "portrait"]).items():
            yield clean_run("tiny", f"{way.precision}, {way.how}, {kernel}", name, made[name], port, way.precision)


def demo_runs(names: Sequence[str], hows: Sequence[clean_runs.Way]) -> Iterable[Run]:
    """The trained model of the repository."""
    weights = demo()
    model = MobileSam(weights.tensors, weights.config, dtype="float64")
    for name in names:
        made = Reference(model, clean_runs.more_cases(weights.config)[name], default_stages(weights.config))
        for way in hows:
            port = clean_runs.run(way, weights.tensors, weights.config, made.case)
            yield clean_run("demo", f"{way.precision}, {way.how}", name, made, port, way.precision)


def clicked_runs(count: int) -> Iterable[Run]:
    """The trained model's fast backend, so many clicks on each of six pictures: what an answer loses depends on the click."""
    weights, photos = demo(), Path(__file__).parents[1] / "data" / "photos"
    model = MobileSam(weights.tensors, weights.config, dtype="float64")
    way = clean_runs.Way("float32", "fast, threads 2")
    names = ("coffee", "horses", "kitten", "liberty", "wine")
    pictures = {"blobs": picture(190, 256)} | {name: read_image(photos / f"{name}.jpg") for name in names}
    for seed, (name, image) in enumerate(pictures.items()):
        for x, y in np.random.RandomState(seed).uniform(0.05, 0.95, (count, 2)) * (image.shape[1], image.shape[0]):
            case = Case(image, {"point_coords": [[x, y]], "point_labels": [1]}, f"{name}, {x:.0f},{y:.0f}")
            made = Reference(model, case, ())
            port = clean_runs.run(way, weights.tensors, weights.config, case)
            yield clean_run("demo", f"float32, fast, {count} clicks on each of six pictures", case.name, made, port, "float32")


def full_runs(hows: Sequence[clean_runs.Way]) -> Iterable[Run]:
    """MobileSAM's own size, on stand-in weights."""
    weights = standin_weights(MOBILE_SAM)
    model = MobileSam(weights, MOBILE_SAM, dtype="float64")
    case = cases(MOBILE_SAM)["box and points"]
    for way in hows:
        made = Reference(model, case, clean_runs.shown(way, MOBILE_SAM))
        port = clean_runs.run(way, weights, MOBILE_SAM, case)
        yield clean_run("MobileSAM's size", f"{way.precision}, {way.how}", "box and points", made, port, way.precision)


def package_runs() -> Iterable[Run]:
    """Core ML packages as refsam exports them."""
    with tempfile.TemporaryDirectory() as folder:
        for stored, arithmetic in (("fp32", None), ("fp16", None), ("fp16", "fp16-accumulate")):
            port = package_port.programs(Path(folder), stored)
            for name in ("points", "portrait"):
                made = package_port.reference(name)
                found = package_port.run(port, made.case, arithmetic)
                way = f"package, {stored}, {arithmetic or 'as typed'}"
                yield clean_run("tiny", way, name, made, found, package_port.PRECISIONS[stored])
        port = package_port.int8_programs(Path(folder))
        for name in ("points", "portrait"):
            made = package_port.reference(name)
            yield clean_run(
                "tiny", "package, int8 and fp16, as typed", name, made, package_port.run(port, made.case), "int8-fp16"
            )


def oracle_clean() -> Iterable[str]:
    """All clean runs, one line for each model and way."""
    yield from CLEAN.split("\n")
    fast = clean_runs.Way("float32", "fast, threads 2")
    chosen = [way for way in clean_runs.WAYS if way.how != "fast, threads 1"]
    demos = demo_runs(["points", "box", "mask", "portrait", "a small picture"], chosen)
    runs = [*tiny_runs(), *package_runs(), *demos, *clicked_runs(8), *full_runs([fast])]
    alarms = [r for r in runs if not r.holds]
    yield f"{len(runs)} runs, {len(alarms)} false alarms; the greatest required k is {max(r.required for r in runs):.2f}."
    yield from ["", "| model | way | runs | false alarms | required k | at |", "|---|---|--:|--:|--:|---|"]
    for model, way in dict.fromkeys((r.model, r.way) for r in runs):
        mine = [r for r in runs if (r.model, r.way) == (model, way)]
        worst = max(mine, key=lambda r: r.required)
        wrong = sum(not r.holds for r in mine)
        yield f"| {model} | {way} | {len(mine)} | {wrong} | {worst.required:.2f} | `{worst.stage}` ({worst.case}) |"
