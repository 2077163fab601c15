"""Upstream's own torch code as a port, every stage shown by a forward hook."""

from pathlib import Path
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


def test_the_cookbooks_hooks_give_every_stage_of_modules_that_return_pairs() -> None:
    import peer
    import torch

    page = (Path(__file__).parents[3] / "docs" / "cookbook" / "function.md").read_text()
    names: dict[str, Any] = {}
    exec(page.split("```python\n")[-1].split("```")[0], names)
    sam = peer.upstream(TINY, tiny().scope.weights)
    modules = [name for name, module in sam.named_modules() if peer.is_stage(name, module)]
    batch = [{"image": torch.zeros(3, 64, 64), "original_size": (64, 64)}]
    kept: dict[str, np.ndarray] = {}
    with torch.no_grad():
        with peer.hooked(sam, lambda name, value: kept.update({name: value})):
            sam(batch, multimask_output=True)
        found = names["stages_of"](sam, modules, batch, True)
    assert {"low_res_masks", "mask_decoder.transformer.keys", "prompt_encoder.sparse_prompt_embeddings"} <= {*found}
    assert found.keys() == kept.keys()
    assert all(np.array_equal(found[name], kept[name]) for name in kept)
