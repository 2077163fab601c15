"""Tensors that a port converted wrongly are found by name, in the stage that they are part of."""

import dataclasses
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from standin import TINY, standin_weights
from verify.mistaken import picture, reference, run, tiny

from refsam import MobileSam
from refsam.verify.bench import Bench
from refsam.verify.hypotheses.tensors import best_number, changed
from refsam.verify.inside import guesses, small
from refsam.verify.pipeline import Pipeline
from refsam.verify.recovery import Call, recovered
from refsam.verify.reference import Case, Reference
from refsam.verify.steps import default_stages
from refsam.verify.verdict import judge

Change = Callable[[np.ndarray], np.ndarray]

PROJ = "image_encoder.layers.2.blocks.1.attn.proj.weight"
CONV = "image_encoder.layers.0.blocks.0.conv2.c.weight"
NORM = "image_encoder.neck.3.weight"
QUERY = "mask_decoder.transformer.layers.1.cross_attn_image_to_token.q_proj.weight"


def first_name(name: str, change: Change, precision: str = "float32") -> str:
    weights = lambda tensors: {**tensors, name: np.ascontiguousarray(change(tensors[name]), np.float32)}  # noqa: E731
    made = reference("points")
    verdict = judge(made, run(Pipeline(weights=weights), made.case, tiny(), precision), precision=precision)
    assert verdict.explanations[0].explained > 0.99
    return verdict.explanations[0].names[0]


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        (PROJ, lambda x: x.T, "transposed"),
        (NORM, lambda x: x * np.float32(1.3), "scaled by 1.3"),
        (CONV, lambda x: x[..., ::-1], "with kernels mirrored"),
        (PROJ, lambda x: x * (np.arange(len(x)) != 5)[:, None], "with row 5 zero"),
        (NORM, lambda x: x + (np.arange(len(x)) == 7) * np.float32(0.25), "with element (7,) at"),
    ],
)
def test_what_was_done_to_a_tensor_is_said(name: str, change: Change, said: str) -> None:
    assert first_name(name, change).startswith(f"{name} {said}")


def test_in_a_float16_port_too() -> None:
    assert first_name(PROJ, lambda x: -x, "fp16") == f"{PROJ} negated"


def test_a_tensor_in_anothers_place_is_said() -> None:
    other = "image_encoder.layers.2.blocks.0.attn.proj.weight"
    weights = lambda tensors: {**tensors, PROJ: tensors[other]}  # noqa: E731
    made = reference("points")
    verdict = judge(made, run(Pipeline(weights=weights), made.case, tiny()))
    assert verdict.explanations[0].names == (f"{PROJ} taken from {other}",)
    assert "look at" not in verdict.explanations[0].remedies[0]


def test_the_stages_tensors_are_those_read_since_the_stage_before() -> None:
    made = reference("points")
    shown = {name: value for name, value in made.truth.items() if name != "masks"}
    bench = Bench(made, shown, "mask_decoder.transformer.layers.1.cross_attn_image_to_token")
    names = {hypothesis.name.split()[0] for group in guesses(bench) for hypothesis in group}
    assert QUERY in names
    assert all(name.startswith("mask_decoder.transformer.layers.1.") for name in names)


def test_a_port_that_shows_almost_nothing_gets_no_guesses_about_tensors() -> None:
    made = reference("points")
    bench = Bench(made, {"image_encoder": made.truth["image_encoder"]}, "image_encoder")
    assert list(guesses(bench)) == []


@pytest.mark.parametrize("number", [0.5, -3.0, 1.25, 1.003, 12.0])
def test_the_best_number_is_found_where_the_error_is_a_parabola(number: float) -> None:
    assert best_number(lambda x: 1 - ((x - number) / (1 - number)) ** 2, 1.0, 0.05) == pytest.approx(number)


@pytest.mark.parametrize(
    ("name", "factor"),
    [("image_encoder.patch_embed.seq.0.bn.bias", 2.61), ("mask_decoder.iou_prediction_head.layers.0.bias", 0.53)],
)
def test_a_factor_is_found_where_the_stage_bends_what_it_does(name: str, factor: float) -> None:
    """A GELU and a ReLU are between the tensor and the stage; of the second one, three scores are all that shows it."""
    assert first_name(name, lambda x: x * np.float32(factor)) == f"{name} scaled by {factor}"


def test_a_search_that_gets_nowhere_ends_soon() -> None:
    asked: list[float] = []

    def explained(x: float) -> float:
        asked.append(x)
        return 0.1 - (x - 1.4) ** 2

    assert best_number(explained, 1.0, 0.05) is None
    assert len(asked) <= 6


def test_a_number_that_explains_little_is_none() -> None:
    assert best_number(lambda x: 0.3 - 0.3 * (x - 2) ** 2, 1.0, 0.05) is None


def test_a_linear_layer_is_solved_for_its_weight() -> None:
    rng = np.random.RandomState(0)
    x, weight, bias = rng.normal(size=(1, 40, 6)), rng.normal(size=(4, 6)), rng.normal(size=4)
    wrong = weight[:, [1, 0, 2, 3, 5, 4]]
    call = Call("linear", (None, "w", "b"), (x, weight, bias), x @ weight.T + bias)
    found = list(recovered([call], call.result, x @ wrong.T + bias, "encoder"))
    columns = next(h for h in found if h.name == "w with columns in another order")
    assert np.array_equal(columns.apply(Pipeline()).weights({"w": weight, "b": bias})["w"], wrong)


def test_changes_of_one_tensor_add_up() -> None:
    both = Pipeline()
    for said, change in (("twice", lambda w: 2 * w["a"]), ("and one more", lambda w: w["a"] + 1)):
        both = changed("a", said, "encoder", change).apply(both)
    assert both.weights({"a": np.full(2, 3.0), "b": np.zeros(1)})["a"].tolist() == [7.0, 7.0]


WIDER = dataclasses.replace(TINY, image_size=448)


@pytest.mark.parametrize(
    "stage", ["patch_embed", "layers.0.blocks.0.conv2", "layers.0", "layers.1.blocks.0.attn", "layers.1.blocks.0"]
)
def test_a_corner_of_a_stage_is_computed_from_a_corner_of_its_input(stage: str) -> None:
    made = wider()
    shown = {name: x for name, x in made.truth.items() if name != f"image_encoder.{stage}"}
    bench = Bench(made, shown, f"image_encoder.{stage}", made.truth[f"image_encoder.{stage}"])
    part = small(bench)
    assert part is not bench
    assert part.target.size * 3 < bench.target.size
    assert part.unexplained < 1e-5 * np.linalg.norm(part.target)


@cache
def wider() -> Reference:
    model = MobileSam(standin_weights(WIDER), WIDER, dtype="float64")
    return Reference(model, Case(picture(300, 448), {}), default_stages(WIDER)[:14])
