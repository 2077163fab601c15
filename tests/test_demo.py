"""The demo model: what its file and its card say, checked through NumPy on photographs that it was never trained on."""

import json
import re
from pathlib import Path

import numpy as np

import refsam
from refsam import MobileSam, SamPredictor, checkpoint, resources
from refsam.images import read_image
from refsam.masks import iou, rle_to_mask

PHOTOS = Path(__file__).parent / "data" / "photos"


def objects_by_box(predictor: SamPredictor) -> list[float]:
    """IoU of the single mask of each hand-made object's box."""
    scores = []
    for path in sorted(path for path in (PHOTOS / "masks").glob("*.json") if "recipe" not in path.name):
        record = json.loads(path.read_text())
        predictor.set_image(read_image(PHOTOS / record["photo"]))
        for item in record["objects"]:
            masks, _, _ = predictor.predict(box=item["box"], multimask_output=False)
            scores.append(iou(masks[0], rle_to_mask(item["rle"])))
    return scores


def test_a_box_scores_on_photographs_what_the_file_says() -> None:
    said = json.loads(checkpoint.load(resources.path("weights", "demo.safetensors")).metadata["scores"])
    scores = objects_by_box(SamPredictor(refsam.load("demo")))
    assert len(scores) == said["photo_objects"]
    # A JPEG decoder may be a grey level off, a mask's pixel flip: far less than the last digit but one of the mean.
    assert abs(np.mean(scores) - said["photo_box"]) < 0.01


def test_the_card_has_the_files_scores() -> None:
    said = json.loads(checkpoint.load(resources.path("weights", "demo.safetensors")).metadata["scores"])
    numbers = [float(text) for text in re.findall(r"\b0\.\d{3}\b", resources.path("weights", "CARD.md").read_text())]
    for name in ("click", "best", "box", "corrected", "photo_box", "correlation"):
        assert any(abs(number - said[name]) <= 0.0005 + 1e-9 for number in numbers), name


def test_it_is_small_and_of_the_same_architecture() -> None:
    model = refsam.load("demo")
    assert isinstance(model, MobileSam)
    assert 256 <= model.config.image_size <= 512
    assert resources.path("weights", "demo.safetensors").stat().st_size <= 12e6
