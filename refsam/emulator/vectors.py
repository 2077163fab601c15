"""The generated vector types of Metal's library: their names, constructors, conversions, and the packed ones."""

from collections.abc import Iterator

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


def types() -> Iterator[str]:
    """Everything."""
    for part in (vector_types, bool_types, constructors, packed_types):
        yield from part()


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
    aligned = f"__attribute__((aligned({2 if n == 2 else 4})))"
    yield f"struct {aligned} {t} {{ bool {', '.join(components)}; {t}() = default; {t}(const {t} &) = default;"
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
    """The structure, its arithmetic with a number, and the vector's constructor from it in each address space. With vectors and
    with each other packed ones are converted."""
    packed, vector, components = f"packed_{name}{n}", f"{name}{n}", COMPONENTS[:n]
    values = ", ".join(components)
    from_vector = ", ".join(f"{c}(v.{c})" for c in components)
    spaces = ("", "__constant")
    conversions = " ".join(f"operator {vector}() const {s} {{ return ({vector})({values}); }}" for s in spaces)
    indexing = " ".join(f"{scalar} operator[](int i) const {s} {{ return (({vector})({values}))[i]; }}" for s in spaces)
    given = ", ".join(f"{scalar} a{c}" for c in components)
    from_components = ", ".join(f"{c}(a{c})" for c in components)
    assigned = " ".join(
        f"{packed} &operator{o}=({vector} v) {{ return *this = {packed}(({vector})*this {o} v); }}" for o in "+-*/"
    )
    yield (
        f"struct {packed} {{ {scalar} {values}; {packed}() = default; {packed}({vector} v) : {from_vector} {{}} "
        f"{packed}({given}) : {from_components} {{}} {scalar} &operator[](int i) {{ return (&x)[i]; }} "
        f"{conversions} {indexing} {assigned} }};"
    )
    for o in "+-*/":
        yield f"__MTL {vector} operator{o}({packed} a, {scalar} b) {{ return ({vector})a {o} ({vector})b; }}"
        yield f"__MTL {vector} operator{o}({scalar} a, {packed} b) {{ return ({vector})a {o} ({vector})b; }}"
    for space in spaces:
        yield f"__MTL {vector} __mtl_make_{vector}(const {space} {packed} &a) {{ return ({vector})a; }}"
