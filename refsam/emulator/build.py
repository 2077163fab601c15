"""From the text of a .metal file to something that runs: clang as a front end, changes to its LLVM assembly, clang as a back end.

Metal's language is C++14 with address spaces, and so is clang's "C++ for OpenCL"; Metal's names for the spaces are macros
(include/metal_stdlib). Code is compiled as 64-bit code of this CPU.
"""

import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from refsam.emulator import cache, comparisons, headers, ir, lint, parse, templates
from refsam.emulator.error import error
from refsam.emulator.facts import Facts
from refsam.emulator.instrument import instrument
from refsam.emulator.options import Options
from refsam.emulator.parse import Signature
from refsam.emulator.toolchain import CompileError, Toolchain, cpu, toolchain

HERE = Path(__file__).parent
SOURCE, LAUNCHER = "program_source", "launcher"
PROGRAM = "kernels"
"""The shared library of fast mode, the executable of checked mode."""
LANGUAGE = (
    "-x", "clcpp", "-cl-std=clc++2021", "-cl-no-stdinc", "-Xclang",
    "-cl-ext=-all,+cl_khr_fp16,+__opencl_c_generic_address_space", "-cl-single-precision-constant",
    "-Wno-unknown-attributes", "-Wno-nan-infinity-disabled", "-Wuninitialized", "-Wsometimes-uninitialized",
    "-Werror=pre-c++17-compat", "-fPIC", "-fno-stack-protector", "-fno-color-diagnostics",
)  # fmt: skip
PARSED = "library.pch"
BEGINS_WITH_LIBRARY = re.compile(r"(?:\s*#line[^\n]*)*\s*#\s*include\s*<metal_stdlib>")
REFERENCE_TO_ARRAY = re.compile(rf"\b(?:{lint.VECTOR}|half)(?=\s*\(\s*&\s*\w+\s*\)\s*\[)")
"""The type in `thread float4 (&sums)[8]`; behind any other, `(` is a call of the constructor, which is a macro."""
POINTER_TO_ARRAY = re.compile(
    rf"\b(?:device|constant|threadgroup|thread)\s+(?:(?:const|volatile)\s+)*(?:{lint.VECTOR}|half)(?:\s+(?:const|volatile))*"
    r"(?=\s*\(\s*\*\s*(?:const\s+)?\w*\s*\)\s*\[)"
)
"""The same in `threadgroup float4 (*rows)[8]`. The address space tells it from `float4(*p)[1]`, which calls the constructor."""
BY_CONTENT = ("-Xclang", "-fno-pch-timestamp", "-fpch-validate-input-files-content")
"""A cache that was copied has other times; what is in the files counts."""
FREESTANDING = ("-nostdinc", "-fno-exceptions", "-fno-rtti", "-fno-stack-protector", "-fPIC", "-O2")
SANITIZERS = (
    "-fsanitize=array-bounds,integer-divide-by-zero,signed-integer-overflow,float-cast-overflow",
    "-fno-sanitize-recover=all", "-gline-tables-only", "-fstrict-flex-arrays=1",
)  # fmt: skip
"""An array at the end of a structure has its length, too, unless that is 1."""
MATH = ("-nostdinc", "-ffp-contract=off", "-fno-math-errno", "-fPIC", "-O2", "-emit-llvm")


@dataclass(frozen=True)
class Compiled:
    """A file that the compiler has accepted."""

    path: Path
    signatures: list[Signature]
    facts: Facts


def compile_source(source: str, options: Options) -> Compiled:
    """Compile for fast or checked mode, or find it in the cache.

    Raises error with the compiler's words, `program_source:LINE:COLUMN: error: ...`.
    """
    tools = toolchain()
    lint.refuse_line_directives(source)
    source = templates.instantiated(parse.with_keywords(source))
    lint.refuse(lint.text_findings(source))
    signatures = parse.signatures(source)
    lint.refuse_what_has_no_library(source, signatures)
    name = cache.key(source, options.checked, options.fast_math, bool(options.noise), tools, cpu(), _own_files())

    def build(folder: Path) -> None:
        try:
            _build(folder, source, signatures, options, tools)
        except CompileError as reason:
            lint.refuse_what_is_not_compiled(str(reason), signatures)
            raise error(lint.explained(_without_paths(str(reason), folder))) from None

    folder = cache.entry(name, build)
    return Compiled(folder / PROGRAM, signatures, Facts.read(folder / "facts.json"))


