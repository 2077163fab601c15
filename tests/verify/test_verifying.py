"""Ports are put to cases: what they show is judged, and what they leave out is said."""

import ast
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from standin import TINY
from verify.mistaken import cases, tiny

import refsam
from refsam import MobileSam, SamPredictor, backends
from refsam.cli.verify import line, summary
from refsam.errors import InputError
from refsam.verify import Case, Outcome, open_port, verify
from refsam.verify.ports.port import CHOSEN, arrays, type_name
from refsam.verify.precision import to_bf16
from refsam.verify.reference import Reference, _prune
from refsam.verify.report import record, render_text, to_html
from refsam.verify.steps import all_stages, default_stages
from refsam.verify.verifying import DECODED, ENCODED, POSTPROCESSED, UNFINISHED

MODEL = MobileSam(tiny().scope.weights, TINY)
CASE = replace(cases(TINY)["points"], name="wide")


def outcome(spec: Any, case: Case = CASE, **options: Any) -> Outcome:
    (found,) = verify(open_port(spec, model=tiny()), tiny(), [case], cached=False, **options)
    return found


def test_all_stages_are_those_of_a_trace() -> None:
    traced = [name for case in ("box and points",) for name in refsam.trace(MODEL, CASE.image, **cases(TINY)[case].prompts)]
    mask_stages = [name for name in all_stages(tiny()) if "mask_downscaling" in name]
    assert [name for name in all_stages(tiny()) if name not in mask_stages] == traced
    assert mask_stages
    assert set(default_stages(TINY)) <= set(all_stages(tiny()))


@pytest.mark.parametrize("backend", ["fast", "reference"])
@pytest.mark.parametrize("prompt", ["points", "box and points"])
def test_backends_hold(backend: str, prompt: str) -> None:
    found = outcome(backend, cases(TINY)[prompt])
    assert found
    assert [mask.iou for mask in found.masks] == [1.0, 1.0, 1.0]
    assert {"input_image", "image_encoder", "low_res_masks", "masks"} <= set(found.candidate)


def test_numbers_next_to_infinity_are_judged_and_not_warned_of() -> None:
    """Tests of ports often turn warnings into errors, as these do."""
    trace = refsam.trace(MODEL, CASE.image, **CASE.prompts)
    huge = np.float32(1e36)
    for first in ("image_encoder", "input_image", "prompt_encoder.sparse_prompt_embeddings"):
        names = [first, "low_res_masks"]
        found = outcome(lambda image, names=names, **prompts: {name: trace[name] * huge for name in names})
        assert not found
        assert found.verdict.report.first == first


