"""The generated half of the Metal standard library: one overload for each type, which MSL has and C++ does not give for free.

`include/metal_stdlib` is the half that is written by hand, and includes what `overloads()` returns as `refsam_overloads`.
"""

from collections.abc import Iterator
from functools import cache

from refsam.emulator.ulps import ABSOLUTE, ULPS

INTEGERS = {
    "char": "signed char",
    "uchar": "unsigned char",
    "short": "short",
    "ushort": "unsigned short",
    "int": "int",
    "uint": "unsigned int",
    "long": "long",
    "ulong": "unsigned long",
}
SCALARS = {"float": "float", "half": "half", **INTEGERS}
FLOATS = ("float", "half")
WIDTHS = (2, 3, 4)
COMPONENTS = "xyzw"
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
RELATIONS = ("isnan", "isinf", "isfinite", "isnormal", "signbit")


@cache
def overloads() -> str:
    """The text of the header."""
    parts = (vector_types, bool_types, constructors, packed_types, functions)
    return "\n".join(line for part in parts for line in part()) + "\n"


def vector_types() -> Iterator[str]:
    """float2 ... ulong4."""
    for name, scalar in SCALARS.items():
        for n in WIDTHS:
            yield f"typedef {scalar} {name}{n} __attribute__((ext_vector_type({n})));"


def bool_types() -> Iterator[str]:
    """bool2 ... bool4: structures, since clang has no vectors of bool; and what comparisons.py calls to make one of clang's."""
    yield "#ifdef __MTL_TREE\n#define __MTL_FROM_INTEGERS\n#else\n#define __MTL_FROM_INTEGERS explicit\n#endif"
    for n in WIDTHS:
        yield from bool_type(n)
    yield "__MTL constexpr bool __mtl_mask(bool a) { return a; }"


def bool_type(n: int) -> Iterator[str]:
    """The structure and its operators, component by component."""
    t, components = f"bool{n}", COMPONENTS[:n]
    yield f"struct {t} {{ bool {', '.join(components)}; {t}() = default; {t}(const {t} &) = default;"
    yield f"{t} &operator=(const {t} &) = default;"
    for parts in [(n,), *partitions(n)]:
        arguments = ", ".join(f"bool{'' if p == 1 else p} a{i}" for i, p in enumerate(parts))
        values = [f"a{i}" if p == 1 else f"a{i}.{c}" for i, p in enumerate(parts) for c in COMPONENTS[:p]]
        if len(parts) > 1:
            yield f"constexpr {t}({arguments}) : {', '.join(f'{c}({v})' for c, v in zip(components, values, strict=True))} {{}}"
    yield f"constexpr explicit {t}(bool a) : {', '.join(f'{c}(a)' for c in components)} {{}}"
    yield f"{t}(const __constant {t} &a) : {', '.join(f'{c}(a.{c})' for c in components)} {{}}"
    from_vector = ", ".join(f"{c}(a.{c} != 0)" for c in components)
    yield f"template<typename E> constexpr __MTL_FROM_INTEGERS {t}(__mtl_vector<E, {n}> a) : {from_vector} {{}}"
    to_vector = ", ".join(f"(E){c}" for c in components)
    yield f"template<typename E> explicit operator __mtl_vector<E, {n}>() const {{ return (__mtl_vector<E, {n}>)({to_vector}); }}"
    yield "bool operator[](int i) const { return (&x)[i]; } };"
    yield f"template<typename E> __MTL constexpr {t} __mtl_mask(__mtl_vector<E, {n}> a) {{ return {t}(a); }}"
    yield f"__MTL constexpr {t} __mtl_mask({t} a) {{ return a; }}"
    for operator in ("&&", "||", "&", "|", "^", "==", "!="):
        values_of = ", ".join(f"bool(a.{c} {operator} b.{c})" for c in components)
        yield f"__MTL constexpr {t} operator{operator}({t} a, {t} b) {{ return {t}({values_of}); }}"
    yield f"__MTL constexpr {t} operator!({t} a) {{ return {t}({', '.join(f'!a.{c}' for c in components)}); }}"


def constructors() -> Iterator[str]:
    """float4(xy, z, w) and the like: clang has no such constructors, so a macro of that name calls an overloaded function."""
    for name, scalar in SCALARS.items():
        for n in WIDTHS:
            yield from vector_constructors(name, scalar, n)


