"""Upstream's own torch code as a port, every stage shown by a forward hook."""

from typing import Any

import numpy as np
import pytest
from standin import TINY
from verify.mistaken import cases, tiny

from refsam.verify import open_port, verify

pytestmark = [
    pytest.mark.peer,
    pytest.mark.filterwarnings("ignore"),  # timm's and torch's about themselves
]


def torch_port(**mistake: Any) -> Any:
    """Upstream's SamPredictor as a function."""
    import peer
    from mobile_sam import SamPredictor

    sam = peer.upstream(TINY, tiny().scope.weights).train(mistake.get("training", False))

    def torch(image: np.ndarray, **prompts: Any) -> dict[str, np.ndarray]:
        stages: dict[str, np.ndarray] = {}
        predictor = SamPredictor(sam)
        with peer.hooked(sam, lambda name, value: stages.update({name: value})):
            predictor.set_image(image)
            masks, iou_predictions, low_res_masks = predictor.predict(**prompts)
        # The mask decoder's own results are those of `predict`, with a batch axis.
        return {**stages, "masks": masks, "iou_predictions": iou_predictions[None], "low_res_masks": low_res_masks[None]}

    return torch


@pytest.mark.parametrize("prompt", ["points", "box and points", "portrait"])
def test_upstreams_torch_code_holds(prompt: str) -> None:
    case = cases(TINY)[prompt]
    case = type(case)(case.image, {name: np.array(value) for name, value in case.prompts.items()})
    (found,) = verify(open_port(torch_port(), model=tiny()), tiny(), [case], cached=False)
    assert found, found
    assert len(found.candidate) > 150
    assert found.notes == ()


def test_a_forgotten_eval_is_named() -> None:
    case = cases(TINY)["points"]
    case = type(case)(case.image, {name: np.array(value) for name, value in case.prompts.items()})
    (found,) = verify(open_port(torch_port(training=True), model=tiny()), tiny(), [case], cached=False)
    assert not found
    assert found.verdict.explanations[0].names == ("BatchNorm in training mode",)