def test_no_more_threads_than_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of `refsam verify --jobs` each process has its share of the CPUs: budgets too are measured on that."""
    port, asked, create = open_port("reference", model=tiny()), [], backends.create

    def noted(name: str, threads: int | None = None) -> Any:
        asked.append(threads)
        return create(name, threads)

    monkeypatch.setattr(backends, "create", noted)
    (found,) = verify(port, tiny(), [CASE], cached=False, threads=1)
    assert found
    assert len(asked) > 1
    assert set(asked) == {1}


def test_a_function_that_does_everything_itself() -> None:
    def port(image: np.ndarray, **prompts: Any) -> Any:
        predictor = SamPredictor(MODEL)
        predictor.set_image(image)
        return predictor.predict(**prompts)

    found = outcome(port)
    assert found
    assert found.notes == ()
    assert list(found.candidate) == ["masks", "iou_predictions", "low_res_masks"]
    assert np.array_equal(found.final_masks, found.reference_masks)


def encoder(input_image: np.ndarray, stages: Any = ()) -> dict[str, np.ndarray]:
    return {"image_encoder": MODEL.encode_image(input_image)}


def mirrored(input_image: np.ndarray) -> dict[str, np.ndarray]:
    return {"image_encoder": MODEL.encode_image(input_image[:, ::-1])}


def test_what_a_port_does_not_do_is_done_by_the_reference_and_said() -> None:
    found = outcome(encoder, Case(CASE.image))
    assert found
    assert DECODED in found.notes
    assert any(note.startswith("preprocessing: the reference's") for note in found.notes)
    wrong = outcome(mirrored, Case(CASE.image))
    assert not wrong
    assert wrong.verdict.report.first == "image_encoder"
    assert min(mask.iou for mask in wrong.masks) < 0.9
    assert wrong.verdict.explanations[0].stage == "image_encoder"


def test_a_prompt_that_a_function_cannot_take_is_an_error() -> None:
    with pytest.raises(InputError, match="encoder has no parameter point_coords"):
        outcome(encoder)


def test_points_come_in_the_frame_of_the_picture_that_the_function_gets() -> None:
    got = {}

    def port(input_image: np.ndarray, point_coords: Any, point_labels: Any) -> dict[str, np.ndarray]:
        got["coords"] = point_coords
        return {"transforms.point_coords": point_coords[None]}

    assert outcome(port)
    assert np.allclose(got["coords"], np.array(CASE.prompts["point_coords"]) * [64 / 150, 42 / 98])


@pytest.mark.parametrize(
    ("shown", "note"), [("low_res_masks", POSTPROCESSED), ("input_image", ENCODED), ("transforms.resized", UNFINISHED)]
)
def test_masks_come_of_the_last_stage_that_is_shown(shown: str, note: str) -> None:
    found = outcome(lambda image, **prompts: {shown: refsam.trace(MODEL, image, **prompts)[shown]})
    assert found.notes == (note,)
    assert [mask.flipped for mask in found.masks] == [0, 0, 0]


def test_stages_are_chosen_by_patterns() -> None:
    found = outcome("reference", stages="image_encoder.layers.1.*,low_res_masks")
    assert found
    assert all(name.startswith("image_encoder.layers.1.") or name == "low_res_masks" for name in found.candidate)
    assert "image_encoder.layers.1.blocks.0.attn.qkv" in found.candidate
    with pytest.raises(InputError, match=r"no stage has a name like 'image_encoder.layers.9.\*'"):
        outcome("reference", stages="masks,image_encoder.layers.9.*")


def test_only_the_stages_that_are_asked_for_are_judged() -> None:
    """Whatever kind of port shows others besides."""

    def port(image: np.ndarray, **prompts: Any) -> dict[str, np.ndarray]:
        shown = refsam.trace(MODEL, image, stages="input_image,low_res_masks,masks", **prompts)
        return {**shown, "input_image": 2 * shown["input_image"], "masks": ~shown["masks"]}

    found = outcome(port, stages="low_res_masks")
    assert found
    assert [result.stage for result in found.verdict.report.stages] == ["low_res_masks"]
    with pytest.raises(InputError, match="none of the stages that are asked for; it shows input_image, low_res_masks, masks"):
        outcome(port, stages="image_encoder")


def test_stages_that_are_asked_for_and_not_shown_are_said() -> None:
    """It holds by the others, and nobody would know."""
    found = outcome(encoder, Case(CASE.image), stages="input_*,image_encoder,low_res_masks,iou*")
    assert found
    said = "stages: of its own the port shows none like {!r}; none was judged"
    assert [note for note in found.notes if note.startswith("stages:")] == [
        said.format(name) for name in ("input_*", "low_res_masks", "iou*")
    ]


@pytest.mark.parametrize("three", [True, False])
def test_of_all_four_masks_those_that_the_prompt_asks_for_are_taken(three: bool) -> None:
    def port(image: np.ndarray, **prompts: Any) -> dict[str, np.ndarray]:
        one, more = (
            refsam.trace(MODEL, image, stages=",".join(answers), **{**prompts, "multimask_output": several})
            for several in (False, True)
        )
        return {name: np.concatenate([one[name], more[name]], axis=1) for name in answers}

    def behind(image: np.ndarray, **prompts: Any) -> dict[str, np.ndarray]:
        return {"masks": port(image, **prompts)["masks"][0].transpose(1, 2, 0)}

    answers = ("low_res_masks", "iou_predictions", "masks")
    assert outcome(behind, Case(CASE.image, {**CASE.prompts, "multimask_output": three}))
    found = outcome(port, Case(CASE.image, {**CASE.prompts, "multimask_output": three}))
    assert found
    assert found.notes == (CHOSEN.format(count=4),)
    assert len(found.masks) == (3 if three else 1)


def test_final_masks_alone() -> None:
    found = outcome(lambda image, **prompts: {"masks": refsam.trace(MODEL, image, stages="masks", **prompts)["masks"][0, 1]})
    assert found
    (note,) = found.notes
    assert note.startswith("masks: one is shown; of the reference's 3 it was held against the nearest, mask 1 (its best by score")
    assert "mask 1: identical" in render_text(found)
    other = outcome(lambda image, **_: {"masks": np.zeros((3, 5, 6), bool)}, explain=False)
    assert "masks of the port: 3 of (5, 6); the reference has 3 of (98, 150)" in render_text(other)
    assert "identical" not in render_text(other)
    assert record(other).pictures.masks == ()


def test_names_that_are_no_stages_are_listed_and_judge_nothing() -> None:
    found = outcome(lambda image, **_: {"*": np.zeros(3), "embedding": np.zeros(3), "image_encoder": np.zeros(3)}, explain=False)
    assert found.verdict.report.missing == ("*", "embedding")
    assert found.verdict.report.first == "image_encoder"
    assert UNFINISHED not in found.notes


@pytest.mark.parametrize("last", ["image_encoder", "low_res_masks"])
def test_no_masks_are_made_of_what_is_not_finite(last: str) -> None:
    """The reference's own would come out identical."""

    def port(image: np.ndarray, **prompts: Any) -> dict[str, np.ndarray]:
        shown = refsam.trace(MODEL, image, stages=f"input_image,image_encoder,{last}", **prompts)
        return {**shown, last: np.full_like(shown[last], np.nan)}

    found = outcome(port, explain=False)
    said = f"none can be made, as its {last} is of another shape or not finite"
    assert [mask.misfit for mask in found.masks] == [said]
    assert f"masks of the port: {said}" in " ".join(render_text(found).split())
    made = record(found)
    assert made.entry["end_to_end"][0]["misfit"] == said
    assert made.pictures.masks == ()
    assert line(made) == f"wide: differs first at {last}; masks: {said}"


