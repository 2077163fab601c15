"""How the coefficients in refsam/ops/activation.py were found.  Run: python tests/ops/fit_erf.py  (needs mpmath).

For 0 <= x <= 1 erf(x) = x + x P(x^2), a polynomial whose value is small, so that its rounding errors hardly count; for
greater x erf(x) = 1 - exp(-x^2) Q(x) / R(x). Each is a least-squares fit on Chebyshev nodes whose weights are moved towards
the greatest errors (Lawson's iteration), which comes close to the minimax fit.
"""

from collections.abc import Callable, Sequence
from typing import Any

import mpmath as mp
import numpy as np

mp.mp.dps = 40


def fit(
    f: Callable[[Any], Any], low: float, high: float, degrees: tuple[int, int], steps: int = 30
) -> tuple[list[Any], list[Any]]:
    """Coefficients, highest power first, of Q and R with Q / R close to f and R's constant 1."""
    n, m = degrees
    count = 6 * (n + m + 1)
    nodes = [(low + high) / 2 - mp.mpf(high - low) / 2 * mp.cos(mp.pi * (2 * i + 1) / (2 * count)) for i in range(count)]
    values, weights, scale = [f(t) for t in nodes], [mp.mpf(1)] * count, [mp.mpf(1)] * count
    best: tuple[Any, list[Any], list[Any]] = (mp.inf, [], [])
    for _ in range(steps):
        rows = [[w / s * t**k for k in range(n + 1)] + [-w / s * v * t**k for k in range(1, m + 1)]
                for t, v, w, s in zip(nodes, values, weights, scale, strict=True)]  # fmt: skip
        right = [w * v / s for w, v, s in zip(weights, values, scale, strict=True)]
        solution = list(mp.qr_solve(mp.matrix(rows), mp.matrix(right))[0])
        q, r = solution[n::-1], [mp.mpf(1), *solution[n + 1 :]][::-1]
        scale = [mp.polyval(r, t) for t in nodes]
        errors = [abs(mp.polyval(q, t) / s - v) for t, v, s in zip(nodes, values, scale, strict=True)]
        best = min(best, (max(errors), q, r), key=lambda item: item[0])
        weights = [w * mp.sqrt(e / max(errors) + mp.mpf("1e-3")) for w, e in zip(weights, errors, strict=True)]
    print(f"# greatest error {mp.nstr(best[0], 3)}")
    return best[1], best[2]


def show(name: str, coefficients: Sequence[Any], dtype: type) -> None:
    """Print one table as Python."""
    print(f"{name} = (" + ", ".join(repr(float(str(dtype(float(c))))) for c in coefficients) + ")")


def near(t: Any) -> Any:
    """erf(x) / x - 1 as a function of t = x^2."""
    return mp.erf(mp.sqrt(t)) / mp.sqrt(t) - 1


def far(x: Any) -> Any:
    """erfc(x) exp(x^2), which falls slowly from 0.43 at 1 to 0.09 at 6."""
    return mp.erfc(x) * mp.exp(x * x)


def main() -> None:
    """Print the coefficient tables, float32's and float64's."""
    for dtype, degree, degrees, top in ((np.float32, 6, (4, 4), 4), (np.float64, 12, (8, 8), 6)):
        p, _ = fit(near, 0, 1, (degree, 0))
        q, r = fit(far, 1, top, degrees)
        for name, coefficients in (("NEAR", p), ("FAR", q), ("FAR_OVER", r)):
            show(f"{name}_{np.dtype(dtype).itemsize * 8}", coefficients, dtype)


if __name__ == "__main__":
    main()