def _build(folder: Path, source: str, signatures: list[Signature], options: Options, tools: Toolchain) -> None:
    """Front end, changes, back end, link."""
    text, warnings = accepted(folder, translation_unit(source, signatures), options, tools)
    module = ir.Module(text)
    ir.refuse_recursion(module, parse.without_comments(source))
    ir.refuse_calls_of_kernels(module, signatures, parse.without_comments(source))
    ir.refuse_too_much_threadgroup_memory(module, signatures)
    ir.refuse_large_frames(module, signatures)
    granule = 1
    text = ir.with_paths(module, barriers=options.checked)
    if options.checked:
        checked = instrument(ir.Module(text), SOURCE)
        text, granule = checked.text, checked.granule
    text = ir.with_converted_nans(ir.executable(text, red_zones=options.checked))
    if not options.checked:
        text = ir.with_harmless_division(text)
    if options.noise:
        text = ir.with_noisy_division(text)
    back_end(folder, text, options, tools)
    waiting = [s.name for s in signatures if module.has_barrier(s.name)]
    facts = Facts(warnings, waiting, module.needs(signatures), [v.name for v in module.variables], granule)
    facts.write(folder / "facts.json")
    keep_only(folder, PROGRAM, "facts.json")


def keep_only(folder: Path, *names: str) -> None:
    """Remove what compiling left behind: it is ten times as large as the result, and entries stay."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in names:
            path.unlink()


def accepted(folder: Path, unit: str, options: Options, tools: Toolchain) -> tuple[str, str]:
    """What `front_end` gives once clang's tree, made beside it, has nothing that Metal refuses or means otherwise."""
    with ThreadPoolExecutor(1) as second:
        assembly = second.submit(front_end, folder, unit, options, tools)
        tree = syntax_tree(folder, unit, tools)
        lint.refuse(lint.findings(tree, SOURCE))
        if not comparisons.are_in(tree, SOURCE):
            return assembly.result()
    expanded = comparisons.without_macros(preprocessed(folder, unit, options, tools), (SOURCE, LAUNCHER))
    tree = syntax_tree(folder, comparisons.numbered(expanded, SOURCE), tools)
    return front_end(folder, comparisons.with_masks(expanded, tree, SOURCE), options, tools)


def syntax_tree(folder: Path, unit: str, tools: Toolchain) -> str:
    """Clang's dump of the tree. Comparisons of vectors are as clang has them, so a bool vector takes integers here."""
    flags = ("-D__MTL_TREE", *parsed_library(unit, ("-D__MTL_TREE",), tools))
    return _on_unit(folder, "tree", unit, tools, *flags, "-fsyntax-only", "-Xclang", "-ast-dump")


def preprocessed(folder: Path, unit: str, options: Options, tools: Toolchain) -> str:
    """The text with its macros expanded."""
    return _on_unit(folder, "expanded", unit, tools, *variant(options), "-E")


def parsed_library(unit: str, flags: tuple[str, ...], tools: Toolchain) -> tuple[str | Path, ...]:
    """Flags that bring in the library as clang has it in memory, which takes a fifth of the time of reading it; none for a text
    that does not begin with it."""
    if not BEGINS_WITH_LIBRARY.match(parse.without_comments(unit)):
        return ()
    include = runtime_folder(tools) / "include"

    def build(folder: Path) -> None:
        action = ("-fsyntax-only", "-Xclang", "-emit-pch", "-Xclang", "-o", "-Xclang", folder / PARSED)
        tools.compile(*LANGUAGE, "-I", include, *flags, *BY_CONTENT, *action, include / "metal_math")

    folder = cache.entry(cache.key("library", flags, str(include), tools, cpu(), _own_files()), build)
    return ("-Xclang", "-include-pch", "-Xclang", folder / PARSED, *BY_CONTENT)


def _on_unit(folder: Path, name: str, unit: str, tools: Toolchain, *flags: str | Path) -> str:
    """What clang writes about a text, which gets a folder of this name."""
    program = folder / name / SOURCE
    program.parent.mkdir(exist_ok=True)
    program.write_text(unit, "utf-8")
    return tools.compile(*LANGUAGE, "-I", runtime_folder(tools) / "include", *flags, program, output=True)


def translation_unit(source: str, signatures: list[Signature]) -> str:
    """What clang gets: line numbers are those of the source."""
    declared = REFERENCE_TO_ARRAY.sub(r"\g<0> __mtl_no_call", source)
    declared = POINTER_TO_ARRAY.sub(r"\g<0> __mtl_no_call", declared)
    return f'#line 1 "{SOURCE}"\n{declared}\n{launcher(signatures)}'


def _without_paths(message: str, folder: Path) -> str:
    """The compiler's words without where the cache lies, and without the way through our headers to an error in a kernel."""
    lines = message.replace(f"{folder}/", "").split("\n")
    return "\n".join(line for line in lines if not line.startswith("In file included from"))