def test_what_a_port_was_given_is_not_its_own() -> None:
    """An encoder that returns its input under a name that is no stage's would hold otherwise."""
    for name in ("embedding", "input_image"):
        with pytest.raises(InputError, match=r"shows no stage that could be judged: it returned .*; names are image_enc"):
            outcome(lambda input_image, name=name: {name: input_image}, Case(CASE.image))
    found = outcome(lambda input_image: {"image_embeddings": input_image}, Case(CASE.image), explain=False)
    assert not found
    assert found.verdict.report.first == "image_encoder"
    assert "image_embeddings was taken for image_encoder" in found.notes
    assert [result.stage for result in outcome(encoder, Case(CASE.image)).verdict.report.stages] == ["image_encoder"]
    with pytest.raises(InputError, match="input_image: handed to the port, and not judged; of its own it shows image_encoder"):
        outcome(encoder, Case(CASE.image), stages="input_image")


@pytest.mark.parametrize("in_place", [False, True])
def test_an_input_that_a_function_returns_changed_is_its_own(in_place: bool) -> None:
    def port(input_image: np.ndarray) -> dict[str, np.ndarray]:
        swapped = input_image[:, ::-1].copy()
        if in_place:
            input_image[...] = swapped
        taken = input_image if in_place else swapped
        return {"input_image": taken, "image_encoder": MODEL.encode_image(taken)}

    found = outcome(port, Case(CASE.image), explain=False)
    assert not found
    assert found.verdict.report.first == "input_image"
    turned = outcome(
        lambda input_image: {**encoder(input_image), "input_image": input_image[0].transpose(1, 2, 0)}, Case(CASE.image)
    )
    assert [result.stage for result in turned.verdict.report.stages] == ["image_encoder"]


