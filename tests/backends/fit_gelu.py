"""How the coefficients in refsam/backends/fast/activation.py were found.  Run: python tests/backends/fit_gelu.py

log2(erfc(a / sqrt 2)) on 0 <= a <= 6 by a polynomial without constant, so that GELU is exact about zero, with weights that count
the error of a/2 erfc(a / sqrt 2): least squares whose weights are moved towards the greatest errors (Lawson's iteration).
The polynomial is then written for b = K a with K = |leading coefficient|^(1/degree), which makes its leading coefficient 1.
"""

import math

import numpy as np

DEGREE, TOP = 6, 6.0


def fit() -> tuple[np.ndarray, float]:
    """Coefficients of a, a^2, ... and the greatest error of the GELU that they make."""
    a = np.linspace(1e-4, TOP, 4000)
    tail = np.array([math.erfc(value / math.sqrt(2)) for value in a])
    value, sensitivity = np.log2(tail), a * tail / 2 * math.log(2) + 1e-11
    powers = a[:, None] ** np.arange(1, DEGREE + 1)
    weights, best = np.ones_like(a), (np.zeros(DEGREE), math.inf)
    for _ in range(200):
        rows = np.sqrt(weights) * sensitivity
        coefficients = np.linalg.lstsq(powers * rows[:, None], value * rows, rcond=None)[0]
        errors = np.abs(powers @ coefficients - value) * sensitivity
        best = min(best, (coefficients, float(errors.max())), key=lambda found: found[1])
        weights *= (errors / errors.max() + 1e-3) ** 0.9
        weights /= weights.mean()
    return best


def main() -> None:
    """Print the constants as Python."""
    coefficients, error = fit()
    scale = abs(coefficients[-1]) ** (1 / DEGREE)
    print(f"# greatest error {error:.2g}")
    print(f"SCALE = {scale:.9g}")
    print("MONIC = (" + ", ".join(f"{c / scale ** (k + 1):.9g}" for k, c in enumerate(coefficients[:-1])) + ")")


if __name__ == "__main__":
    main()
