"""Stages as maps, their colours, and the masks' outlines."""

import base64
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from standin import TINY
from verify.mistaken import cases, run, tiny
from verify.report.outcomes import app, clean, scaled_neck

from refsam.ops.window import window_partition
from refsam.transforms import normalize_and_pad
from refsam.verify import Case, open_port, verify
from refsam.verify.pipeline import Pipeline
from refsam.verify.report import record
from refsam.verify.report.maps import SIDE, as_map, heat, magnitude, photo, pixels, shrunk, smaller
from refsam.verify.report.pictures import (
    FLIPPED,
    MOST_MAPS,
    PHOTO_SIDE,
    PORT,
    REFERENCE,
    _with_prompt,
    mask_picture,
    pictures_of,
)


def opened(uri: str) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB"))


def grid(side: int) -> np.ndarray:
    return np.arange(side * side * 2, dtype=np.float32).reshape(1, side, side, 2)


def test_maps_tokens_and_windows_are_the_same_map() -> None:
    x = grid(6)
    expected = x[0].transpose(2, 0, 1)
    stage = "image_encoder.layers.1.blocks.0.attn"
    for form in (x.transpose(0, 3, 1, 2), x.reshape(1, 36, 2), window_partition(x, 3)):
        found = as_map(stage, form)
        assert found is not None
        assert np.array_equal(found, expected)


@pytest.mark.parametrize("shape", [(1, 4, 32), (3, 4, 2), (1, 7, 4), (2, 3)])
def test_prompt_tokens_and_vectors_are_no_maps(shape: tuple[int, ...]) -> None:
    assert as_map("mask_decoder.transformer.queries", np.ones(shape)) is None


def test_a_single_wrong_place_survives_making_it_smaller() -> None:
    x = np.zeros((250, 333))
    x[249, 332] = 5
    assert smaller(x, 100).max() == 5
    assert smaller(x, 100).shape == (63, 84)
    assert np.array_equal(smaller(x, 333), x)


def test_magnitude_is_the_root_mean_square_over_channels() -> None:
    assert magnitude(np.array([[[3.0]], [[4.0]]])) == pytest.approx(np.sqrt(12.5))


def test_colours_run_from_dark_blue_to_yellow() -> None:
    shown = opened(heat(np.array([[0.0, 1.0, 2.0, 9.0]]), 2.0))[0]
    assert shown[0].tolist() == [0x00, 0x22, 0x4E]
    assert shown[2].tolist() == shown[3].tolist() == [0xFE, 0xE8, 0x38]
    assert (np.diff(shown[:3].astype(int).sum(axis=1)) > 0).all(), "brighter is more, in grey too"
    assert opened(heat(np.zeros((2, 2)), 0.0)).tolist() == [[[0x00, 0x22, 0x4E]] * 2] * 2


def test_an_encoders_input_is_shown_as_the_picture_it_is() -> None:
    picture = np.random.RandomState(0).randint(0, 256, (5, 8, 3)).astype(np.uint8)
    assert np.array_equal(pixels("input_image", normalize_and_pad(picture, 8)[0])[:5], picture)


def test_the_stages_where_differences_enter_are_drawn_first() -> None:
    assert [found.stage for found in pictures_of(scaled_neck()).heatmaps] == ["image_encoder.neck.1"]  # what is behind it holds
    drawn = pictures_of(app()).heatmaps
    assert [found.stage for found in drawn][:2] == ["transforms.resized", "input_image"]
    assert len(drawn) == MOST_MAPS


def test_a_port_that_holds_shows_its_rounding_errors() -> None:
    found = pictures_of(clean())
    assert [drawn.stage for drawn in found.heatmaps] == ["image_encoder", "low_res_masks"]
    assert all(drawn.times_allowed < 2 for drawn in found.heatmaps)
    assert [mask.number for mask in found.masks] == [0]


def test_masks_have_both_outlines_and_every_flipped_pixel() -> None:
    photo = np.full((40, 60, 3), 128, np.uint8)
    reference = np.zeros((400, 600), bool)
    reference[100:300, 100:500] = True
    port = reference.copy()
    port[100:300, 450:500] = False
    port[5, 595] = True  # a single pixel of the large picture
    drawn = mask_picture(photo, reference, port)
    assert drawn[20, 9].tolist() in ([*REFERENCE], [*PORT])
    assert {tuple(drawn[20, x]) for x in (49, 50)} <= {REFERENCE, PORT}
    mixed = np.rint(0.35 * 128 + 0.65 * np.array(FLIPPED)).astype(np.uint8)
    assert drawn[20, 47].tolist() == drawn[0, 59].tolist() == mixed.tolist()
    assert drawn[20, 30].tolist() == [128, 128, 128]


def test_the_worst_pictures_fit_into_three_megabytes() -> None:
    noise = np.random.RandomState(0)
    heatmap = heat(noise.uniform(size=(SIDE, SIDE)), 1.0)
    drawn = photo(noise.randint(0, 256, (PHOTO_SIDE, PHOTO_SIDE, 3)).astype(np.uint8))
    assert 3 * MOST_MAPS * len(heatmap) + 4 * len(drawn) < 3_000_000, "the photograph and three masks"


def test_logits_of_one_of_several_masks_have_a_map() -> None:
    logits = run(Pipeline(), cases(TINY)["points"], tiny())["low_res_masks"]
    port = open_port(lambda image, **prompts: {"low_res_masks": 1.1 * logits[:, 1:2]}, model=tiny())
    (found,) = verify(port, tiny(), [cases(TINY)["points"]], cached=False, explain=False)
    assert [drawn.stage for drawn in record(found).pictures.heatmaps] == ["low_res_masks"]


def test_a_prompt_is_drawn_in_its_place_on_a_narrow_picture() -> None:
    strip = np.zeros((3000, 8, 3), np.uint8)
    case = Case(strip, {"point_coords": [[4, 2900]], "point_labels": [1], "box": [0, 2800, 8, 3000]})
    drawn = _with_prompt(shrunk(strip, PHOTO_SIDE), replace(clean(), case=case))
    rows = np.nonzero(drawn.any(axis=(1, 2)))[0]
    assert drawn.shape[:2] == (PHOTO_SIDE, 1), "a pixel and a half"
    assert rows.min() > 2700 / 3000 * PHOTO_SIDE