def test_a_picture_and_points_that_a_port_changes_in_place_are_not_the_references() -> None:
    """The reference would make the same mistake, and the port would hold."""

    def bgr(image: np.ndarray, **prompts: Any) -> dict[str, np.ndarray]:
        image[...] = image[..., ::-1].copy()
        return dict(refsam.trace(MODEL, image, stages="input_image", **prompts))

    def halved(image: np.ndarray, point_coords: Any, point_labels: Any) -> dict[str, np.ndarray]:
        point_coords *= 0.5
        stages = "transforms.point_coords"
        return dict(refsam.trace(MODEL, image, stages=stages, point_coords=point_coords, point_labels=point_labels))

    points = {name: np.array(value) for name, value in CASE.prompts.items()}
    for port in (bgr, halved):
        case = Case(CASE.image.copy(), points)
        assert not outcome(port, case, explain=False)
        assert np.array_equal(case.image, CASE.image)
    assert np.array_equal(points["point_coords"], CASE.prompts["point_coords"])


def test_a_port_that_rounds_more_than_it_says_is_told_where_it_would_hold() -> None:
    def halved(image: np.ndarray, **prompts: Any) -> dict[str, np.ndarray]:
        embedding = refsam.trace(MODEL, image, stages="image_encoder", **prompts)["image_encoder"]
        return {"image_encoder": embedding.astype(np.float16).astype(np.float32)}

    found = outcome(halved)
    assert not found
    said = "precision: judged at float32; would hold at --precision fp16, required k 0."
    assert any(note.startswith(said) for note in found.notes)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The precisions whose budgets are asked for."""
    asked: list[str] = []
    budget = Reference.budget
    monkeypatch.setattr(Reference, "budget", lambda self, precision: asked.append(precision) or budget(self, precision))
    return asked


def halves(image: np.ndarray, **prompts: Any) -> dict[str, np.ndarray]:
    shown = refsam.trace(MODEL, image, stages="input_image,image_encoder", **prompts)
    return {name: value.astype(np.float16).astype(np.float32) for name, value in shown.items()}


def renormalised(image: np.ndarray, **prompts: Any) -> dict[str, np.ndarray]:
    x = refsam.trace(MODEL, image, stages="input_image", **prompts)["input_image"]
    return {"input_image": x[:, ::-1]}


def inverted(image: np.ndarray, **prompts: Any) -> dict[str, np.ndarray]:
    return {"masks": ~refsam.trace(MODEL, image, stages="masks", **prompts)["masks"]}


def test_fp16_is_not_measured_where_it_is_not_the_reason(measured: list[str], tmp_path: Path) -> None:
    for port in (mirrored, renormalised, inverted):  # far off, of a known mistake, and with no stage to judge
        assert not outcome(port, CASE if port is not mirrored else Case(CASE.image))
    np.savez(tmp_path / "stages.npz", **halves(CASE.image, **CASE.prompts))
    assert not outcome(tmp_path / "stages.npz", precision="float32")
    (found,) = verify(open_port(tmp_path / "stages.npz", model=tiny(), precision="float32"), tiny(), [CASE], cached=False)
    assert not found
    (tmp_path / "manifest.json").write_text('{"precision": "float32", "tensors": []}')
    assert not outcome(tmp_path)
    assert {*measured} == {"float32"}


def test_the_budget_of_a_precision_that_is_tried_is_cached(measured: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def halved(image: np.ndarray, **prompts: Any) -> dict[str, np.ndarray]:
        return {"image_encoder": halves(image, **prompts)["image_encoder"]}

    model = MobileSam(MODEL.scope.weights, TINY, metadata={"weights_sha256": "2" * 64})
    first = next(verify(open_port(halved, model=model), model, [CASE]))
    assert "fp16" in measured
    assert first.reference.truth.metadata["budget_precision"] == "float32"
    monkeypatch.setattr(Reference, "_drawn", None)
    assert next(verify(open_port(halved, model=model), model, [CASE])).notes == first.notes


class Tensor:
    """Of torch in bfloat16, which NumPy cannot read."""

    dtype = "torch.bfloat16"

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def detach(self) -> "Tensor":
        return self

    def cpu(self) -> "Tensor":
        return self

    def float(self) -> np.ndarray:
        return self.values

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise TypeError("Got unsupported ScalarType BFloat16")


class Named:
    """A type that says more of itself than its name, as TensorFlow's do."""

    name = "bfloat16"

    def __str__(self) -> str:
        return "<dtype: 'bfloat16'>"


