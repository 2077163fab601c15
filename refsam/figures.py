"""Figures of arrays, in float64: relative error, root mean square."""

import math

import numpy as np

from refsam.types import Array


def relative(error: float, norm: float) -> float:
    """error / norm, where a zero norm makes any error infinitely large."""
    return error / norm if norm else (0.0 if error == 0 else math.inf)


def relative_l2(reference: Array, candidate: Array) -> float:
    """|candidate - reference| / |reference|, in float64."""
    truth = np.asarray(reference, np.float64)
    return relative(float(np.linalg.norm(np.asarray(candidate, np.float64) - truth)), float(np.linalg.norm(truth)))


def rms(x: Array) -> float:
    """The root of the mean square, in float64."""
    return float(np.sqrt(np.mean(np.square(x, dtype=np.float64))))
