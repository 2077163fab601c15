"""sRGB's curve, against numbers that are known and against itself."""

import numpy as np
import pytest

from refsam import srgb


def test_known_points_of_the_curve() -> None:
    assert srgb.decoded(np.array([0, 0.04045, 0.5, 1])) == pytest.approx([0, 0.0031308, 0.21404114, 1], rel=1e-5)


def test_encoding_undoes_decoding() -> None:
    levels = np.linspace(0, 1, 1001)
    assert srgb.encoded(srgb.decoded(levels)) == pytest.approx(levels, abs=2e-7)  # the standard's two pieces meet within 4e-8
