"""Truth, budgets, the cache."""

import numpy as np
import pytest
from standin import TINY, standin_weights
from verify.mistaken import cases, reference, tiny

import refsam
from refsam import InputError, MobileSam, Trace
from refsam.verify.reference import Reference


def test_budgets_are_the_measured_errors() -> None:
    made = reference("points")
    single = made.case.run(MobileSam(standin_weights(TINY), TINY), Trace("image_encoder,low_res_masks"))
    for stage, value in single.items():
        truth = made.truth[stage]
        assert made.budget("float32")[stage] == pytest.approx(np.linalg.norm(value - truth) / np.linalg.norm(truth))


def test_coarser_precisions_cost_more_and_none_is_free() -> None:
    budgets = [reference("points").budget(name)["image_encoder"] for name in ("float32", "fp16", "bf16")]
    assert budgets[0] * 100 < budgets[1]
    assert budgets[1] * 3 < budgets[2]
    exact = ("transforms.resized", "masks")
    assert min(cost for stage, cost in reference("points").budget("float32").items() if stage not in exact) >= 2**-24


def test_the_reference_is_in_float64() -> None:
    with pytest.raises(InputError, match="float64"):
        Reference(MobileSam(standin_weights(TINY), TINY), cases(TINY)["points"], ["image_encoder"])


def test_the_cache_gives_back_the_same_and_runs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = refsam.load("demo", backend="reference", dtype="float64")
    case = cases(TINY)["points"]
    first = Reference(model, case, ["image_encoder"]).load_or_measure("float32")
    monkeypatch.setattr(type(case), "run", None)
    second = Reference(model, case, ["image_encoder"]).load_or_measure("float32")
    assert np.array_equal(first.truth["image_encoder"], second.truth["image_encoder"])
    assert dict(first.budget("float32")) == dict(second.budget("float32"))


def test_a_damaged_cache_is_made_again() -> None:
    model = refsam.load("demo", backend="reference", dtype="float64")
    made = Reference(model, cases(TINY)["box"], ["image_encoder"]).load_or_measure("float32")
    path = made.path("float32")
    path.write_bytes(path.read_bytes()[:1000])
    again = Reference(model, cases(TINY)["box"], ["image_encoder"]).load_or_measure("float32")
    assert np.array_equal(again.truth["image_encoder"], made.truth["image_encoder"])


def test_other_prompts_pictures_and_stages_have_their_own_place() -> None:
    model = refsam.load("demo", backend="reference", dtype="float64")
    made = [Reference(model, case, stages) for case in cases(TINY).values() for stages in (["masks"], ["image_encoder.neck.0"])]
    assert len({r.path(precision) for r in made for precision in ("float32", "fp16")}) == 16


def test_weights_of_unknown_origin_are_not_cached() -> None:
    made = Reference(tiny(), cases(TINY)["points"], ["image_encoder"]).load_or_measure("float32")
    assert not made.path("float32").exists()
