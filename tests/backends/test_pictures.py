"""The fast backend's way into the input frame is the definition's, bit for bit."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refsam import transforms
from refsam.backends.fast import pictures
from refsam.backends.fast.workers import Workers

WORKERS = {threads: Workers(threads) for threads in (1, 3)}


def picture(height, width, seed=0, extreme=False):
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return (image > 127) * np.uint8(255) if extreme else image


def check(image, image_size):
    resized = transforms.resize(image, image_size)
    for workers in WORKERS.values():
        mine = pictures.resize(workers, image, image_size)
        np.testing.assert_array_equal(mine, resized)
        assert not np.shares_memory(mine, image)
        np.testing.assert_array_equal(
            pictures.normalize_and_pad(workers, resized, image_size), transforms.normalize_and_pad(resized, image_size)
        )


@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from([16, 64, 256]), st.integers(0, 2**32 - 1), st.booleans())
def test_any_picture(height, width, image_size, seed, extreme):
    check(picture(height, width, seed, extreme), image_size)


@pytest.mark.core
@pytest.mark.parametrize(
    ("size", "image_size"),
    [((900, 1200), 256), ((1700, 31), 64), ((31, 1700), 64), ((64, 64), 64), ((64, 40), 64), ((1, 70_000), 64), ((3, 5), 256)],
)
def test_many_rows_bands_that_do_not_fit_and_axes_that_stay(size, image_size):
    check(picture(*size), image_size)


@pytest.mark.core
@pytest.mark.parametrize("scale", [7.9, 31, 33, 300, 1024])
def test_white_stays_white_where_rounded_weights_sum_to_more_than_one(scale):
    # Nothing is clipped here: a sum of 256 would come out as 0.
    white = np.full((int(16 * scale), 2, 3), 255, np.uint8)
    assert np.all(pictures.resize(WORKERS[1], white, 16) == 255)


def test_channels_that_run_backwards_and_rows_with_gaps():
    image = picture(80, 90)
    check(image[..., ::-1], 64)
    check(image[::2, 5:70], 64)


def test_resizing_needs_little_more_than_its_result():
    image = picture(1500, 2000)
    pictures.resize(WORKERS[1], image[:800], 512)  # the scratch of this thread, which stays
    tracemalloc.start()
    pictures.resize(WORKERS[1], image, 512)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # uint8 after either pass; the weights of a band are 40 x 8 in float64 and three times that each way, of about 64 bands.
    assert peak < 3 * 512 * (1500 + 384) + 9 * 64 * 40 * 8 * 8 + 2**20