def back_end(folder: Path, text: str, options: Options, tools: Toolchain) -> None:
    """From LLVM assembly to a shared library or a program."""
    code = folder / "kernels.o"
    if options.checked:
        _from_assembly(folder, text, tools, "-O1", "-c", "-o", code)
        tools.link("-static", "-o", folder / PROGRAM, code, runtime_folder(tools) / "checker.o")
        return
    fast = optimised(folder, text, tools)
    if mixing := ir.loops_with_private_memory(fast):
        fast = optimised(folder, ir.with_dependences(text, mixing), tools)
    _from_assembly(folder, fast, tools, "-O2", "-Xclang", "-disable-llvm-passes", "-c", "-o", code)
    tools.link("-shared", "-o", folder / PROGRAM, code, runtime_folder(tools) / "library.o")


def optimised(folder: Path, text: str, tools: Toolchain) -> str:
    """LLVM assembly of the same program, for fast mode, as it is before it becomes machine code."""
    result = folder / "fast.ll"
    _from_assembly(folder, text, tools, "-O2", "-S", "-emit-llvm", "-o", result)
    return result.read_text("utf-8")


def _from_assembly(folder: Path, text: str, tools: Toolchain, *flags: str | Path) -> None:
    assembly = folder / "back.ll"
    assembly.write_text(text, "utf-8")
    tools.compile("-x", "ir", "-fPIC", "-Wno-everything", *flags, assembly)


def front_end(folder: Path, unit: str, options: Options, tools: Toolchain) -> tuple[str, str]:
    """(LLVM assembly before any optimisation, warnings)."""
    runtime = runtime_folder(tools)
    program, assembly = folder / SOURCE, folder / "front.ll"
    program.write_text(unit, "utf-8")
    flags = (*tools.target, *variant(options), "-O2")
    warnings = tools.compile(
        *LANGUAGE, "-I", runtime / "include", *flags, *parsed_library(unit, flags, tools), "-Xclang", "-disable-llvm-passes",
        "-Xclang", "-mlink-builtin-bitcode", "-Xclang", runtime / "math.bc", "-emit-llvm", "-S", "-o", assembly, program,
    )  # fmt: skip
    return assembly.read_text("utf-8"), _without_paths(warnings, folder)


def variant(options: Options) -> list[str]:
    """Flags of the kind of build."""
    # Without -mrecip=none x86's estimates would make 1/x worse than the 1 ulp that Metal promises.
    return [
        *(["-ffast-math", "-mrecip=none"] if options.fast_math else ["-ffp-contract=off"]),
        *(["-D__MTL_NOISE"] if options.noise else []),
        *(SANITIZERS if options.checked else []),
    ]


def launcher(signatures: list[Signature]) -> str:
    """The one function that the runtime calls: threads `first` to `last` of a group run kernel number `which`.

    Without barriers a kernel's loop is all there is, and the compiler may vectorise it over threads: none waits for another, so
    it need not prove that their accesses are apart. (What of that is too much, `ir.loops_with_private_memory` finds.)
    """
    loops = "".join(
        f'extern "C" __attribute__((noinline)) void {ir.LOOP}{number}(__global const __mtl_group *g, uint first, uint last) {{\n'
        "#pragma clang loop vectorize(assume_safety)\n"
        f"    for (uint t = first; t < last; t++) ::{s.name}({', '.join(a.expression() for a in s.arguments)});\n"
        "}\n"
        for number, s in enumerate(signatures)
    )
    cases = "".join(f"    case {number}: {ir.LOOP}{number}(g, first, last); break;\n" for number in range(len(signatures)))
    return (
        f'#line 1 "{LAUNCHER}"\n{loops}'
        'extern "C" void __mtl_enter(__global const __mtl_group *g, uint which, uint first, uint last) {\n'
        f"    switch (which) {{\n{cases}    }}\n}}\n"
        if signatures
        else ""
    )


def runtime_folder(tools: Toolchain) -> Path:
    """The runtime compiled once for this machine, and the headers."""
    return cache.entry(cache.key("runtime", tools, cpu(), _own_files()), lambda folder: _build_runtime(folder, tools))


def _build_runtime(folder: Path, tools: Toolchain) -> None:
    include = folder / "include"
    include.mkdir()
    for path in (HERE / "include").iterdir():
        (include / path.name).write_bytes(path.read_bytes())
    (include / "refsam_overloads").write_text(headers.overloads(), "utf-8")
    (include / "refsam_noise").write_text(headers.noise(), "utf-8")
    sources = HERE / "runtime"
    tools.compile(*MATH, *tools.target, "-c", sources / "math.cpp", "-o", folder / "math.bc")
    for name in ("library", "checker"):
        tools.compile(*FREESTANDING, "-c", sources / f"{name}.cpp", "-o", folder / f"{name}.o")


def _own_files() -> str:
    """A hash of everything of ours that shapes the result: the cache outlives an update of refsam."""
    paths = [*HERE.glob("*.py"), *(HERE / "include").iterdir(), *(HERE / "runtime").iterdir()]
    return cache.key([(path.name, path.read_bytes()) for path in sorted(paths) if path.is_file()])
