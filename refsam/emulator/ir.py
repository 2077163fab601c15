"""What has to be changed in clang's LLVM assembly before it becomes machine code, and what can be read from it.

Clang compiles OpenCL; the differences to Metal's model of execution are made good here, on text: no LLVM library is needed.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from itertools import count

from refsam.emulator.layout import Layout, parts
from refsam.emulator.parse import Signature, line_of, refusal

THREADGROUP_LIMIT = 32 * 1024
BARRIER = "__mtl_barrier"
BARRIERS = {
    BARRIER, "__mtl_simd_barrier", "__mtl_simd_reduce", "__mtl_simd_reduce_bits", "__mtl_simd_prefix",
    "__mtl_simd_prefix_bits", "__mtl_simd_lane", "__mtl_simd_first",
}  # fmt: skip
VARIABLE = re.compile(r"^@(\S+) = internal global (.+) (?:undef|zeroinitializer|poison)(, align \d+)$", re.MULTILINE)
FUNCTION = re.compile(r'^define [^\n]*?@"?([\w.$]+)"?\(.*?^}', re.MULTILINE | re.DOTALL)
CALL = re.compile(r'^  (?:%[\w.]+ = )?(?:\w+ )*?call [^\n]*?@"?([\w.$]+)"?\([^\n]*$', re.MULTILINE)
PRIVATE_LIMIT = 40 * 1024
"""Bytes; a fiber's stack has 64 KB (library.py)."""
LOOP = "__mtl_threads_"
"""Begins the names of the functions with a loop over threads; the kernel's number ends them."""
RED_ZONE = 8192
"""Bytes before the first and behind each threadgroup variable that belong to none, so that an access beyond its ends is seen:
rows of tiles beyond them, too. Half of them are closer to one variable, half to the next."""


@dataclass(frozen=True)
class Variable:
    """A variable in threadgroup memory."""

    symbol: str
    kernel: str
    name: str
    size: int


class Module:
    """One translation unit in LLVM assembly."""

    def __init__(self, text: str) -> None:
        self.text = text

    @cached_property
    def functions(self) -> dict[str, str]:
        """Name -> its whole definition."""
        return {match[1]: match[0] for match in FUNCTION.finditer(self.text)}

    @cached_property
    def calls(self) -> dict[str, set[str]]:
        """Function -> the functions that it calls."""
        return {name: set(re.findall(r'call [^\n]*?@"?([\w.$]+)"?\(', body)) for name, body in self.functions.items()}

    @cached_property
    def variables(self) -> list[Variable]:
        """Threadgroup memory. Only kernels have such variables, and a local name is mangled as _ZZ<length><kernel>E..."""
        layout = Layout(self.text)
        return [
            Variable(found[1], *_demangled(found[1]), layout.size(found[2]))
            for found in VARIABLE.finditer(self.text)
            if found[1].startswith("_ZZ")
        ]

    def reachable(self, function: str) -> set[str]:
        """All that it calls, directly or not, with itself."""
        seen: set[str] = set()
        todo = [function]
        while todo:
            name = todo.pop()
            if name not in seen:
                seen.add(name)
                todo += self.calls.get(name, ())
        return seen

    def has_barrier(self, kernel: str) -> bool:
        """Whether threads of this kernel ever wait for each other."""
        return bool(BARRIERS & self.reachable(self.entry(kernel)))

    def needs(self, signatures: list[Signature]) -> dict[str, dict[str, int]]:
        """Kernel -> slot -> bytes of what a reference argument refers to: clang says so on the argument."""
        found: dict[str, dict[str, int]] = {}
        for signature in signatures:
            body = self.functions[self.entry(signature.name)]
            arguments = parts(body[body.index("(") + 1 : body.index("{")].rpartition(")")[0])
            sizes = [re.search(r"dereferenceable\((\d+)\)", argument) for argument in arguments]
            pairs = zip(signature.arguments, sizes, strict=False)
            found[signature.name] = {str(a.buffer): int(size[1]) for a, size in pairs if size and a.buffer is not None}
        return found

    def entry(self, kernel: str) -> str:
        """The function with the kernel's body: newer versions of clang put a stub before it."""
        inner = f"__clang_ocl_kern_imp_{kernel}"
        return inner if inner in self.functions else kernel


def refuse_recursion(module: Module, source: str) -> None:
    """Metal has no call stack to recurse on."""
    for symbol, called in module.calls.items():
        if any(symbol in module.reachable(other) for other in called):
            name = _readable(symbol)
            raise refusal(_line_of_function(source, name), f"'{name}' calls itself: Metal has no recursion")


def refuse_calls_of_kernels(module: Module, signatures: list[Signature], source: str) -> None:
    """Only the launcher calls them, and a kernel's stub its body."""
    for signature in signatures:
        names = {signature.name, module.entry(signature.name)}
        callers = [name for name, called in module.calls.items() if names & called and name not in names and LOOP not in name]
        if callers:
            caller = _readable(callers[0])
            what = f"'{caller}' calls kernel '{signature.name}': kernels are called by the host only"
            raise refusal(_line_of_function(source, caller), what)


