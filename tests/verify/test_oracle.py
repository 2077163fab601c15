"""A seeded part of what docs/evidence says of the oracle: faults drawn by chance, several at once, and clean runs."""

import platform

import numpy as np
import pytest
from standin import TINY, standin_weights
from threadpoolctl import threadpool_info
from verify import clean_runs, oracle_evidence
from verify.mistaken import reference, run, tiny
from verify.trials import LOCATED, NAMED, score

from refsam.verify.hypotheses import own
from refsam.verify.hypothesis import pipeline_of
from refsam.verify.pipeline import Pipeline
from refsam.verify.verdict import judge


def test_faults_drawn_by_chance_are_located_and_named() -> None:
    found = score(list(oracle_evidence.drawn_trials(oracle_evidence.DEVELOPED, 3)))
    assert found.exceed == 3
    assert found.nameable >= 1
    assert found.located >= LOCATED * found.exceed
    assert found.named >= NAMED * found.nameable


@pytest.mark.parametrize("way", clean_runs.WAYS[1::2], ids=lambda way: f"{way.precision}-{way.how}")
def test_no_way_of_computing_is_blamed(way: clean_runs.Way) -> None:
    made = reference("box and points")
    verdict = judge(made, clean_runs.run(way, standin_weights(TINY), TINY, made.case), precision=way.precision)
    assert verdict, str(verdict)


def test_other_blas_kernels_are_not_blamed() -> None:
    found = clean_runs.in_child("Nehalem", ["points"])
    for (way, name), stages in found.items():
        verdict = judge(reference(name), stages, precision=way.precision)
        assert verdict, str(verdict)
    way = clean_runs.Way("float32", "definition")
    ours = clean_runs.run(way, standin_weights(TINY), TINY, clean_runs.more_cases(TINY)["points"])
    same = {stage for stage, value in found[way, "points"].items() if np.array_equal(value, ours[stage])}
    assert same >= {"transforms.resized", "input_image"}, "no BLAS in these"
    assert same < ours.keys() or not has_openblas_kernels_but("Nehalem")


def has_openblas_kernels_but(kernel: str) -> bool:
    """Whether BLAS is here an OpenBLAS that has those of several processors, and takes others than these."""
    used = {library["architecture"] for library in threadpool_info() if library["internal_api"] == "openblas"}
    return platform.machine().lower() in ("x86_64", "amd64") and bool(used - {kernel})


def test_mistakes_before_and_in_the_model_are_told_apart() -> None:
    mistakes = [h for h in own() if h.name in ("area resize", "half a pixel twice", "mask inverted")]
    verdict = judge(reference("points"), run(pipeline_of(mistakes), reference("points").case, tiny()))
    assert [e.names for e in verdict.explanations] == [("area resize",), ("half a pixel twice",), ("mask inverted",)]
    assert [e.stage for e in verdict.explanations] == [
        "transforms.resized", "prompt_encoder.sparse_prompt_embeddings", "masks",
    ]  # fmt: skip


def test_nan_does_not_count_as_equal() -> None:
    port = dict(run(Pipeline(), reference("points").case, tiny()))
    port["image_encoder"] = np.full_like(port["image_encoder"], np.nan)
    assert not judge(reference("points"), port, explain=False)
