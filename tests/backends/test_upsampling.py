"""The fast backend's way from logits to masks: the definition's decision wherever rounding leaves one."""

import tracemalloc

import numpy as np
import pytest
from golden.cases import picture
from hypothesis import given
from hypothesis import strategies as st
from standin import TINY, standin_weights

from refsam import MobileSam, SamPredictor, transforms
from refsam.backends.fast import FastOps, upsampling
from refsam.backends.fast.registry import REPLACEMENTS
from refsam.backends.fast.workers import Workers

WORKERS = {threads: Workers(threads) for threads in (1, 3)}
SIDE, IMAGE_SIZE = 16, 64

# How far float32 may be from the exact value, as a part of the greatest logit: see upsampling.MARGIN, which has room for more.
ROUNDING = 20 * 2.0**-24


def noise(masks=3, seed=0, side=SIDE):
    return np.random.default_rng(seed).normal(0, 5, (1, masks, side, side)).astype(np.float32)


def blobs(masks=3, seed=0, side=SIDE):
    """Logits of round things: most tiles are wholly inside or outside."""
    rng, grid = np.random.default_rng(seed), np.mgrid[:side, :side]
    centres, radii = rng.uniform(0, side, (masks, 2, 1, 1)), rng.uniform(0.1, 0.6, masks)[:, None, None] * side
    return (radii - np.hypot(*(grid - centres).swapaxes(0, 1)))[None].astype(np.float32)


def sizes(original, image_size=IMAGE_SIZE):
    return transforms.resized_size(original, image_size), original, image_size


def unsure(logits, original, threshold, image_size=IMAGE_SIZE):
    """The exact logits, and where float32 may be on either side of the threshold."""
    exact = transforms.postprocess_logits(logits.astype(np.float64), *sizes(original, image_size))
    return exact, np.abs(exact - threshold) <= ROUNDING * (np.abs(logits).max() + abs(threshold))


def check(logits, original, threshold=0.0, offset=1.0, image_size=IMAGE_SIZE):
    exact, close = unsure(logits, original, threshold, image_size)
    masks = [upsampling.postprocess_masks(w, logits, *sizes(original, image_size), threshold) for w in WORKERS.values()]
    assert masks[0].dtype == np.bool_
    np.testing.assert_array_equal(masks[0], masks[1])
    np.testing.assert_array_equal(masks[0][~close], (exact > threshold)[~close])
    check_stability(logits, original, threshold, offset, image_size)


def check_stability(logits, original, threshold, offset, image_size):
    """Each count may be off by the pixels whose logit is close to its threshold."""
    mine, other = (
        upsampling.stability_scores(w, logits, *sizes(original, image_size), threshold, offset) for w in WORKERS.values()
    )
    np.testing.assert_array_equal(mine, other)
    assert mine.dtype == np.float32
    least, most = [], []
    for at in (threshold + offset, threshold - offset):
        exact, close = unsure(logits, original, at, image_size)
        least.append(((exact > at) & ~close).sum(axis=(-2, -1)))
        most.append(((exact > at) | close).sum(axis=(-2, -1)))
    with np.errstate(invalid="ignore", divide="ignore"):
        low, high = least[0] / most[1], most[0] / least[1]
    one_rounding = 1 + 2.0**-23
    assert np.all((mine * one_rounding >= low) & (mine <= high * one_rounding) | np.isnan(mine) & (least[1] == 0))


@given(st.integers(1, 200), st.integers(1, 200), st.sampled_from([noise, blobs]), st.integers(0, 99), st.floats(-3, 3))
def test_any_size(height, width, make, seed, threshold):
    check(make(2, seed), (height, width), threshold)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 200), st.integers(1, 9), st.integers(1, 20))
def test_any_cut(height, width, strip, rows, columns):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("STRIP", strip), ("ROWS", rows), ("COLUMNS", columns), ("BAND", columns + 3)):
            patch.setattr(upsampling, name, value)
        upsampling.layout.cache_clear()
        check(blobs(), (height, width))
    upsampling.layout.cache_clear()


@pytest.mark.core
@pytest.mark.parametrize("make", [noise, blobs])
@pytest.mark.parametrize("original", [(48, 64), (700, 1100), (1100, 701), (3, 3000), (3000, 1), (1, 1), (64, 64), (40_000, 2)])
def test_large_small_long_and_of_the_frames_own_size(original, make):
    check(make(), original)


