"""Truth, budgets, the cache."""

import os
from pathlib import Path

import numpy as np
import pytest
from standin import TINY, standin_weights
from verify.mistaken import cases, picture, reference, tiny

import refsam
from refsam import InputError, MobileSam, SamPredictor, Trace, backends
from refsam.figures import rms
from refsam.verify import open_port, verify
from refsam.verify.comparison import compare
from refsam.verify.reference import Case, Reference
from refsam.verify.steps import all_stages, default_stages


def test_budgets_are_the_measured_errors() -> None:
    made = reference("points")
    single = made.case.run(MobileSam(standin_weights(TINY), TINY), Trace("image_encoder,image_encoder.neck.0"))
    for stage, value in single.items():
        truth = made.truth[stage]
        assert made.budget("float32")[stage] == pytest.approx(np.linalg.norm(value - truth) / np.linalg.norm(truth))


def test_coarser_precisions_cost_more_and_none_is_free() -> None:
    budgets = [reference("points").budget(name)["image_encoder"] for name in ("float32", "fp16", "bf16")]
    assert budgets[0] * 100 < budgets[1]
    assert budgets[1] * 3 < budgets[2]
    exact = ("transforms.resized", "masks")
    assert min(cost for stage, cost in reference("points").budget("float32").items() if stage not in exact) >= 2**-24


def test_a_prompts_budget_is_not_one_lucky_draw() -> None:
    """Masks and scores of both kinds of port need less than the k that is allowed, whatever the one run happened to lose."""
    model = refsam.load("demo", dtype="float64")
    fast = MobileSam(model.scope.weights, model.config, backends.create("fast", 1), "float32")
    for x, y in ((45, 110), (150, 70), (190, 170)):
        case = Case(picture(190, 256), {"point_coords": [[x, y]], "point_labels": [1]})
        made = Reference(model, case, [])
        report = compare(made.truth, case.run(fast, Trace(made.stages)), budget=made.budget("float32"))
        assert report.required_k < 3.5
        assert made.budget("float32")["iou_predictions"] >= made.budget("float32")["low_res_masks"]


def test_errors_that_are_alike_all_over_cost_a_prompt_more_than_noise() -> None:
    """So budgets are drawn with errors as rounding makes them: six of rms 1, none of them like another."""
    model = refsam.load("demo", dtype="float64")
    made = Reference(model, Case(picture(190, 256), {"point_coords": [[150, 70]], "point_labels": [1]}), [])
    directions = np.concatenate(made.encoded.directions).reshape(6, -1)
    likeness = np.corrcoef(directions)
    assert [rms(direction) for direction in directions] == pytest.approx([1] * 6, abs=1e-5)
    assert np.abs(likeness[~np.eye(6, dtype=bool)]).max() < 0.5

    def lost(errors: np.ndarray) -> float:
        embedding = made.truth["image_encoder"]
        answers = []
        for error in errors:
            trace = Trace("low_res_masks")
            predictor = SamPredictor(model.traced(trace))
            predictor.set_embedding(embedding + 1e-6 * error.reshape(embedding.shape), made.case.size)
            predictor.predict(**made.case.prompts)
            answers.append(trace["low_res_masks"])
        return rms(np.stack(answers) - made.truth["low_res_masks"])

    assert lost(directions) > 2 * lost(np.random.RandomState(0).standard_normal(directions.shape))


def test_another_prompt_on_the_same_picture_costs_no_encoding_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model, stages = tiny(), default_stages(TINY)
    points, box, portrait = (cases(TINY)[name] for name in ("points", "box", "portrait"))
    first = Reference(model, points, stages)
    first.budget("float32")
    alone = Reference(model, box, stages)
    expected = dict(alone.budget("float32"))
    encoded = []
    encode = MobileSam.encode_image
    monkeypatch.setattr(MobileSam, "encode_image", lambda self, x: encoded.append(1) or encode(self, x))
    second = Reference(model, Case(box.image.copy(), box.prompts), stages, before=first)
    assert second.budget("float32") == expected
    assert list(second.truth) == list(alone.truth)
    assert all(np.array_equal(second.truth[name], value) for name, value in alone.truth.items())
    assert not encoded
    others = [Reference(model, portrait, stages, before=first), Reference(model, box, all_stages(model), before=first)]
    assert [other.encoded is first.encoded for other in others] == [False, False]
    fewer = Reference(model, box, ["image_encoder.neck.0"], before=first)
    assert fewer.encoded is first.encoded
    assert [name for name in fewer.truth if "encoder" in name] == ["image_encoder.neck.0", "image_encoder"]
    assert {*fewer.budget("float32")} == {*fewer.truth}


def test_a_port_asked_twice_about_a_picture_has_it_encoded_once_for_the_truth() -> None:
    first, second = (cases(TINY)[name] for name in ("points", "box"))
    made = [outcome.reference for outcome in verify(open_port("fast", model=tiny()), tiny(), [first, second], cached=False)]
    assert made[0].encoded is made[1].encoded


def test_what_overflows_has_the_budget_of_the_stage_before() -> None:
    weights = standin_weights(TINY)
    weights["image_encoder.neck.0.weight"] = weights["image_encoder.neck.0.weight"] * np.float32(1e6)
    made = Reference(
        MobileSam(weights, TINY, dtype="float64"), cases(TINY)["points"], ["image_encoder.layers.3", "image_encoder.neck.0"]
    )
    budget = made.budget("fp16")
    assert np.isfinite(list(budget.values())).all()
    assert budget["image_encoder.neck.0"] == budget["image_encoder.layers.3"]


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
    assert len({r.path(precision) for r in made for precision in ("float32", "fp16")}) == 2 * len(made)


def test_a_cache_that_cannot_be_written_is_done_without(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    monkeypatch.setattr("refsam.weights_store.cache_folder", lambda: blocked)
    made = Reference(refsam.load("demo", dtype="float64"), cases(TINY)["points"], []).load_or_measure("float32")
    assert made.budget("float32")["image_encoder"] > 0


def test_a_reference_that_is_kept_pushes_out_the_oldest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REFSAM_CACHE", str(tmp_path))
    model = MobileSam(standin_weights(TINY), TINY, dtype="float64", metadata={"weights_sha256": "0" * 64})
    places = []
    for second, case in enumerate(("points", "box", "mask")):
        places.append(Reference(model, cases(TINY)[case], []).load_or_measure("float32").path("float32"))
        os.utime(places[-1], (second, second))
        if not second:
            monkeypatch.setattr("refsam.verify.reference.CACHE_BYTES", int(2.5 * places[0].stat().st_size))
    assert [path.exists() for path in places] == [False, True, True]


def test_a_precision_has_one_place_whatever_it_is_called() -> None:
    made = Reference(tiny(), cases(TINY)["points"], [])
    assert made.path("fp32") == made.path("float32")


def test_weights_of_unknown_origin_are_not_cached() -> None:
    made = Reference(tiny(), cases(TINY)["points"], ["image_encoder"]).load_or_measure("float32")
    assert not made.path("float32").exists()
