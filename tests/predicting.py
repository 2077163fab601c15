"""What the tests of the predictor share: a picture, prompts of each kind, and a predictor that has the picture set."""

from functools import cache
from typing import Any

import pytest
from golden.cases import mask_prompt, picture
from standin import TINY, standin_weights

from refsam import MobileSam, SamPredictor

SIZE = (48, 77)
IMAGE = picture(SIZE)
CLICK: dict[str, Any] = {"point_coords": [[30, 20]], "point_labels": [1]}
PROMPTS: dict[str, dict[str, Any]] = {
    "click": CLICK,
    "clicks": {"point_coords": [[30, 20], [5.5, 40.25], [70, 3]], "point_labels": [1, 0, 1]},
    "box": {"box": [10, 5, 60, 40]},
    "box and click": {**CLICK, "box": [10, 5, 60, 40]},
    "mask": {"mask_input": mask_prompt(16)},
    "all": {**CLICK, "box": [10, 5, 60, 40], "mask_input": mask_prompt(16)},
    "none": {},
}
EACH_PROMPT = pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS.keys())


@cache
def ready(dtype: str = "float32") -> SamPredictor:
    predictor = SamPredictor(MobileSam(standin_weights(TINY), TINY, dtype=dtype))
    predictor.set_image(IMAGE)
    return predictor