def vector_constructors(name: str, scalar: str, n: int) -> Iterator[str]:
    """One argument (a scalar to repeat, a vector to convert), or any parts that make up `n` components."""
    vector = f"{name}{n}"
    function = f"__MTL constexpr {vector} __mtl_make_{vector}"
    yield f"{function}({scalar} a) {{ return ({vector})a; }}"
    yield f"template<typename E> {function}(__mtl_vector<E, {n}> a) {{ return __builtin_convertvector(a, {vector}); }}"
    yield f"{function}(bool{n} a) {{ return ({vector})({', '.join(f'({scalar})a.{c}' for c in COMPONENTS[:n])}); }}"
    for parts in partitions(n):
        types = [scalar if p == 1 else f"{name}{p}" for p in parts]
        arguments = ", ".join(f"{t} a{i}" for i, t in enumerate(types))
        values = ", ".join(f"a{i}" for i in range(len(parts)))
        yield f"{function}({arguments}) {{ return ({vector})({values}); }}"


def partitions(n: int) -> list[tuple[int, ...]]:
    """All ways to write n as an ordered sum of at least two parts."""
    found: list[tuple[int, ...]] = [()]
    complete = []
    while found:
        parts = found.pop()
        left = n - sum(parts)
        if left == 0:
            complete.append(parts)
        found += [(*parts, p) for p in range(1, min(left, n - 1) + 1)]
    return sorted(complete)


def packed_types() -> Iterator[str]:
    """packed_float3 and the like: a structure without padding that converts to and from the vector."""
    for name, scalar in SCALARS.items():
        for n in WIDTHS:
            yield from packed_type(name, scalar, n)


def packed_type(name: str, scalar: str, n: int) -> Iterator[str]:
    """The structure, and the vector's constructor from it in each address space."""
    packed, vector, components = f"packed_{name}{n}", f"{name}{n}", COMPONENTS[:n]
    values = ", ".join(components)
    from_vector = ", ".join(f"{c}(v.{c})" for c in components)
    spaces = ("", "__constant")
    conversions = " ".join(f"operator {vector}() const {s} {{ return ({vector})({values}); }}" for s in spaces)
    indexing = " ".join(f"{scalar} operator[](int i) const {s} {{ return (({vector})({values}))[i]; }}" for s in spaces)
    yield (
        f"struct {packed} {{ {scalar} {values}; {packed}() = default; {packed}({vector} v) : {from_vector} {{}} "
        f"{conversions} {indexing} }};"
    )
    for space in spaces:
        yield f"__MTL {vector} __mtl_make_{vector}(const {space} {packed} &a) {{ return ({vector})a; }}"


def functions() -> Iterator[str]:
    """Everything in namespace metal that is the same for each type."""
    yield "namespace metal {"
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
    for name in ("char", "short", "int", "long"):
        for n in (1, *WIDTHS):
            yield from integer_functions(name if n == 1 else f"{name}{n}")
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


def float_functions(name: str, n: int) -> Iterator[str]:
    """Rounding, fma, mix, geometry, relations."""
    t = name if n == 1 else f"{name}{n}"
    for function, builtin in ROUNDING.items():
        yield f"__MTL {t} {function}({t} a) {{ return __builtin_elementwise_{builtin}(a); }}"
    yield f"__MTL {t} fma({t} a, {t} b, {t} c) {{ return __builtin_elementwise_fma(a, b, c); }}"
    yield f"__MTL {t} fmin({t} a, {t} b) {{ return __builtin_elementwise_min(a, b); }}"
    yield f"__MTL {t} fmax({t} a, {t} b) {{ return __builtin_elementwise_max(a, b); }}"
    yield f"__MTL {t} copysign({t} a, {t} b) {{ return __builtin_elementwise_copysign(a, b); }}"
    yield f"__MTL {t} fract({t} a) {{ return a - __builtin_elementwise_floor(a); }}"
    yield f"__MTL {t} mix({t} a, {t} b, {t} c) {{ return a + (b - a) * c; }}"
    yield f"__MTL {t} divide({t} a, {t} b) {{ return a / b; }}"
    yield f"__MTL {t} fdim({t} a, {t} b) {{ return __builtin_elementwise_max(a - b, ({t})0); }}"
    yield (f"__MTL {t} saturate({t} a) {{ return __builtin_elementwise_min(__builtin_elementwise_max(a, ({t})0), ({t})1); }}")
    body = "a = saturate((a - low) / (high - low)); return a * a * (3 - 2 * a);"
    yield f"__MTL {t} smoothstep({t} low, {t} high, {t} a) {{ {body} }}"
    if n == 1:
        yield f"__MTL {t} step({t} edge, {t} a) {{ return a < edge ? ({t})0 : ({t})1; }}"
        yield f"__MTL {t} sign({t} a) {{ return a > 0 ? ({t})1 : a < 0 ? ({t})-1 : ({t})0; }}"
        for function in RELATIONS:
            yield f"__MTL bool {function}({t} a) {{ return __builtin_{function}({'(float)' * (function == 'signbit')}a); }}"
        yield f"__MTL {t} ldexp({t} a, int n) {{ return ({t})__mtl_ldexp((float)a, n); }}"
        return
    for function in RELATIONS:
        values = ", ".join(f"{function}(a.{c})" for c in COMPONENTS[:n])
        yield f"__MTL bool{n} {function}({t} a) {{ return bool{n}({values}); }}"
    products = " + ".join(f"a.{c} * b.{c}" for c in COMPONENTS[:n])
    yield f"__MTL {t} mix({t} a, {t} b, {name} c) {{ return a + (b - a) * c; }}"
    yield f"__MTL {name} dot({t} a, {t} b) {{ return {products}; }}"
    yield f"__MTL {name} length_squared({t} a) {{ return dot(a, a); }}"
    yield f"__MTL {name} distance_squared({t} a, {t} b) {{ return dot(a - b, a - b); }}"
    if n == 3:
        yield f"__MTL {t} cross({t} a, {t} b) {{ return a.yzx * b.zxy - a.zxy * b.yzx; }}"