@pytest.mark.core
@pytest.mark.parametrize("original", [(1_000_000, 1), (1, 1_000_000)])
def test_a_long_picture_is_not_cut_into_ever_more_parts(original):
    cut = upsampling.layout(SIDE, IMAGE_SIZE, transforms.resized_size(original, IMAGE_SIZE), original)
    assert max(len(cut.strips), len(cut.columns)) <= upsampling.PARTS


def test_mobile_sams_own_sizes():
    check(blobs(2, 3, 256), (600, 1601), image_size=1024)


@pytest.mark.core
@pytest.mark.parametrize("value", [-1.0, 0.0, 1.0, 1e-30, -1e-30, 3e38])
def test_flat_logits_are_wholly_inside_or_outside(value):
    logits = np.full((1, 1, SIDE, SIDE), value, np.float32)
    assert np.all(upsampling.postprocess_masks(WORKERS[1], logits, *sizes((90, 130))) == (value > 0))


@pytest.mark.core
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # infinity less itself, in the definition
def test_a_logit_that_is_no_number_spoils_what_it_spoils_in_the_definition(value):
    logits, size = blobs(2), sizes((90, 130))
    logits[0, 0, 3, 3] = value
    masks, scores = (f(WORKERS[3], logits, *size) for f in (upsampling.postprocess_masks, upsampling.stability_scores))
    np.testing.assert_array_equal(masks, transforms.postprocess_masks(logits, *size))
    np.testing.assert_array_equal(scores, transforms.stability_scores(logits, *size))
    assert masks[0, 0].any()


def test_a_tile_is_left_out_only_where_rounding_cannot_matter(monkeypatch):
    """With computed tiles forbidden, logits a hair above the threshold are not decided, and those well above it are."""
    monkeypatch.setattr(upsampling, "_logits", None)  # calling it would fail
    logits = np.full((1, 1, SIDE, SIDE), 1.0, np.float32)
    assert upsampling.postprocess_masks(WORKERS[1], logits, *sizes((90, 130)), 1 - 3 * upsampling.MARGIN).all()
    with pytest.raises(TypeError):
        upsampling.postprocess_masks(WORKERS[1], logits, *sizes((90, 130)), 1 - 0.5 * upsampling.MARGIN)


@pytest.mark.core
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_predictor_goes_this_way_in_float32(dtype, monkeypatch):
    called = []
    for name in ("resize", "normalize_and_pad", "postprocess_masks", "stability_scores"):
        key = f"transforms.{name}"
        kept = REPLACEMENTS[key]
        monkeypatch.setitem(REPLACEMENTS, key, lambda *a, kept=kept, key=key: called.append(key) or kept(*a))
    predictor = SamPredictor(MobileSam(standin_weights(TINY), TINY, FastOps(2), dtype))
    predictor.set_image(picture((48, 77)))
    masks, _, logits = predictor.predict([[30, 20]], [1])
    predictor.stability_scores(logits[None])
    assert len(called) == (4 if dtype == "float32" else 0)
    exact, close = unsure(logits[None], (48, 77), 0)
    np.testing.assert_array_equal(masks[~close[0]], exact[0][~close[0]] > 0)


def test_masks_of_a_large_picture_need_little_more_than_their_own_memory():
    logits, original = noise(1), (3000, 3000)
    upsampling.postprocess_masks(WORKERS[1], logits, *sizes(original))  # the layout, and this thread's scratch, which stay
    tracemalloc.start()
    masks = upsampling.postprocess_masks(WORKERS[1], logits, *sizes(original))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < masks.nbytes + 4 * SIDE * 3000 + 2**20  # the widened rows, a job for each strip


def test_many_masks_are_counted_in_little_memory():
    """The rows of a few at a time are as wide as the picture."""
    logits, original = np.repeat(noise(1), 40, axis=0), (40, 3000)
    expected = upsampling.stability_scores(WORKERS[1], logits[:1], *sizes(original), 0.0, 0.5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upsampling, "WIDE", 3 * SIDE * 3000)
        tracemalloc.start()
        scores = upsampling.stability_scores(WORKERS[1], logits, *sizes(original), 0.0, 0.5)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    np.testing.assert_array_equal(scores, np.repeat(expected, 40, axis=0))
    assert peak < 4 * (4 * SIDE * 3000) + 2**20
