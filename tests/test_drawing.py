"""What people see: the right pixels in the right colours, the same however the picture is cut."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refsam import drawing
from refsam.drawing import BACKGROUND, FOREGROUND, PALETTE, overlay
from refsam.errors import InputError

GREY = np.full((120, 160, 3), 128, np.uint8)


def disc(height, width, y, x, radius):
    rows, columns = np.ogrid[:height, :width]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def changed(picture, original=GREY):
    return (picture != original).any(axis=-1)


@pytest.mark.core
def test_a_mask_is_tinted_inside_and_outlined_at_its_edge():
    mask = np.zeros((1, 120, 160), np.bool_)
    mask[0, 40:80, 50:110] = True
    picture = overlay(GREY, mask, opacity=0.5)
    np.testing.assert_array_equal(picture[60, 80], np.rint((128 + np.array(PALETTE[0])) / 2))
    # The edge lies between columns 49 and 50: a line of 2 pixels covers both.
    for column in (49, 50):
        assert np.abs(picture[60, column].astype(int) - PALETTE[0]).max() <= 12
    reach = changed(picture)
    assert not reach[:37].any()
    assert not reach[83:].any()
    assert not reach[:, :47].any()


def test_a_mask_that_fills_the_picture_has_no_line_at_its_border():
    picture = overlay(GREY, np.ones((1, 120, 160), np.bool_), opacity=0.5)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) == 1


@pytest.mark.core
def test_an_empty_mask_and_no_prompts_leave_the_picture_as_it_is():
    picture = overlay(GREY, np.zeros((2, 120, 160), np.bool_))
    np.testing.assert_array_equal(picture, GREY)
    assert not np.shares_memory(picture, GREY)


def test_a_single_pixel_is_seen():
    mask = np.zeros((1, 120, 160), np.bool_)
    mask[0, 60, 80] = True
    assert np.abs(overlay(GREY, mask)[60, 80].astype(int) - 128).max() > 50


@pytest.mark.core
@pytest.mark.usefixtures("unchecked")
def test_a_mask_of_0_and_255_is_drawn_as_one_of_booleans():
    mask = disc(120, 160, 50, 60, 30)
    grey = np.where(mask, np.uint8(255), np.uint8(0))  # 255 times 255 is 1 in a byte
    np.testing.assert_array_equal(overlay(GREY, [grey]), overlay(GREY, [mask]))


@pytest.mark.core
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("image", "mask", "message"),
    [
        (GREY, np.zeros((120, 160)), "mask 0 is of float64; booleans are needed"),
        (GREY[..., 0], np.zeros((120, 160), np.bool_), "make grey RGB"),
        (GREY / 255, np.zeros((120, 160), np.bool_), "image is of float64; uint8"),
    ],
)
def test_logits_and_what_is_no_picture_are_refused(image, mask, message):
    with pytest.raises(InputError, match=message):
        overlay(image, [mask])


def test_each_mask_has_its_own_colour():
    masks = np.stack([disc(120, 160, 60, 20 + 20 * i, 8) for i in range(7)])
    picture = overlay(GREY, masks, opacity=1.0)
    assert [tuple(picture[60, 20 + 20 * i]) for i in range(7)] == list(PALETTE)


@given(st.integers(20, 90), st.integers(20, 90), st.floats(2, 80), st.integers(0, 120), st.integers(0, 160))
def test_tiles_do_not_show(rows, columns, radius, y, x):
    mask = disc(120, 160, y, x, radius)[None]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing, "_TILE", (rows, columns))
        tiled = overlay(GREY, mask)
    np.testing.assert_array_equal(tiled, overlay(GREY, mask))


@pytest.mark.core
def test_points_are_green_with_a_plus_and_red_with_a_minus():
    picture = overlay(GREY, points=[[40, 60], [120, 60]], labels=[1, 0])
    for x, colour in ((40, FOREGROUND), (120, BACKGROUND)):
        assert tuple(picture[60, x]) == (255, 255, 255)
        assert tuple(picture[64, x + 4]) == colour
    assert tuple(picture[63, 40]) == (255, 255, 255)  # the upright of the plus
    assert tuple(picture[63, 120]) == BACKGROUND
    around = picture[40:81, 20:61]  # centred in the middle of its pixel: the same from all four sides
    np.testing.assert_array_equal(around, around[::-1])
    np.testing.assert_array_equal(around, around[:, ::-1])
    np.testing.assert_array_equal(around, around.transpose(1, 0, 2))


@pytest.mark.core
def test_a_box_is_a_white_frame_on_its_edge():
    marks = changed(overlay(GREY, boxes=[30, 20, 130, 100]))
    assert tuple(overlay(GREY, boxes=[30, 20, 130, 100])[20, 80]) == (255, 255, 255)
    rows, columns = np.flatnonzero(marks.any(axis=1)), np.flatnonzero(marks.any(axis=0))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (18, 102, 28, 132)
    assert not marks[22:99, 32:129].any()


@given(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9), st.floats(-1e9, 1e9), st.floats(-1e9, 1e9))
def test_prompts_anywhere_are_clipped_to_the_picture(x0, y0, x1, y1):
    assert overlay(GREY, points=[[x0, y0]], boxes=[[x0, y0, x1, y1]]).shape == GREY.shape


REACH = {"points": 12, "boxes": 2}
"""Pixels beyond the prompt's own that are drawn in a picture of this size."""