def ordered_functions(t: str, scalar: str, n: int) -> Iterator[str]:
    """min, max, clamp, select."""
    for function in ("min", "max"):
        yield f"__MTL {t} {function}({t} a, {t} b) {{ return __builtin_elementwise_{function}(a, b); }}"
        yield f"__MTL {t} {function}3({t} a, {t} b, {t} c) {{ return {function}({function}(a, b), c); }}"
        if n > 1:
            yield f"__MTL {t} {function}({t} a, {scalar} b) {{ return __builtin_elementwise_{function}(a, ({t})b); }}"
    yield (
        f"__MTL {t} clamp({t} a, {t} low, {t} high) "
        "{ return __builtin_elementwise_min(__builtin_elementwise_max(a, low), high); }"
    )
    if n == 1:
        yield f"__MTL {t} select({t} a, {t} b, bool c) {{ return c ? b : a; }}"
        return
    chosen = ", ".join(f"c.{x} ? b.{x} : a.{x}" for x in COMPONENTS[:n])
    yield f"__MTL {t} clamp({t} a, {scalar} low, {scalar} high) {{ return clamp(a, ({t})low, ({t})high); }}"
    yield f"__MTL {t} select({t} a, {t} b, bool{n} c) {{ return ({t})({chosen}); }}"


def integer_functions(t: str) -> Iterator[str]:
    """abs and its like; bits are counted for 32-bit integers only, in metal_stdlib."""
    yield f"__MTL {t} abs({t} a) {{ return __builtin_elementwise_max(a, ({t})-a); }}"
    difference = "__builtin_elementwise_max(a, b) - __builtin_elementwise_min(a, b)"
    yield f"__MTL {t} absdiff({t} a, {t} b) {{ return ({t})({difference}); }}"


def elementary_functions(space: str) -> Iterator[str]:
    """exp, sin and so on for float and its vectors; half through float."""
    for function in PRECISE:
        scalar = f"__mtl_{function}(x)" if space == "precise" else f"__mtl_fast_{function}(x)"
        yield f"__MTL float {function}(float x) {{ return {scalar}; }}"
        yield f"__MTL half {function}(half x) {{ return (half)__mtl_{function}((float)x); }}"
        for name in FLOATS:
            for n in WIDTHS:
                values = ", ".join(f"{function}(a.{c})" for c in COMPONENTS[:n])
                yield f"__MTL {name}{n} {function}({name}{n} a) {{ return ({name}{n})({values}); }}"
    for function in TWO_ARGUMENTS:
        fast = {"atan2": "__mtl_fast_atan2(x, y)", "fmod": "__mtl_fmod(x, y)"}.get(function, "exp2(y * log2(x))")
        body = fast if space == "fast" else f"__mtl_{function.removesuffix('r')}(x, y)"
        yield f"__MTL float {function}(float x, float y) {{ return {body}; }}"
        yield f"__MTL half {function}(half x, half y) {{ return (half){function}((float)x, (float)y); }}"
        for name in FLOATS:
            for n in WIDTHS:
                values = ", ".join(f"{function}(a.{c}, b.{c})" for c in COMPONENTS[:n])
                yield f"__MTL {name}{n} {function}({name}{n} a, {name}{n} b) {{ return ({name}{n})({values}); }}"
    for name in FLOATS:
        for n in WIDTHS:
            t = f"{name}{n}"
            yield f"__MTL {name} length({t} a) {{ return sqrt(dot(a, a)); }}"
            yield f"__MTL {name} distance({t} a, {t} b) {{ return length(a - b); }}"
            yield f"__MTL {t} normalize({t} a) {{ return a * rsqrt(dot(a, a)); }}"


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
