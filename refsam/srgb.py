"""sRGB's curve between stored values and light (IEC 61966-2-1), which Display P3 has too."""

import numpy as np

from refsam.types import Array


def decoded(values: Array) -> Array:
    """Light, 0 to 1, of stored values, 0 to 1; float64."""
    return np.where(values <= 0.04045, values / 12.92, ((np.maximum(values, 0.04045) + 0.055) / 1.055) ** 2.4)


def encoded(light: Array) -> Array:
    """Stored values, 0 to 1, of light, 0 to 1; float64."""
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * np.maximum(light, 0.0031308) ** (1 / 2.4) - 0.055)
