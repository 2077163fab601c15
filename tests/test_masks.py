"""Run-length code against pycocotools and against itself, a mask as a prompt, and the measures."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco

from refsam import masks
from refsam.errors import InputError
from refsam.masks import (
    area,
    area_of_rle,
    box_of,
    coco_encode_rle,
    cut_out,
    iou,
    mask_to_logits,
    mask_to_rle,
    plain_counts,
    rle_to_mask,
)

MASKS = arrays(np.bool_, st.tuples(st.integers(1, 40), st.integers(1, 40)))


def theirs(mask):
    return coco.encode(np.asfortranarray(mask.astype(np.uint8)))


def check_all(mask):
    plain = mask_to_rle(mask)
    packed = coco_encode_rle(plain)
    assert packed["size"] == list(mask.shape)
    assert packed["counts"].encode() == theirs(mask)["counts"]
    for rle in (plain, packed, theirs(mask)):
        np.testing.assert_array_equal(rle_to_mask(rle), mask)


@given(MASKS)
def test_the_code_is_pycocotools_own_and_comes_back(mask):
    check_all(mask)


@pytest.mark.core
@pytest.mark.parametrize("value", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (7, 9)])
def test_the_code_of_full_and_empty_masks(shape, value):
    check_all(np.full(shape, value))


def test_the_code_of_long_runs_and_of_falling_counts():
    mask = np.zeros((900, 1100), np.bool_)
    mask[100:800, 300:900] = True
    mask[400, 400:] = False
    check_all(mask)
    check_all(~mask)
    check_all(np.random.default_rng(0).random((60, 70)) < 0.02)


@pytest.mark.core
def test_plain_counts_go_down_the_columns_and_start_outside():
    assert mask_to_rle(np.array([[True, False], [True, True]])) == {"size": [2, 2], "counts": [0, 2, 1, 1]}


@pytest.mark.parametrize("masked", ["C", "F"])
def test_the_order_in_memory_does_not_matter(masked):
    mask = np.array(np.random.default_rng(1).random((5, 8)) < 0.5, order=masked)
    check_all(mask)
    check_all(mask[::-1, ::2])


@pytest.mark.core
@pytest.mark.parametrize(
    ("rle", "message"),
    [
        ({"counts": [4]}, "size"),
        ({"size": [2], "counts": [4]}, "size"),
        ({"size": [2, -2], "counts": [4]}, "size"),
        ({"size": "22", "counts": [4]}, "size"),
        ({"size": [10**6, 10**6], "counts": [10**12]}, "more than"),
        ({"size": [2, 2]}, "whole numbers"),
        ({"size": [2, 2], "counts": [4.0]}, "whole numbers"),
        ({"size": [2, 2], "counts": [[4]]}, "whole numbers"),
        ({"size": [2, 2], "counts": [[4], 2]}, "whole numbers"),
        ({"size": [2, 2], "counts": [10**30]}, "whole numbers"),
        ({"size": [2, 2], "counts": [3]}, "add up to 3"),
        ({"size": [2, 2], "counts": []}, "add up to 0"),
        ({"size": [2, 2], "counts": [5, -1]}, "-1 cannot be"),
        ({"size": [2, 2], "counts": [2**62, 2**62, 2**62, 2**62, 4]}, "cannot be"),
        ({"size": [2, 2], "counts": ""}, "damaged"),
        ({"size": [2, 2], "counts": "T"}, "cut short"),
        ({"size": [2, 2], "counts": "4 "}, "damaged"),
        ({"size": [2, 2], "counts": "4é"}, "add up|damaged"),
        ({"size": [2, 2], "counts": b"4\xff"}, "damaged"),
        ({"size": [2, 2], "counts": "o" * 9 + "0"}, "32 bits"),
    ],
)
def test_a_damaged_code_is_refused(rle, message):
    with pytest.raises(InputError, match=message):
        rle_to_mask(rle)


@pytest.mark.core
@pytest.mark.parametrize("size", [(np.int64(2), np.int64(3)), np.array([2, 3]), np.array([2, 3], np.uint8), (2, 3)])
def test_a_size_may_be_of_numpy_s_numbers(size):
    rle = {"size": size, "counts": [1, 2, 3]}
    assert rle_to_mask(rle).shape == (2, 3)
    encoded = coco_encode_rle(rle)
    assert encoded["size"] == [2, 3]
    assert [type(side) for side in encoded["size"]] == [int, int]


@pytest.mark.core
@pytest.mark.parametrize(
    "size", [np.array([2.0, 3.0]), np.array([2, -3]), np.array(2), None, 5, [2, 3, 4], "23", {"a": 1, "b": 2}]
)
def test_a_size_that_is_none_is_refused(size):
    with pytest.raises(InputError, match=r"size is .*; \[height, width\] is needed"):
        rle_to_mask({"size": size, "counts": [6]})


@pytest.mark.core
@pytest.mark.parametrize(
    ("counts", "wrong"),
    [
        ([9, -5], -5), ([0, 2**36], 2**36), ([2**32], 2**32), ("4N", -2), (np.array([1, 2**63], np.uint64), 2**63),
    ],
)  # fmt: skip
@pytest.mark.parametrize("use", [area_of_rle, coco_encode_rle, plain_counts, rle_to_mask])
def test_counts_that_no_mask_has_are_refused_by_all(use, counts, wrong):
    with pytest.raises(InputError, match=f"a count of {wrong} cannot be"):
        use({"size": [2, 2], "counts": counts})


def test_the_largest_count_is_encoded_whole():
    rle = {"size": [2**16, 2**16], "counts": [1, 2**32 - 1]}
    assert plain_counts(coco_encode_rle(rle)).tolist() == rle["counts"]
    assert area_of_rle(rle) == 2**32 - 1


def test_masks_larger_than_a_strangers_may_be_are_had_on_demand():
    rle = {"size": [3, 100], "counts": [120, 30, 150]}
    with pytest.raises(InputError, match="3 x 100 is more than 299 pixels; max_pixels= allows more"):
        rle_to_mask(rle, max_pixels=299)
    assert rle_to_mask(rle, max_pixels=300).sum() == 30
    huge = {"size": [20_000, 10_000], "counts": [0, 200_000_000]}
    assert plain_counts(coco_encode_rle(huge)).tolist() == huge["counts"]


@st.composite
def damaged_codes(draw):
    """A mask's code of which a count gave some of its pixels to another, in the size or its exchange, with up to two bytes
    changed; plain or compressed. About half of them are still codes."""
    rle = mask_to_rle(draw(MASKS))
    counts, places = rle["counts"], st.integers(0, len(rle["counts"]) - 1)
    for _ in range(draw(st.integers(0, 3))):
        moved, giver, taker = draw(st.integers(0, 40)), draw(places), draw(places)
        counts[giver] -= moved
        counts[taker] += moved
    size = rle["size"][:: draw(st.sampled_from([1, 1, -1]))]
    if min(counts) < 0 or draw(st.booleans()):  # a negative count has no compressed form
        return {"size": size, "counts": counts}
    text = bytearray(coco_encode_rle(rle)["counts"].encode())
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        start = draw(st.integers(0, len(text)))
        text[start : start + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
    return {"size": size, "counts": bytes(text)}


BYTES = st.fixed_dictionaries({"size": st.lists(st.integers(0, 6), min_size=2, max_size=2), "counts": st.binary(max_size=30)})


@given(BYTES | damaged_codes())
def test_a_damaged_code_gives_a_mask_of_its_size_or_an_input_error(rle):
    try:
        mask = rle_to_mask(rle)
    except InputError:
        return
    assert (mask.shape, mask.dtype) == (tuple(rle["size"]), np.bool_)
    assert area(mask) == area_of_rle(rle)
    np.testing.assert_array_equal(rle_to_mask(mask_to_rle(mask)), mask)


@pytest.mark.core
def test_measures():
    mask = np.zeros((6, 9), np.bool_)
    assert area(mask) == 0
    assert box_of(mask) is None
    mask[2:4, 3:8] = True
    assert area(mask) == 10
    np.testing.assert_array_equal(box_of(mask), [3, 2, 7, 3])
    other = np.zeros_like(mask)
    other[3:5, 3:8] = True
    assert iou(mask, other) == 5 / 15
    assert iou(mask, ~mask) == 0
    assert iou(mask & False, other & False) == 1


@pytest.mark.core
def test_a_mask_prompt_lies_in_the_padded_frame():
    mask = np.zeros((32, 64), np.bool_)
    mask[:, 32:] = True  # the right half of a picture twice as wide as high
    logits = mask_to_logits(mask, 64)
    assert logits.shape == (1, 16, 16)
    assert logits.dtype == np.float32
    k = masks.PROMPT_LOGIT
    np.testing.assert_array_equal(logits[0, :8, 8:], np.full((8, 8), k))
    np.testing.assert_array_equal(logits[0, :8, :8], np.full((8, 8), -k))
    np.testing.assert_array_equal(logits[0, 8:], np.full((8, 16), -k))


def test_a_mask_prompt_says_how_much_of_a_cell_is_inside():
    mask = np.zeros((64, 64), np.bool_)
    mask[:, :1] = True  # one of the four columns of the first cells
    logits = mask_to_logits(mask, 64)
    np.testing.assert_array_equal(logits[0, :, 0], np.full(16, -masks.PROMPT_LOGIT / 2))


@pytest.mark.core
def test_a_cut_out_keeps_the_inside_and_nothing_else():
    image = np.random.default_rng(2).integers(1, 256, (4, 5, 3), dtype=np.uint8)
    mask = np.random.default_rng(3).random((4, 5)) < 0.5
    rgba = cut_out(image, mask)
    np.testing.assert_array_equal(rgba[mask], np.concatenate([image[mask], np.full((area(mask), 1), 255)], axis=1))
    assert not rgba[~mask].any()


@pytest.mark.core
@pytest.mark.usefixtures("unchecked")
def test_pictures_made_of_a_mask_of_0_and_255_are_those_of_the_mask():
    image = np.random.default_rng(2).integers(1, 256, (40, 50, 3), dtype=np.uint8)
    mask = np.random.default_rng(3).random((40, 50)) < 0.5
    grey = np.where(mask, np.uint8(255), np.uint8(0))  # 255 times 255 is 1 in a byte
    np.testing.assert_array_equal(mask_to_logits(grey, 64), mask_to_logits(mask, 64))
    np.testing.assert_array_equal(cut_out(image, grey), cut_out(image, mask))
    assert mask_to_rle(mask * image[..., 0]) == mask_to_rle(mask)  # changes from 3 to 7 are none


@pytest.mark.core
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (
            np.zeros((3, 4, 5), np.bool_),
            r"mask has shape \(3, 4, 5\); \(height, width\) is needed: give one mask at a time, masks\[0\]",
        ),
        (np.zeros(5, np.bool_), r"mask has shape \(5,\); \(height, width\) is needed$"),
        (np.full((4, 5), -3.0, np.float32), r"mask is of float32; booleans are needed: of logits, logits > 0"),
    ],
)
def test_what_is_no_mask_is_explained(mask, message):
    for use in (mask_to_rle, lambda x: mask_to_logits(x, 64), lambda x: cut_out(np.zeros((4, 5, 3), np.uint8), x)):
        with pytest.raises(InputError, match=message):
            use(mask)


@pytest.mark.core
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("shape", [(4, 6), (1, 5)])
def test_a_cut_out_by_another_pictures_mask_is_refused(shape):
    with pytest.raises(InputError, match=r"mask has shape \(., .\), but the picture is \(4, 5\)"):
        cut_out(np.zeros((4, 5, 3), np.uint8), np.ones(shape, np.bool_))