def refuse_too_much_threadgroup_memory(module: Module, signatures: list[Signature]) -> None:
    """Apple's limit is for each kernel; metalcompute 0.2.9 would abort the process."""
    for signature in signatures:
        used = sum(variable.size for variable in module.variables if variable.kernel == signature.name)
        if used > THREADGROUP_LIMIT:
            what = f"kernel '{signature.name}' uses {used} bytes of threadgroup memory; the limit is {THREADGROUP_LIMIT}"
            raise refusal(signature.line, what)


def refuse_large_frames(module: Module, signatures: list[Signature]) -> None:
    """A thread's private variables have to fit its stack, which is small: a group has a thousand."""
    layout = Layout(module.text)
    for signature in signatures:
        bodies = [module.functions.get(name, "") for name in module.reachable(module.entry(signature.name))]
        used = sum(layout.size(kind) for body in bodies for kind in re.findall(r" = alloca (.+?), align", body))
        if used > PRIVATE_LIMIT:
            what = f"kernel '{signature.name}' has {used} bytes of private variables; the emulator has {PRIVATE_LIMIT} a thread"
            raise refusal(signature.line, what)


def executable(text: str, *, red_zones: bool) -> str:
    """Threadgroup variables as real memory, kernels as plain functions that only the launcher calls."""

    # Clang takes OpenCL's functions for non-recursive, and a static variable of one would be kept in a register across
    # a barrier: another linkage forbids that. The section says where threadgroup memory begins and ends.
    def variable(found: re.Match[str]) -> str:
        kind = f"{{ {found[2]}, [{RED_ZONE} x i8] }}" if red_zones else found[2]
        return f'@{found[1]} = hidden global {kind} zeroinitializer, section "tgmem"{found[3]}'

    if red_zones and (first := VARIABLE.search(text)):
        zone = f'@__mtl_red_zone = hidden global [{RED_ZONE} x i8] zeroinitializer, section "tgmem", align 16\n'
        text = text[: first.start()] + zone + text[first.start() :]
    text = VARIABLE.sub(variable, text)
    text = re.sub(r"^define (?:dso_local |hidden )*spir_kernel ", "define internal ", text, flags=re.MULTILINE)
    text = re.sub(r"^define (.*@__clang_ocl_kern_imp_)", r"define internal \1", text, flags=re.MULTILINE)
    text = text.replace("define internal internal ", "define internal ").replace("define internal dso_local ", "define internal ")
    return re.sub(r"\b(?:spir_kernel|spir_func|device_kernel|cc ?7[56]) ", "", text)


def with_paths(module: Module, *, barriers: bool) -> str:
    """The runtime is told of every call in which a thread may wait, before and after it: which threads wait at one place of the
    source is a matter of all calls that lead there, and not even the last of them outlives optimisation.

    Calls are numbered as they stand in the source. Of those for barriers it is told with `barriers`; for SIMD functions always.
    """
    waits = BARRIERS if barriers else BARRIERS - {BARRIER}
    waiting = {name for name in module.functions if waits & module.reachable(name)}
    numbers = count(1)

    def call(found: re.Match[str]) -> str:
        if found[1] not in waiting:
            return found[0]
        return f"  call void @__mtl_into(i32 {next(numbers)})\n{found[0]}\n  call void @__mtl_out_of()"

    def function(found: re.Match[str]) -> str:
        return found[0] if found[1].startswith("__mtl_") else CALL.sub(call, found[0])

    declarations = "\ndeclare void @__mtl_into(i32)\ndeclare void @__mtl_out_of()\n"
    return FUNCTION.sub(function, module.text) + declarations if waiting else module.text


def loops_with_private_memory(optimised: str) -> list[str]:
    """The functions with a loop over threads in which private variables are still memory, such as an array with an index that is
    not known.

    That memory is one for all turns of the loop, each of which begins by filling it. Threads that are computed side by side
    would fill it for each other, and the launcher's promise that no turn concerns another would let them.
    """
    return [name for name, body in Module(optimised).functions.items() if name.startswith(LOOP) and " alloca " in body]


def with_dependences(text: str, loops: list[str]) -> str:
    """The same program before optimisation, without that promise for these functions."""
    for name in loops:
        body = Module(text).functions[name]
        text = text.replace(body, re.sub(r", !llvm\.access\.group !\d+", "", body))
    return text


def with_harmless_division(text: str) -> str:
    """Integer division by zero, and of the least number by -1, gives some number, as in Metal; a CPU would end the process."""
    made: dict[str, str] = {}

    def call(found: re.Match[str]) -> str:
        operation, kind, dividend, divisor = found.groups()
        name = f"__mtl_{operation}_{re.sub(r'[<> ]', '', kind)}"
        made[name] = _harmless_division(name, operation, kind)
        return f"= call {kind} @{name}({kind} {dividend}, {kind} {divisor})"

    text = re.sub(r"= ([us](?:div|rem)) (i\d+|<\d+ x i\d+>) ([^\n]+), (%[\w.]+)", call, text)
    return text + "".join(made.values())


