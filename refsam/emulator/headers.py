"""The generated half of the Metal standard library: one overload for each type, which MSL has and C++ does not give for free.

`include/metal_stdlib` is the half that is written by hand, and includes what `overloads()` returns as `refsam_overloads`.
"""

from collections.abc import Iterator
from functools import cache

from refsam.emulator.ulps import ABSOLUTE, ULPS
from refsam.emulator.vectors import COMPONENTS, FLOATS, INTEGERS, SCALARS, WIDTHS, types

BITS = {name: 8 << place // 2 for place, name in enumerate(INTEGERS)}
UNSIGNED = {8: "uchar", 16: "ushort", 32: "uint", 64: "ulong"}
PRECISE = (
    "exp", "exp2", "exp10", "log", "log2", "log10", "sin", "cos", "tan", "sinh", "cosh", "tanh", "sqrt", "rsqrt", "asin", "acos",
    "atan",
)  # fmt: skip
TWO_ARGUMENTS = ("pow", "powr", "atan2", "fmod")
ROUNDING = {
    "floor": "floor",
    "ceil": "ceil",
    "trunc": "trunc",
    "rint": "roundeven",
    "round": "round",
    "abs": "abs",
    "fabs": "abs",
}
OF_AN_INTEGER = ("abs", "popcount", "clz", "ctz", "reverse_bits")
OF_TWO_INTEGERS = ("rotate", "mulhi", "addsat", "subsat", "hadd", "rhadd")
IN_BOTH_SPACES = (
    *ROUNDING, "fma", "fmin", "fmax", "copysign", "fract", "divide", "fdim", "ldexp", "min", "max", "min3", "max3", "median3",
    "clamp", "mix", "saturate", "sign", "smoothstep", "step", "fmin3", "fmax3", "fmedian3",
)  # fmt: skip
"""Functions that are the same in fast:: and precise:: here."""
RELATIONS = ("isnan", "isinf", "isfinite", "isnormal", "signbit")


@cache
def overloads() -> str:
    """The text of the header."""
    return "\n".join([*types(), *functions()]) + "\n"


def functions() -> Iterator[str]:
    """Everything in namespace metal that is the same for each type."""
    yield "namespace metal {"
    yield from names()
    for name in FLOATS:
        for n in (1, *WIDTHS):
            yield from float_functions(name, n)
    for name, scalar in SCALARS.items():
        for n in (1, *WIDTHS):
            yield from ordered_functions(scalar if n == 1 else f"{name}{n}", scalar, n)
    for n in WIDTHS:
        for function, operator in (("any", "||"), ("all", "&&")):
            values = f" {operator} ".join(f"a.{c}" for c in COMPONENTS[:n])
            yield f"__MTL bool {function}(bool{n} a) {{ return {values}; }}"
    for name, bits in BITS.items():
        for scalar in ("char", "signed char") if name == "char" else (name,):
            yield from integer_functions(scalar, bits)
        for n in WIDTHS:
            yield from by_component(f"{name}{n}", n, OF_AN_INTEGER, OF_TWO_INTEGERS)
            yield from by_component(f"{name}{n}", n, (), ("absdiff",), f"{UNSIGNED[bits]}{n}")
    for space in ("precise", "fast"):
        yield f"namespace {space} {{"
        yield from elementary_functions(space)
        yield "}"
    yield "#ifdef __FAST_MATH__"
    yield "using namespace fast;"
    yield "#else"
    yield "using namespace precise;"
    yield "#endif"
    yield "}"
    for name in SCALARS:
        for n in WIDTHS:
            yield f"#define {name}{n}(...) __mtl_make_{name}{n}(__VA_ARGS__)"


def names() -> Iterator[str]:
    """Types that have Metal's names without its namespace, in the namespace: metal::float4."""
    yield from (f"using ::{name};" for name in INTEGERS if name[0] == "u")
    for n in WIDTHS:
        yield f"using ::bool{n};"
        for name in SCALARS:
            yield f"using ::{name}{n}; using ::__mtl_make_{name}{n}; using ::packed_{name}{n};"


def float_functions(name: str, n: int) -> Iterator[str]:
    """Rounding, fma, mix, geometry, relations."""
    t = name if n == 1 else f"{name}{n}"
    for function, builtin in ROUNDING.items():
        yield f"__MTL {t} {function}({t} a) {{ return __builtin_elementwise_{builtin}(a); }}"
    yield f"__MTL {t} fma({t} a, {t} b, {t} c) {{ return __builtin_elementwise_fma(a, b, c); }}"
    yield f"__MTL {t} fmin({t} a, {t} b) {{ return __builtin_elementwise_min(a, b); }}"
    yield f"__MTL {t} fmax({t} a, {t} b) {{ return __builtin_elementwise_max(a, b); }}"
    for function in ("min", "max"):
        yield f"__MTL {t} f{function}3({t} a, {t} b, {t} c) {{ return f{function}(f{function}(a, b), c); }}"
    yield f"__MTL {t} fmedian3({t} a, {t} b, {t} c) {{ return fmax(fmin(a, b), fmin(fmax(a, b), c)); }}"
    yield f"__MTL {t} copysign({t} a, {t} b) {{ return __builtin_elementwise_copysign(a, b); }}"
    yield f"__MTL {t} mix({t} a, {t} b, {t} c) {{ return a + (b - a) * c; }}"
    yield f"__MTL {t} divide({t} a, {t} b) {{ return a / b; }}"
    yield f"__MTL {t} fdim({t} a, {t} b) {{ return __builtin_elementwise_max(a - b, ({t})0); }}"
    yield (f"__MTL {t} saturate({t} a) {{ return __builtin_elementwise_min(__builtin_elementwise_max(a, ({t})0), ({t})1); }}")
    body = "a = saturate((a - low) / (high - low)); return a * a * (3 - 2 * a);"
    yield f"__MTL {t} smoothstep({t} low, {t} high, {t} a) {{ {body} }}"
    if n == 1:
        # The difference rounds to 1 for a small negative number. NaN stays: it is not at least 1.
        below_1 = {"float": "0x1.fffffep-1f", "half": "(half)0x1.ffcp-1f"}[name]
        yield f"__MTL {t} fract({t} a) {{ {t} x = a - __builtin_elementwise_floor(a); return x >= 1 ? {below_1} : x; }}"
        yield f"__MTL {t} step({t} edge, {t} a) {{ return a < edge ? ({t})0 : ({t})1; }}"
        yield f"__MTL {t} sign({t} a) {{ return a > 0 ? ({t})1 : a < 0 ? ({t})-1 : copysign(({t})0, a); }}"
        for function in RELATIONS:
            yield f"__MTL bool {function}({t} a) {{ return __builtin_{function}({'(float)' * (function == 'signbit')}a); }}"
        yield f"__MTL bool isunordered({t} a, {t} b) {{ return isnan(a) || isnan(b); }}"
        yield f"__MTL bool isordered({t} a, {t} b) {{ return !isunordered(a, b); }}"
        yield f"__MTL {t} ldexp({t} a, int n) {{ return ({t})__mtl_ldexp((float)a, n); }}"
        return
    for function in RELATIONS:
        values = ", ".join(f"{function}(a.{c})" for c in COMPONENTS[:n])
        yield f"__MTL bool{n} {function}({t} a) {{ return bool{n}({values}); }}"
    yield from by_component(t, n, ("fract", "sign"), ("step",))
    for function in ("isunordered", "isordered"):
        values = ", ".join(f"{function}(a.{c}, b.{c})" for c in COMPONENTS[:n])
        yield f"__MTL bool{n} {function}({t} a, {t} b) {{ return bool{n}({values}); }}"
    products = " + ".join(f"a.{c} * b.{c}" for c in COMPONENTS[:n])
    yield f"__MTL {t} mix({t} a, {t} b, {name} c) {{ return a + (b - a) * c; }}"
    yield f"__MTL {name} dot({t} a, {t} b) {{ return {products}; }}"
    yield f"__MTL {name} length_squared({t} a) {{ return dot(a, a); }}"
    yield f"__MTL {name} distance_squared({t} a, {t} b) {{ return dot(a - b, a - b); }}"
    if n == 3:
        yield f"__MTL {t} cross({t} a, {t} b) {{ return a.yzx * b.zxy - a.zxy * b.yzx; }}"
    yield f"__MTL {t} reflect({t} i, {t} normal) {{ return i - 2 * dot(normal, i) / dot(normal, normal) * normal; }}"
    yield f"__MTL {t} faceforward({t} normal, {t} i, {t} seen) {{ return dot(seen, i) < 0 ? normal : -normal; }}"


def by_component(t: str, n: int, of_one: tuple[str, ...], of_two: tuple[str, ...], result: str = "") -> Iterator[str]:
    """Functions of one and of two arguments, for vectors of n; `result` where it is of another type."""
    result = result or t
    for function in of_one:
        values = ", ".join(f"{function}(a.{c})" for c in COMPONENTS[:n])
        yield f"__MTL {result} {function}({t} a) {{ return ({result})({values}); }}"
    for function in of_two:
        values = ", ".join(f"{function}(a.{c}, b.{c})" for c in COMPONENTS[:n])
        yield f"__MTL {result} {function}({t} a, {t} b) {{ return ({result})({values}); }}"


def ordered_functions(t: str, scalar: str, n: int) -> Iterator[str]:
    """min, max, median, clamp, select."""
    for function in ("min", "max"):
        yield f"__MTL {t} {function}({t} a, {t} b) {{ return __builtin_elementwise_{function}(a, b); }}"
        yield f"__MTL {t} {function}3({t} a, {t} b, {t} c) {{ return {function}({function}(a, b), c); }}"
        if n > 1:
            yield f"__MTL {t} {function}({t} a, {scalar} b) {{ return __builtin_elementwise_{function}(a, ({t})b); }}"
    yield (
        f"__MTL {t} clamp({t} a, {t} low, {t} high) "
        "{ return __builtin_elementwise_min(__builtin_elementwise_max(a, low), high); }"
    )
    yield f"__MTL {t} median3({t} a, {t} b, {t} c) {{ return max(min(a, b), min(max(a, b), c)); }}"
    if n == 1:
        yield f"__MTL {t} select({t} a, {t} b, bool c) {{ return c ? b : a; }}"
        return
    chosen = ", ".join(f"c.{x} ? b.{x} : a.{x}" for x in COMPONENTS[:n])
    yield f"__MTL {t} clamp({t} a, {scalar} low, {scalar} high) {{ return clamp(a, ({t})low, ({t})high); }}"
    yield f"__MTL {t} select({t} a, {t} b, bool{n} c) {{ return ({t})({chosen}); }}"


def integer_functions(t: str, bits: int) -> Iterator[str]:
    """Of one integer. Bits are counted in the type's own width: C++ would widen a short, and narrow a long, without a word."""
    unsigned = UNSIGNED[bits]
    wide = "unsigned __int128" if bits == 64 else "ulong"  # its lower half is the same for signed numbers
    own = f"(ulong)({unsigned})a"
    yield f"__MTL {t} abs({t} a) {{ return a < 0 ? ({t})-a : a; }}"
    difference = f"a > b ? ({unsigned})a - ({unsigned})b : ({unsigned})b - ({unsigned})a"
    yield f"__MTL {unsigned} absdiff({t} a, {t} b) {{ return ({unsigned})({difference}); }}"
    yield f"__MTL {t} popcount({t} a) {{ return ({t})__builtin_popcountl({own}); }}"
    yield f"__MTL {t} clz({t} a) {{ return ({t})(a ? __builtin_clzl({own}) - {64 - bits} : {bits}); }}"
    yield f"__MTL {t} ctz({t} a) {{ return ({t})(a ? __builtin_ctzl({own}) : {bits}); }}"
    yield f"__MTL {t} reverse_bits({t} a) {{ return ({t})__builtin_bitreverse{bits}(({unsigned})a); }}"
    yield f"__MTL {t} rotate({t} a, {t} b) {{ return ({t})__builtin_rotateleft{bits}(({unsigned})a, ({unsigned})b); }}"
    yield f"__MTL {t} mulhi({t} a, {t} b) {{ return ({t})((({wide})a * ({wide})b) >> {bits}); }}"
    yield f"__MTL {t} addsat({t} a, {t} b) {{ return __builtin_elementwise_add_sat(a, b); }}"
    yield f"__MTL {t} subsat({t} a, {t} b) {{ return __builtin_elementwise_sub_sat(a, b); }}"
    yield f"__MTL {t} hadd({t} a, {t} b) {{ return ({t})((a & b) + ((a ^ b) >> 1)); }}"
    yield f"__MTL {t} rhadd({t} a, {t} b) {{ return ({t})((a | b) - ((a ^ b) >> 1)); }}"


def elementary_functions(space: str) -> Iterator[str]:
    """exp, sin and so on for float and its vectors; half through float."""
    yield from (f"using metal::{function};" for function in IN_BOTH_SPACES)
    for function in PRECISE:
        scalar = f"__mtl_{function}(x)" if space == "precise" else f"__mtl_fast_{function}(x)"
        yield f"__MTL float {function}(float x) {{ return {scalar}; }}"
        yield f"__MTL half {function}(half x) {{ return (half)__mtl_{function}((float)x); }}"
    for function in TWO_ARGUMENTS:
        fast = {"atan2": "__mtl_fast_atan2(x, y)", "fmod": "__mtl_fmod(x, y)"}.get(function, "exp2(y * log2(x))")
        body = fast if space == "fast" else f"__mtl_{function.removesuffix('r')}(x, y)"
        yield f"__MTL float {function}(float x, float y) {{ return {body}; }}"
        yield f"__MTL half {function}(half x, half y) {{ return (half){function}((float)x, (float)y); }}"
    for name in FLOATS:
        yield sincos(name)
        for n in WIDTHS:
            t = f"{name}{n}"
            yield from by_component(t, n, PRECISE, TWO_ARGUMENTS)
            yield sincos(t)
            yield f"__MTL {name} length({t} a) {{ return sqrt(dot(a, a)); }}"
            yield f"__MTL {name} distance({t} a, {t} b) {{ return length(a - b); }}"
            yield f"__MTL {t} normalize({t} a) {{ return a * rsqrt(dot(a, a)); }}"


def sincos(t: str) -> str:
    """The sine is returned."""
    return f"__MTL {t} sincos({t} a, __private {t} &cosine) {{ cosine = cos(a); return sin(a); }}"


@cache
def noise() -> str:
    """The header that says what noise each fast function gets; without -D__MTL_NOISE they are exact."""
    return "\n".join(line for name in PRECISE for line in noisy(name)) + "\n"


def noisy(name: str) -> Iterator[str]:
    """__mtl_noisy_NAME(x): the exact value, moved within the bounds of ulps.py."""
    if name not in ULPS and name not in ABSOLUTE:
        return
    exact = f"__mtl_{name}(x)"
    result = f"__mtl_noise({exact}, {ULPS[name]})" if name in ULPS else exact
    if name in ABSOLUTE:
        where, bound = ABSOLUTE[name]
        result = f"({where}) ? __mtl_noise_absolute({exact}, {bound}) : {result}"
    yield "#ifdef __MTL_NOISE"
    yield f"__MTL float __mtl_noisy_{name}(float x) {{ return {result}; }}"
    yield "#else"
    yield f"__MTL float __mtl_noisy_{name}(float x) {{ return {exact}; }}"
    yield "#endif"
