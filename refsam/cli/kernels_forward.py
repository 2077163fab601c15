"""`refsam kernels forward`: the whole model through the kernels, beside the definition."""

import time
from pathlib import Path
from statistics import median
from typing import Annotated, Any, NamedTuple

import numpy as np
from cyclopts import Parameter

import refsam
from refsam import checkpoint
from refsam.backends.metal import MetalOps
from refsam.checkpoint import Checkpoint
from refsam.cli.bench import random_weights
from refsam.cli.common import DIFFERENCE, OK, JsonFlag, print_json, write_json
from refsam.cli.kernels_device import DeviceOptions
from refsam.errors import InputError
from refsam.figures import relative_l2
from refsam.loading import weights_path
from refsam.metal.device import describe
from refsam.metal.runner import Runner
from refsam.model.sam import MobileSam
from refsam.ops import Ops
from refsam.types import Array
from refsam.verify.comparison import K

Weights = Annotated[
    str | None, Parameter(help="A file, mobile_sam or demo (default: random ones of MobileSAM's size, in a checkout).")
]
Rounds = Annotated[int, Parameter(help="The device and the definition take turns so often; medians count.")]
Out = Annotated[Path | None, Parameter(help="Write the JSON document to this file too.")]


def forward(
    *,
    weights: Weights = None,
    rounds: Rounds = 1,
    out: Out = None,
    device: DeviceOptions | None = None,
    as_json: JsonFlag = False,
) -> int:
    """Encode one picture and decode one click through the kernels; compare with float64, and time beside the definition.

    A stage is right while its error is at most 4 times that of the definition in float32, the factor of `refsam.verify`.
    Kernels are compiled before the clock starts; the definition computes on one thread.
    """
    if rounds < 1:
        raise InputError(f"--rounds is {rounds}; it has to be at least 1")
    opened = checkpoint.load(weights_path(weights) if weights else random_weights())
    runner = Runner((device or DeviceOptions()).open())
    runner.compile_all()
    computed = _computed(opened, {"kernels": MetalOps(runner), "definition": Ops()}, rounds)
    ratios = [kernels / definition for kernels, definition in zip(*computed.seconds.values(), strict=True)]
    document = {
        "refsam": refsam.__version__,
        "device": describe(runner.device),
        "numpy": np.__version__,
        "weights": str(opened.path),
        "weights_sha256": opened.sha256,
        "image_size": opened.config.image_size,
        "rounds": rounds,
        **{f"{who}_seconds": median(times) for who, times in computed.seconds.items()},
        "time_ratio": median(ratios),
        "stages": computed.rows,
        "ok": all(row["ok"] for row in computed.rows),
    }
    write_json(document, out)
    print_json(document) if as_json else _print(document)
    return OK if document["ok"] else DIFFERENCE


class Computed(NamedTuple):
    """Seconds of each round, and a row for each stage."""

    seconds: dict[str, list[float]]
    rows: list[dict[str, Any]]


def _computed(opened: Checkpoint, ops: dict[str, Ops], rounds: int) -> Computed:
    """Both in turns, then the truth."""
    models = {who: MobileSam(opened.tensors, opened.config, kind) for who, kind in ops.items()}
    seconds: dict[str, list[float]] = {who: [] for who in ops}
    results: dict[str, dict[str, Array]] = {}
    for _ in range(rounds):
        for who, model in models.items():
            begin = time.perf_counter()
            results[who] = _predicted(model)
            seconds[who].append(time.perf_counter() - begin)
    truth = _predicted(MobileSam(opened.tensors, opened.config, Ops(), "float64"))
    return Computed(seconds, [_row(stage, truth, results) for stage in truth])


def _predicted(model: MobileSam) -> dict[str, Array]:
    """The embedding of a random picture, and the mask logits of a click in its middle."""
    side = model.config.image_size
    image = np.random.default_rng(0).standard_normal((1, 3, side, side), np.float32)
    embeddings = model.encode_image(image)
    prompts = model.encode_prompts((np.full((1, 1, 2), side / 2), np.ones((1, 1), np.int64)))
    masks, _ = model.decode_masks(embeddings, model.image_pe, *prompts)
    return {"image_embeddings": embeddings, "low_res_masks": masks}


def _row(stage: str, truth: dict[str, Array], results: dict[str, dict[str, Array]]) -> dict[str, Any]:
    kernels, definition = (relative_l2(truth[stage], results[who][stage]) for who in ("kernels", "definition"))
    return {"stage": stage, "kernels": kernels, "definition": definition, "ok": kernels <= K * definition}


def _print(document: dict[str, Any]) -> None:
    """A Markdown table, to be pasted into an issue."""
    print(f"{document['device']}; refsam {document['refsam']}; {document['image_size']} x {document['image_size']} pixels\n")
    print("| stage | relative L2 error of the kernels | of the definition in float32 | |\n|---|--:|--:|---|")
    for row in document["stages"]:
        print(f"| {row['stage']} | {row['kernels']:.2e} | {row['definition']:.2e} | {'right' if row['ok'] else 'WRONG'} |")
    print(
        f"\n{document['kernels_seconds']:.1f} s through the kernels, {document['definition_seconds']:.1f} s by the definition:"
        f" {document['time_ratio']:.2f} times (median of {document['rounds']})"
    )