def _harmless_division(name: str, operation: str, kind: str) -> str:
    """x / 0 is x / 1 and, of signed numbers, x / -1 is 0 - x, which exists for every x."""
    zero, one, minus_one = (_constant(kind, number) for number in (0, 1, -1))
    bits = re.sub(r"i\d+", "i1", kind)
    signed, result = operation[0] == "s", "%negative" if operation == "sdiv" else "%quotient"
    lines = [
        f"define internal {kind} @{name}({kind} %a, {kind} %b) alwaysinline {{",
        f"  %by_zero = icmp eq {kind} %b, {zero}",
        f"  %by_minus_one = icmp eq {kind} %b, {minus_one if signed else zero}",
        f"  %odd = or {bits} %by_zero, %by_minus_one",
        f"  %divisor = select {bits} %odd, {kind} {one}, {kind} %b",
        f"  %quotient = {operation} {kind} %a, %divisor",
        f"  %opposite = sub {kind} {zero}, %a",
        f"  %negative = select {bits} %by_minus_one, {kind} %opposite, {kind} %quotient",
        f"  ret {kind} {result}",
        "}\n",
    ]
    return "\n".join(lines)


def _constant(kind: str, number: int) -> str:
    """A number of this type, or a vector of it."""
    vector = re.fullmatch(r"<(\d+) x (i\d+)>", kind)
    return f"<{', '.join([f'{vector[2]} {number}'] * int(vector[1]))}>" if vector else str(number)


def with_noisy_division(text: str) -> str:
    """Every float division through the runtime, which moves its result (noise mode)."""
    text, count = re.subn(r"= fdiv [\w ]*?(float|<(\d) x float>) (\S+), ([^\s,]+)[^\n]*", _division, text)
    return text + "\ndeclare float @__mtl_divide(float, float)\n" + "".join(map(_vector_division, (2, 3, 4))) if count else text


def with_converted_nans(text: str) -> str:
    """Metal's conversions from NaN to an integer give 0; those of LLVM's `fptosi` and of x86 do not. Only those from float and
    half: double is in the runtime, which converts no NaN."""
    declared = set()

    def conversion(found: re.Match[str]) -> str:
        operation, kind, value, whole = found.groups()
        name = f"@llvm.{operation}.sat.{_suffix(whole)}.{_suffix(kind)}"
        declared.add(f"declare {whole} {name}({kind})")
        return f"= call {whole} {name}({kind} {value})"

    vector = r"<\d x {0}>|{0}"
    kind, whole = vector.format("(?:float|half)"), vector.format(r"i\d+")
    text = re.sub(rf"= (fpto[su]i) ({kind}) (\S+) to ({whole})", conversion, text)
    return "\n".join([text, *sorted(declared), ""])


def _suffix(kind: str) -> str:
    """A type as names of LLVM's functions have it: v4f32 for <4 x float>."""
    kind = kind.replace("float", "f32").replace("half", "f16")
    return re.sub(r"<(\d) x (\w+)>", r"v\1\2", kind)


def _division(found: re.Match[str]) -> str:
    name = f"__mtl_divide{found[2] or ''}"
    return f"= call {found[1]} @{name}({found[1]} {found[3]}, {found[1]} {found[4]})"


def _vector_division(n: int) -> str:
    """Component by component."""
    kind = f"<{n} x float>"
    lines = [f"define internal {kind} @__mtl_divide{n}({kind} %a, {kind} %b) alwaysinline {{"]
    for i in range(n):
        before = f"%r{i - 1}" if i else "poison"
        lines += [
            f"  %a{i} = extractelement {kind} %a, i32 {i}",
            f"  %b{i} = extractelement {kind} %b, i32 {i}",
            f"  %q{i} = call float @__mtl_divide(float %a{i}, float %b{i})",
            f"  %r{i} = insertelement {kind} {before}, float %q{i}, i32 {i}",
        ]
    return "\n".join([*lines, f"  ret {kind} %r{n - 1}", "}\n"])


def _demangled(symbol: str) -> tuple[str, str]:
    """Kernel and variable of `_ZZ5sgemmE1a`."""
    kernel, rest = _length_prefixed(symbol.removeprefix("_ZZ"))
    return kernel, _length_prefixed(rest[rest.index("E") + 1 :])[0]


def _length_prefixed(text: str) -> tuple[str, str]:
    found = re.match(r"\d+", text)
    if found is None:
        return "", text
    end = found.end() + int(found[0])
    return text[found.end() : end], text[end:]


def _readable(symbol: str) -> str:
    """The function's own name in a mangled one."""
    symbol = symbol.removeprefix("__clang_ocl_kern_imp_")
    found = re.match(r"_ZN?L?(?=\d)", symbol)
    return _length_prefixed(symbol[found.end() :])[0] if found else symbol


def _line_of_function(source: str, name: str) -> int:
    """Where it is first named as a function; 1 where that is in a macro."""
    defined = re.search(rf"\b{re.escape(name)}\s*\(", source)
    return line_of(source, defined.start()) if defined else 1
