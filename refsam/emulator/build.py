"""From the text of a .metal file to something that runs: clang as a front end, changes to its LLVM assembly, clang as a back end.

Metal's language is C++14 with address spaces, and so is clang's "C++ for OpenCL"; Metal's names for the spaces are macros
(include/metal_stdlib). Code is compiled as 64-bit code of this CPU.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from refsam.emulator import cache, headers, ir, parse
from refsam.emulator.error import error
from refsam.emulator.options import Options
from refsam.emulator.parse import Signature
from refsam.emulator.toolchain import CompileError, Toolchain, cpu, toolchain

HERE = Path(__file__).parent
SOURCE = "program_source"
LIBRARY = "kernels.so"
LANGUAGE = (
    "-x", "clcpp", "-cl-std=clc++2021", "-cl-no-stdinc", "-Xclang",
    "-cl-ext=-all,+cl_khr_fp16,+__opencl_c_generic_address_space", "-cl-single-precision-constant",
    "-Wno-unknown-attributes", "-Wno-nan-infinity-disabled", "-fPIC", "-fno-stack-protector", "-fno-color-diagnostics",
)  # fmt: skip
FREESTANDING = ("-nostdinc", "-fno-exceptions", "-fno-rtti", "-fno-stack-protector", "-fPIC", "-O2")
MATH = ("-nostdinc", "-ffp-contract=off", "-fno-math-errno", "-fPIC", "-O2", "-emit-llvm")


@dataclass(frozen=True)
class Facts:
    """What is known of a compiled file beyond its code."""

    warnings: str
    waiting: list[str]
    """Kernels whose threads wait for each other: these need fibers."""


@dataclass(frozen=True)
class Compiled:
    """A file that the compiler has accepted."""

    path: Path
    signatures: list[Signature]
    facts: Facts


def compile_source(source: str, options: Options) -> Compiled:
    """Compile for fast mode, or find it in the cache.

    Raises error with the compiler's words, `program_source:LINE:COLUMN: error: ...`.
    """
    tools = toolchain()
    signatures = parse.signatures(source)
    name = cache.key(source, options.fast_math, bool(options.noise), tools, cpu(), _own_files())

    def build(folder: Path) -> None:
        try:
            _build(folder, source, signatures, options, tools)
        except CompileError as reason:
            raise error(str(reason).replace(f"{folder}/", "")) from None

    folder = cache.entry(name, build)
    return Compiled(folder / LIBRARY, signatures, Facts(**json.loads((folder / "facts.json").read_text("utf-8"))))


def _build(folder: Path, source: str, signatures: list[Signature], options: Options, tools: Toolchain) -> None:
    """Front end, changes, back end, link."""
    runtime = runtime_folder(tools)
    text, warnings = front_end(folder, source, signatures, options, tools)
    module = ir.Module(text)
    ir.refuse_recursion(module)
    ir.refuse_too_much_threadgroup_memory(module, signatures)
    text = ir.executable(text, red_zones=False)
    if options.noise:
        text = ir.with_noisy_division(text)
    (folder / "kernels.ll").write_text(text, "utf-8")
    tools.compile("-x", "ir", "-O2", "-fPIC", "-Wno-everything", "-c", folder / "kernels.ll", "-o", folder / "kernels.o")
    tools.link("-shared", "-o", folder / LIBRARY, folder / "kernels.o", runtime / "library.o")
    facts = Facts(warnings, [s.name for s in signatures if module.has_barrier(s.name)])
    (folder / "facts.json").write_text(json.dumps(asdict(facts)), "utf-8")


def front_end(folder: Path, source: str, signatures: list[Signature], options: Options, tools: Toolchain) -> tuple[str, str]:
    """(LLVM assembly before any optimisation, warnings)."""
    runtime = runtime_folder(tools)
    program, assembly = folder / SOURCE, folder / "front.ll"
    program.write_text(f'#line 1 "{SOURCE}"\n{source}\n{launcher(signatures)}', "utf-8")
    warnings = tools.compile(
        *LANGUAGE, *tools.target, "-I", runtime / "include", *_arithmetic(options), "-O2", "-Xclang", "-disable-llvm-passes",
        "-Xclang", "-mlink-builtin-bitcode", "-Xclang", runtime / "math.bc", "-emit-llvm", "-S", "-o", assembly, program,
    )  # fmt: skip
    return assembly.read_text("utf-8"), warnings.replace(f"{folder}/", "")


def _arithmetic(options: Options) -> list[str]:
    flags = ["-ffast-math"] if options.fast_math else ["-ffp-contract=off"]
    return [*flags, "-D__MTL_NOISE"] if options.noise else flags


def launcher(signatures: list[Signature]) -> str:
    """The one function that the runtime calls: threads `first` to `last` of a group run kernel number `which`.

    Without barriers that loop is all there is, and the compiler may vectorise it over threads.
    """
    cases = "\n".join(
        f"    case {number}:\n"
        "#pragma clang loop vectorize(assume_safety)\n"
        f"        for (uint t = first; t < last; t++) {s.name}({', '.join(a.expression() for a in s.arguments)});\n"
        "        break;"
        for number, s in enumerate(signatures)
    )
    return (
        '#line 1 "launcher"\n'
        'extern "C" void __mtl_enter(__global const __mtl_group *g, uint which, uint first, uint last) {\n'
        f"    switch (which) {{\n{cases}\n    }}\n}}\n"
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
    tools.compile(*FREESTANDING, "-c", sources / "library.cpp", "-o", folder / "library.o")


def _own_files() -> str:
    """A hash of everything of ours that shapes the result: the cache outlives an update of refsam."""
    paths = [*HERE.glob("*.py"), *(HERE / "include").iterdir(), *(HERE / "runtime").iterdir()]
    return cache.key([(path.name, path.read_bytes()) for path in sorted(paths) if path.is_file()])
