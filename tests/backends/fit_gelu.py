"""How the coefficients in refsam/backends/fast/activation.py were found.  Run: python tests/backends/fit_gelu.py

(2 / erfc(a / sqrt 2))^(1/8) on 0 <= a <= 6.5 by p(a)^2 + c with a polynomial p of degree 5, with weights that count the error of
a/2 erfc(a / sqrt 2), below a = 1 as a part of a. For a given c that is least squares of p, whose weights are moved towards the
greatest errors (Lawson's iteration). c was found by trial: 0.58 leaves 3.8e-7, 0.6 2.6e-7, 0.62 3.8e-7.
The polynomial is then written for b = K a with K = (leading coefficient)^(1/degree), which makes its leading coefficient 1.
"""

import math

import numpy as np

DEGREE, ROOT, ADDED, TOP = 5, 8, 0.6, 6.5


def fit() -> tuple[np.ndarray, float]:
    """Coefficients of 1, a, a^2, ... and the greatest error of the GELU that they make, as a part of min(a, 1)."""
    a = (TOP - 1e-3) * np.sin(np.linspace(0, math.pi / 2, 600)) ** 2 + 1e-3
    tail = np.array([math.erfc(value / math.sqrt(2)) / 2 for value in a])
    target = np.sqrt(tail ** (-1 / ROOT) - ADDED)
    share = a / np.minimum(a, 1)
    sensitivity = share * 2 * ROOT * tail * target / (target**2 + ADDED) + 1e-11
    powers = a[:, None] ** np.arange(DEGREE + 1)
    weights, best = np.ones_like(a), (np.zeros(DEGREE + 1), math.inf)
    for _ in range(200):
        rows = np.sqrt(weights) * sensitivity
        coefficients = np.linalg.lstsq(powers * rows[:, None], target * rows, rcond=None)[0]
        errors = np.abs(((powers @ coefficients) ** 2 + ADDED) ** -ROOT - tail) * share
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
    print("MONIC = (" + ", ".join(f"{c / scale**k:.9g}" for k, c in reversed(list(enumerate(coefficients[:-1])))) + ")")


if __name__ == "__main__":
    main()
