"""How the coefficients in refsam/backends/fast/activation.py were found.  Run: python tests/backends/fit_gelu.py

erfc(a / sqrt 2)^(-1/16) on 0 <= a <= 6 by a polynomial with constant 1, so that GELU is exact about zero, with weights that count
the error of a/2 erfc(a / sqrt 2), below a = 1 as a part of a: least squares whose weights are moved towards the greatest errors
(Lawson's iteration).
The polynomial is then written for b = K a with K = (leading coefficient)^(1/degree), which makes its leading coefficient 1.
"""

import math

import numpy as np

DEGREE, POWER, TOP = 7, 16, 6.0


def fit() -> tuple[np.ndarray, float]:
    """Coefficients of a, a^2, ... and the greatest error of the GELU that they make, as a part of min(a, 1)."""
    a = np.linspace(2e-3, TOP, 3000)
    tail = np.array([math.erfc(value / math.sqrt(2)) for value in a])
    root = tail ** (-1 / POWER)
    share = a / 2 / np.minimum(a, 1)
    sensitivity = share * POWER * tail / root + 1e-11
    powers = a[:, None] ** np.arange(1, DEGREE + 1)
    weights, best = np.ones_like(a), (np.zeros(DEGREE), math.inf)
    for _ in range(200):
        rows = np.sqrt(weights) * sensitivity
        coefficients = np.linalg.lstsq(powers * rows[:, None], (root - 1) * rows, rcond=None)[0]
        errors = np.abs((1 + powers @ coefficients) ** -POWER - tail) * share
        best = min(best, (coefficients, float(errors.max())), key=lambda found: found[1])
        weights *= (errors / errors.max() + 1e-3) ** 0.9
        weights /= weights.mean()
    return best


def main() -> None:
    """Print the constants as Python."""
    coefficients, error = fit()
    scale = coefficients[-1] ** (1 / DEGREE)
    print(f"# greatest error {error:.2g}")
    print(f"SCALE = {scale:.9g}")
    print("MONIC = (" + ", ".join(f"{c / scale ** (k + 1):.9g}" for k, c in reversed(list(enumerate(coefficients[:-1])))) + ")")


if __name__ == "__main__":
    main()