class Eager:
    """Of TensorFlow: no method that changes its type; as an array it is of one that NumPy was taught."""

    dtype = Named()

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.ones(3)


class Lazy:
    """Of MLX in bfloat16: NumPy cannot read it, and its type becomes another of MLX's alone."""

    dtype = "mlx.core.bfloat16"

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def astype(self, dtype: Any) -> "Lazy":
        raise TypeError("astype(): incompatible function arguments")

    def tolist(self) -> list[Any]:
        return self.values.tolist()

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise ValueError("'bfloat16' is not a valid PEP 3118 buffer format string")


def test_bfloat16_of_mlx_is_widened() -> None:
    values = to_bf16(np.linspace(-3, 3, 12, dtype=np.float32).reshape(1, 3, 4))
    read = arrays({"image_encoder": Lazy(values)})["image_encoder"]
    assert read.dtype == np.float32
    assert np.array_equal(read, values)
    assert type_name(Lazy(values)) == "bfloat16"


def test_types_have_their_names() -> None:
    assert [type_name(x) for x in (np.zeros(1, np.float16), Tensor(np.zeros(1)), Eager(), 3)] == [
        "float16",
        "bfloat16",
        "bfloat16",
        "",
    ]
    assert arrays({"image_encoder": Eager()})["image_encoder"].dtype == np.float32


def test_a_functions_halves_declare_their_precision() -> None:
    def port(input_image: np.ndarray) -> dict[str, Any]:
        return {"image_encoder": Tensor(to_bf16(MODEL.encode_image(input_image)))}

    found = outcome(port, Case(CASE.image))
    assert found
    assert found.verdict.report.precision == "bf16"
    assert "precision: bf16, as all floats are bfloat16" in found.notes


@pytest.mark.parametrize("besides", ["masks", "helper"])
def test_a_half_that_is_no_stage_computed_in_floats_declares_nothing(besides: str) -> None:
    def port(image: np.ndarray, **prompts: Any) -> dict[str, Any]:
        shown = refsam.trace(MODEL, image, stages="image_encoder,masks", **prompts)
        halves = shown["masks"].astype(np.float16) if besides == "masks" else np.zeros(3, np.float16)
        return {"image_encoder": shown["image_encoder"] * (1 + 1e-3), besides: halves}

    found = outcome(port, explain=False)
    assert not found
    assert found.verdict.report.precision == "float32"


