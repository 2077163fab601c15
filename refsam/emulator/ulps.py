"""How far Apple's fast-math functions may be off: the one table of bounds, which the noise of the emulator fills out.

Source: Metal Shading Language Specification, version 4, section 8.4, table 8.2 "Accuracy of single-precision operations and
functions with fast math enabled". Apple's PDF itself was not at hand: the numbers come from one transcription and agree with
three others in public repositories, one of which gives the whole table of versions 4 and 4.1. A function that the table defines
by an expression (tanh, sqrt, pow, tan ...) is not here: include/metal_stdlib evaluates that expression, with the noise of its
parts.
"""

ULPS = {
    "exp": "3.0f + __builtin_floorf(__builtin_fabsf(2.0f * x))",
    "exp2": "3.0f + __builtin_floorf(__builtin_fabsf(2.0f * x))",
    "log": "3.0f",
    "log2": "2.0f",
    "rsqrt": "2.0f",
    "asin": "5.0f",
    "acos": "5.0f",
    "atan": "5.0f",
}
"""Function of x -> units in the last place, as an expression in x. Division: 2.5, reciprocal: 1 (runtime/fibers.h)."""

ABSOLUTE = {
    "log": ("0.5f <= x && x <= 2.0f", "0x1p-21f"),
    "log2": ("0.5f <= x && x <= 2.0f", "0x1p-22f"),
    "sin": ("true", "0x1p-13f"),
    "cos": ("true", "0x1p-13f"),
}
"""Function of x -> (where, greatest absolute error). Beyond [-pi, pi] the table lets sin and cos be worse without a number."""
