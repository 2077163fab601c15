"""How the coefficients in refsam/backends/fast/activation.py were found.  Run: python tests/backends/fit_gelu.py

(2 / erfc(a / sqrt 2))^(1/8) on 0 <= a <= 6.5 by p(a)^2 + c with a polynomial p of degree 5 or 8, with weights that count the
error of a/2 erfc(a / sqrt 2), below a = 1 as a part of a. For a given c that is least squares of p, whose weights are moved
towards the greatest errors (Lawson's iteration). c was found by trial: of degree 5 0.58 leaves 3.8e-7, 0.6 2.6e-7, 0.62 3.8e-7;
of degree 8 0.3 to 0.46 leave about 1e-8 (degree 6 leaves 1.7e-7 at best, 7 8e-8).
The polynomial is then written for b = K a with K = (leading coefficient)^(1/degree), which makes its leading coefficient 1.
"""

import math

import numpy as np

ROOT, TOP = 8, 6.5
FITS = ((5, 0.6), (8, 0.42))
"""Degree and c."""


def fit(degree: int, added: float) -> tuple[np.ndarray, float]:
    """Coefficients of 1, a, a^2, ... and the greatest error of the GELU that they make, as a part of min(a, 1)."""
    a = (TOP - 1e-3) * np.sin(np.linspace(0, math.pi / 2, 600)) ** 2 + 1e-3
    tail = np.array([math.erfc(value / math.sqrt(2)) / 2 for value in a])
    target = np.sqrt(tail ** (-1 / ROOT) - added)
    share = a / np.minimum(a, 1)
    sensitivity = share * 2 * ROOT * tail * target / (target**2 + added) + 1e-11
    powers = a[:, None] ** np.arange(degree + 1)
    weights, best = np.ones_like(a), (np.zeros(degree + 1), math.inf)
    for _ in range(200):
        rows = np.sqrt(weights) * sensitivity
        coefficients = np.linalg.lstsq(powers * rows[:, None], target * rows, rcond=None)[0]
        errors = np.abs(((powers @ coefficients) ** 2 + added) ** -ROOT - tail) * share
        best = min(best, (coefficients, float(errors.max())), key=lambda found: found[1])
        weights *= (errors / errors.max() + 1e-3) ** 0.9
        weights /= weights.mean()
    return best


def main() -> None:
    """Print the constants as Python."""
    for degree, added in FITS:
        coefficients, error = fit(degree, added)
        scale = coefficients[-1] ** (1 / degree)
        print(f"# greatest error {error:.2g}")
        print(f"scale={scale:.9g}, added={added},")
        print("monic=(" + ", ".join(f"{c / scale**k:.9g}" for k, c in reversed(list(enumerate(coefficients[:-1])))) + ")")


if __name__ == "__main__":
    main()