def test_what_a_port_raises_is_its_own_and_has_a_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def port(image: np.ndarray, **prompts: Any) -> dict[str, np.ndarray]:
        raise ValueError("size mismatch")

    with pytest.raises(InputError, match=r"port failed: ValueError: size mismatch \(.*test_verifying\.py:\d+\)"):
        outcome(port)
    with pytest.raises(InputError, match=r"SyntaxError: .*\(.*ast\.py:\d+\)"):
        outcome(lambda image, **prompts: ast.literal_eval("1 +"))
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "unfinished_port.py").write_text("\ndef port(:\n")
    with pytest.raises(InputError, match=r"unfinished_port:port failed: SyntaxError: .*unfinished_port\.py:2\)"):
        outcome("unfinished_port:port")
    (tmp_path / "lacking_port.py").write_text("import no_such_framework\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_framework"):  # on the console: what to install
        outcome("lacking_port:port")


def test_masks_alone_do_not_pass_for_the_model() -> None:
    def port(image: np.ndarray, **prompts: Any) -> dict[str, np.ndarray]:
        shown = refsam.trace(MODEL, image, stages="image_encoder,masks", **prompts)
        return {"image_encodr": shown["image_encoder"], "masks": shown["masks"]}

    found = outcome(port)
    assert found
    assert found.verdict.report.masks_alone
    assert "no stage was judged; its 3 masks hold at float32" in " ".join(str(found).split())
    assert "MASKS HOLD, NO STAGE WAS JUDGED" in " ".join(render_text(found).split())
    made = record(found)
    assert line(made) == "wide: masks hold, no stage was judged; least mask IoU 1.0000"
    assert summary([made, made]) == "2 of 2 pictures hold; no stage was judged of 2"
    chosen = record(outcome("reference", stages="masks"))  # which shows all stages
    for shown in (made, chosen):
        page = to_html([shown])
        assert "No stage was judged; the port's masks hold at float32" in page
        assert badges(page) == ["masks hold, no stage was judged"] * 2
    assert badges(to_html([made, made])) == ["all 2 hold, no stage was judged of 2", *["masks hold, no stage was judged"] * 4]


def badges(page: str) -> list[str]:
    return re.findall(r'class="badge \w+">([^<]+)', page)


def test_what_the_port_does_not_compute_with_is_in_all_reports() -> None:
    def port(image: np.ndarray, **prompts: Any) -> dict[str, np.ndarray]:
        names = ("transforms.point_coords", "low_res_masks", "iou_predictions")
        shown = dict(refsam.trace(MODEL, image, stages=",".join(names), **prompts))
        return {**shown, names[0]: shown[names[0]] + 0.5}

    made = record(outcome(port, hypotheses=()))
    assert made.entry["unused"] == ["low_res_masks", "transforms.point_coords"]
    assert "that transforms.point_coords is not what the port computes with" in to_html([made])
    assert "that transforms.point_coords is not what the port computes with" in " ".join(made.text.split())


def test_what_a_port_was_given_is_not_called_hidden() -> None:
    assert "input_image" not in record(outcome(encoder, Case(CASE.image))).entry["not_shown"]


@pytest.mark.parametrize("result", [None, {"masks": "inside"}, {"masks": np.array([{}])}, {3: np.zeros(3)}, (1, 2)])
def test_results_that_are_no_stages_are_errors(result: Any) -> None:
    with pytest.raises(InputError, match=r"returned a|dtype"):
        outcome(lambda image, **_: result)


def test_the_reference_is_cached_by_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFSAM_CACHE", str(tmp_path))
    model = MobileSam(MODEL.scope.weights, TINY, metadata={"weights_sha256": "1" * 64})
    port = open_port("fast", model=model)
    first, again = (next(verify(port, model, [CASE])).to_dict() for _ in range(2))
    assert first == again
    assert len(list((tmp_path / "verify").iterdir())) == 1


def test_the_oldest_references_go_first(tmp_path: Path) -> None:
    for age, name in enumerate("abc"):
        (tmp_path / f"{name}.safetensors").write_bytes(bytes(10))
        os.utime(tmp_path / f"{name}.safetensors", (100 - age, 100 - age))
    _prune(tmp_path, 25)
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["a", "b"]
