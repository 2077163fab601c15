"""Each known mistake, planted in a port, is named first; clean ports are left alone; unknown ones are not given a wrong name."""

from dataclasses import replace

import numpy as np
import pytest
from verify.mistaken import case_for, reference, run, tiny

from refsam import InputError
from refsam.verify import hypothesis
from refsam.verify.hypotheses import known
from refsam.verify.hypothesis import Hypothesis
from refsam.verify.pipeline import Pipeline
from refsam.verify.verdict import judge

PLANTED = known()
SOME = PLANTED[::5]  # `make evidence` plants them all


@pytest.mark.parametrize("mistake", SOME, ids=lambda h: h.name.replace(" ", "-"))
def test_a_planted_mistake_is_named_first(mistake: Hypothesis) -> None:
    made = reference(case_for(mistake))
    verdict = judge(made, run(mistake.apply(Pipeline()), made.case, tiny()))
    assert not verdict
    assert verdict.explanations[0].names == (mistake.name,)
    assert verdict.explanations[0].explained > 0.99
    assert verdict.explanations[0].remedies == (mistake.remedy,)


@pytest.mark.parametrize("case", ["points", "box", "portrait"])
@pytest.mark.parametrize("precision", ["float32", "fp16"])
def test_a_clean_port_is_left_alone(case: str, precision: str) -> None:
    verdict = judge(reference(case), run(Pipeline(), reference(case).case, tiny()), precision=precision)
    assert verdict
    assert verdict.explanations == ()


def test_mistakes_together_are_named_together() -> None:
    mistakes = [h for h in PLANTED if h.name in ("no antialias, no half pixel", "BGR")]
    pipeline = Pipeline()
    for mistake in mistakes:
        pipeline = mistake.apply(pipeline)
    verdict = judge(reference("points"), run(pipeline, reference("points").case, tiny()))
    assert {*verdict.explanations[0].names} == {"no antialias, no half pixel", "BGR"}
    assert verdict.explanations[0].explained > 0.9999


def test_mistakes_in_two_places_are_told_apart() -> None:
    mistakes = [h for h in PLANTED if h.name in ("window padding masked", "final attention left out")]
    pipeline = mistakes[1].apply(mistakes[0].apply(Pipeline()))
    verdict = judge(reference("points"), run(pipeline, reference("points").case, tiny()))
    assert [e.names for e in verdict.explanations] == [("window padding masked",), ("final attention left out",)]
    assert verdict.explanations[0].also


def test_an_unknown_mistake_is_not_given_a_name() -> None:
    port = dict(run(Pipeline(), reference("points").case, tiny()))
    noise = np.random.RandomState(0).normal(size=port["image_encoder"].shape).astype(np.float32)
    port["image_encoder"] = port["image_encoder"] + 0.1 * noise
    verdict = judge(reference("points"), {name: port[name] for name in ("input_image", "image_encoder")})
    assert verdict.report.first == "image_encoder"
    assert verdict.explanations[0].names == ()
    assert "nothing known explains" in str(verdict)


def test_a_port_that_shows_only_masks_is_judged_too() -> None:
    mistake = next(h for h in PLANTED if h.name == "mask inverted")
    port = run(mistake.apply(Pipeline()), reference("points").case, tiny())
    verdict = judge(reference("points"), {"masks": port["masks"]})
    assert not verdict
    assert verdict.report.first == "masks"
    assert verdict.explanations[0].names == ("mask inverted",)


def test_users_can_add_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hypothesis, "_registered", {})

    def brighter(image: np.ndarray) -> np.ndarray:
        return np.minimum(image, 205) + np.uint8(50)

    own = Hypothesis("brighter", ("preprocessing",), "do not", lambda pipeline: replace(pipeline, picture=brighter))
    hypothesis.register(own)
    verdict = judge(reference("points"), run(own.apply(Pipeline()), reference("points").case, tiny()))
    assert verdict.explanations[0].names == ("brighter",)
    with pytest.raises(InputError, match="brighter"):
        hypothesis.register(own)


def test_names_are_unique() -> None:
    assert len({h.name for h in PLANTED}) == len(PLANTED)