def beyond(kind, axis, before, distance):
    """The coordinate so far beyond what a prompt may have that is still seen."""
    return -1 - REACH[kind] - distance if before else GREY.shape[1 - axis] + REACH[kind] + distance


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("axis", [0, 1])
@given(distance=st.floats(0, 1e9), length=st.floats(0, 1e9), other=st.floats(-1e9, 1e9))
def test_prompts_out_of_reach_leave_the_picture_as_it_is(axis, before, distance, length, other):
    point, box = [other, other], [min(other, 0), min(other, 0), max(other, 200), max(other, 200)]
    point[axis] = beyond("points", axis, before, distance)
    near = beyond("boxes", axis, before, distance)
    box[axis], box[axis + 2] = (near - length, near) if before else (near, near + length)
    np.testing.assert_array_equal(overlay(GREY, points=[point], boxes=[box]), GREY)


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("axis", [0, 1])
def test_prompts_just_outside_are_drawn_as_far_as_they_reach(axis, before):
    point, box = [60, 60], [20, 20, 100, 100]
    point[axis] = beyond("points", axis, before, -1)
    box[axis], box[axis + 2] = sorted((beyond("boxes", axis, before, -1), beyond("boxes", axis, before, 50)))
    for prompts in ({"points": [point]}, {"boxes": [box]}):
        [row] = np.flatnonzero(changed(overlay(GREY, **prompts)).any(axis=axis))
        assert row == (0 if before else GREY.shape[1 - axis] - 1)


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1)])
def test_the_smallest_pictures(shape):
    picture = np.full((*shape, 3), 9, np.uint8)
    drawn = overlay(picture, np.ones((1, *shape), np.bool_), points=[[0, 0]], boxes=[0, 0, shape[1] - 1, shape[0] - 1])
    assert changed(drawn, picture).any()


def test_marks_grow_with_the_picture():
    def marked(side):
        picture = np.full((side, side, 3), 128, np.uint8)
        return changed(overlay(picture, points=[[side / 2, side / 2]]), picture).sum()

    assert 3.5 < marked(2400) / marked(1200) < 4.5  # twice as wide, so about four times as many pixels


@pytest.mark.core
def test_what_does_not_fit_is_refused():
    for masks in (np.zeros((1, 3, 4), np.bool_), np.zeros((120, 160), np.bool_)):
        with pytest.raises(InputError, match="mask 0 has shape"):
            overlay(GREY, masks)
    with pytest.raises(InputError, match=r"boxes has shape \(5,\); it has to be \(N, 4\)"):
        overlay(GREY, boxes=[0, 0, 1, 1, 1])
    with pytest.raises(InputError, match=r"points is not an array of numbers; it has to be \(N, 2\)"):
        overlay(GREY, points=[[0, 0], [1]])
    with pytest.raises(InputError, match="finite"):
        overlay(GREY, boxes=[0, 0, np.nan, 1])
    for opacity in (5.0, -0.5):  # colours would wrap round
        with pytest.raises(InputError, match=f"^opacity is {opacity}; it has to be from 0 to 1$"):
            overlay(GREY, np.ones((1, 120, 160), np.bool_), opacity=opacity)
    with pytest.raises(InputError, match="opacity is nan"):
        overlay(GREY, opacity=float("nan"))
    with pytest.raises(InputError, match="2 points have 1 labels"):
        overlay(GREY, points=[[1, 2], [3, 4]], labels=[1])


def test_drawing_needs_little_more_than_the_result():
    picture = np.zeros((1500, 2000, 3), np.uint8)
    mask = disc(1500, 2000, 700, 1000, 600)[None]
    tracemalloc.start()
    overlay(picture, mask)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # A tile of 2**18 pixels: at most five arrays of 4 bytes, four of 3 channels of 4 bytes, and its uint8 surroundings thrice.
    assert peak < picture.nbytes + 2**18 * (5 * 4 + 4 * 3 * 4 + 4)
