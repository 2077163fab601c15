"""Two arrays against each other: figures against NumPy's own, layouts, values that are not numbers."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refsam.figures import relative_l2
from refsam.verify.difference import align, aligned, difference, transposed

pytestmark = pytest.mark.core


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.RandomState(seed).normal(size=shape)


def test_figures_of_a_small_difference() -> None:
    reference = np.array([[3.0, -4.0], [0.0, 12.0]])
    candidate = np.array([[3.0, -4.5], [0.0, 12.0]], np.float32)
    found = difference(reference, candidate)
    assert found.relative_l2 == pytest.approx(0.5 / 13)
    assert found.nmse == pytest.approx((0.5 / 13) ** 2)
    assert found.psnr == pytest.approx(20 * math.log10(12 / (0.5 / 2)))
    assert found.cosine == pytest.approx((9 + 18 + 144) / (13 * np.linalg.norm(candidate)))
    assert (found.max_abs, found.index, found.reference_value, found.candidate_value) == (0.5, (0, 1), -4.0, -4.5)
    assert found.ulp == 0.5 / np.spacing(np.float32(4.0))
    assert (found.dtype, found.layout, found.comparable) == ("float32", "", True)


def test_equal_arrays() -> None:
    found = difference(random(3, 4), random(3, 4))
    assert (found.relative_l2, found.psnr, found.max_abs) == (0.0, math.inf, 0.0)


def test_a_reference_of_zeros_makes_any_difference_infinite() -> None:
    assert relative_l2(np.zeros(3), np.zeros(3)) == 0.0
    assert relative_l2(np.zeros(3), np.ones(3)) == math.inf


def test_nothing_to_compare_is_no_difference() -> None:
    assert difference(np.zeros((1, 0, 4)), np.zeros((1, 0, 4))).relative_l2 == 0.0


def test_nan_and_infinity_are_counted() -> None:
    found = difference(np.ones(4), np.array([1, np.nan, np.inf, -np.inf], np.float16))
    assert (found.nan, found.inf, found.comparable) == (1, 2, False)


@pytest.mark.parametrize(
    ("order", "name"), [((0, 2, 3, 1), "NHWC"), ((1, 0, 2, 3), "CNHW"), ((2, 3, 1, 0), "HWCN")], ids=lambda value: str(value)
)
def test_other_orders_of_axes_are_recognised(order: tuple[int, ...], name: str) -> None:
    reference = random(2, 3, 5, 7)
    found = difference(reference, reference.transpose(order).astype(np.float32))
    assert found.layout == name
    assert found.relative_l2 < 1e-6


@pytest.mark.parametrize("shape", [(3, 5, 7), (1, 3, 5, 7, 1)])
def test_axes_of_length_one_do_not_matter(shape: tuple[int, ...]) -> None:
    reference = random(1, 3, 5, 7)
    assert difference(reference, reference.reshape(shape)).relative_l2 == 0.0


def test_tokens_are_a_map_in_reading_order() -> None:
    tokens = random(1, 35, 4)
    found = difference(tokens, tokens.reshape(1, 5, 7, 4).transpose(0, 3, 1, 2))
    assert found.relative_l2 == 0.0
    assert found.layout == "(1, 4, 5, 7) as (1, 35, 4)"


def test_axes_of_a_picture_have_a_pictures_letters() -> None:
    resized = random(5, 7, 3)
    assert difference(resized, resized.transpose(2, 0, 1)).layout == "CHW"


def test_a_turned_picture_is_no_layout() -> None:
    assert align(random(5, 7, 3), random(5, 7, 3).transpose(1, 0, 2))[0] is None
    assert align(random(1, 2, 5, 7), random(1, 2, 5, 7).swapaxes(2, 3))[0] is None
    assert align(random(1, 2, 5, 7), random(2, 7, 5))[0] is None


@pytest.mark.parametrize(
    ("shape", "order", "right"),
    [
        ((1, 5, 6, 6), (1, 3, 2), (1, 2, 3)),  # (C, W, H) for (N, C, H, W)
        ((1, 5, 6, 6), (3, 2, 1), (2, 3, 1)),  # (W, H, C)
        ((1, 3, 6, 6), (1, 3, 2), (1, 2, 3)),  # masks (3, W, H)
        ((6, 6, 3), (2, 1, 0), (2, 0, 1)),  # (3, W, H) for a picture (H, W, 3)
        ((5, 6, 6), (2, 1, 0), (1, 2, 0)),  # (W, H, C) for an encoding (C, H, W)
    ],
)
def test_x_and_y_exchanged_are_no_layout_without_a_batch_axis(
    shape: tuple[int, ...], order: tuple[int, ...], right: tuple[int, ...]
) -> None:
    reference = random(*shape)
    full = [axis for axis, length in enumerate(shape) if length == 1]
    assert difference(reference, reference.transpose(*full, *right).squeeze()).relative_l2 == 0.0
    exchanged = reference.transpose(*full, *order).squeeze()
    assert difference(reference, exchanged).relative_l2 > 1.0
    assert transposed(reference, exchanged)


def test_a_turned_map_is_not_taken_for_tokens() -> None:
    tokens = random(1, 36, 4)
    maps = tokens.reshape(1, 6, 6, 4)
    for right in (maps, maps[0], maps.transpose(0, 3, 1, 2)):
        assert difference(tokens, right).relative_l2 == 0.0
    for turned in (maps.swapaxes(1, 2), maps[0].swapaxes(0, 1), maps.transpose(0, 3, 2, 1)):
        assert difference(tokens, turned).relative_l2 > 1.0


def test_another_shape_is_no_layout_even_of_the_same_size() -> None:
    found = difference(random(6, 7), random(3, 14))
    assert (found.comparable, found.candidate_shape, found.shape) == (False, (3, 14), (6, 7))
    assert not difference(random(6, 7), random(6, 8)).comparable


def test_a_square_map_with_x_and_y_exchanged_is_told() -> None:
    reference = random(1, 3, 6, 6)
    assert transposed(reference, reference.swapaxes(2, 3)) == "NCWH"
    assert transposed(reference, random(1, 3, 6, 6, seed=1)) == ""
    assert transposed(reference, reference) == ""


def test_aligned_leaves_out_what_cannot_be_gone_on_with() -> None:
    truth = {"a": random(2, 3), "b": random(2, 3), "c": random(2, 3), "masks": np.ones((1, 1, 2, 2), bool)}
    candidate = {"a": random(3, 2), "b": np.full((2, 3), np.nan), "c": random(2, 4), "masks": truth["masks"], "d": random(1)}
    assert {name: value.shape for name, value in aligned(truth, candidate).items()} == {"a": (2, 3)}


@given(st.permutations(range(4)), st.integers(0, 9))
def test_any_layout_that_keeps_x_and_y_is_undone(order: list[int], seed: int) -> None:
    reference = random(2, 3, 4, 5, seed=seed)
    back, _ = align(reference, reference.transpose(order))
    if order.index(2) < order.index(3):
        assert back is not None
        assert np.array_equal(back, reference)
    else:
        assert back is None


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.filterwarnings("ignore:invalid")
@pytest.mark.parametrize("immense", [1e160, 1e200, 1e308])
def test_immense_values_are_far_off_and_no_error(immense: float) -> None:
    truth = np.ones((2, 3))
    wrong = truth.copy()
    wrong[0, 0] = immense
    found = difference(truth, wrong)
    assert found.relative_l2 > 1e100
    assert found.nmse == math.inf
    assert found.psnr < -1000


@pytest.mark.parametrize("shape", [(1, 8, 1, 1), (8,), (1, 1, 8)])
def test_one_value_for_each_channel_is_a_map_that_is_the_same_everywhere(shape: tuple[int, ...]) -> None:
    channels = random(8)
    flat = np.broadcast_to(channels[None, :, None, None], (1, 8, 4, 4))
    found = difference(flat, channels.reshape(shape))
    assert (found.relative_l2, found.layout) == (0.0, "the same at every place")
    assert not difference(random(1, 8, 4, 4), channels.reshape(shape)).comparable
