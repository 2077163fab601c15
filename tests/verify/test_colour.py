"""Hypotheses of colours against standards' numbers, and named in what ports with them make."""

import numpy as np
import pytest
from PIL import Image
from verify.mistaken import picture

from refsam.verify.hypotheses import colour


def test_full_range_by_bt601_is_jpegs() -> None:
    image = picture(24, 40)
    ours = image @ colour.ycc(colour.BT601).T + [0, 128, 128]
    theirs = np.asarray(Image.fromarray(image).convert("YCbCr"))
    assert np.abs(ours - theirs).max() <= 1.0  # Pillow's tables, rounded


def test_a_picture_read_by_its_own_standard_is_itself() -> None:
    image = picture(100, 30)  # two bands
    assert np.array_equal(colour.misread_ycc(colour.BT709, colour.BT709)(image), image)
    assert np.array_equal(colour.converted(colour.P3, colour.P3)(image), image)


def test_greys_keep_their_place_in_other_standards_and_displays() -> None:
    greys = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    for recolour in (colour.misread_ycc(colour.BT709, colour.BT601), colour.converted(colour.P3, colour.SRGB)):
        assert np.array_equal(recolour(greys), greys)


def test_display_p3_has_the_published_matrices() -> None:
    """CSS Color 4's sample code has these, from linear light to XYZ."""
    x, y, z = colour.to_xyz(colour.P3)
    np.testing.assert_allclose(x, [0.4865709486, 0.2656676932, 0.1982172852], atol=1e-9)
    np.testing.assert_allclose(y, [0.2289745641, 0.6917385218, 0.0792869141], atol=1e-9)
    np.testing.assert_allclose(z, [0, 0.0451133819, 1.0439443689], atol=1e-9)
    np.testing.assert_allclose(colour.to_xyz(colour.SRGB)[1], [0.2126390059, 0.7151686788, 0.0721923154], atol=1e-9)


def test_what_srgb_cannot_show_is_cut_off() -> None:
    red = np.array([[[255, 0, 0]]], np.uint8)
    assert colour.converted(colour.P3, colour.SRGB)(red).tolist() == [[[255, 0, 0]]]
    back = colour.converted(colour.SRGB, colour.P3)(red)
    assert back.tolist() == [[[234, 51, 35]]]  # color(display-p3 0.917 0.2 0.138), as browsers show it


OPPOSITES = [(colour.video_range, colour.stretched), (colour.encoded_twice, colour.linear_light)]


@pytest.mark.parametrize(("first", "second"), OPPOSITES)
def test_opposite_mistakes_undo_each_other(first: colour.Recolour, second: colour.Recolour) -> None:
    levels = np.arange(256, dtype=np.uint8)
    assert np.abs(second(first(levels)).astype(int) - levels).max() <= 4  # what rounding to levels loses where the curve is flat


def test_video_range_has_its_ends() -> None:
    ends = np.array([0, 16, 235, 255], np.uint8)
    assert colour.video_range(ends)[[0, 3]].tolist() == [16, 235]
    assert colour.stretched(ends).tolist() == [0, 0, 255, 255]
