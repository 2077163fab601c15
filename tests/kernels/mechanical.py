"""Random faults: one token of a kernel replaced by another, chosen by a seed and by nobody.

The faults of mutants.py were thought of, and the cases grew with them. These were not: they measure how much of what can go wrong
is noticed.
"""

import random
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kernels.mutants import STEPS, Mutant

from refsam.errors import KernelError
from refsam.metal import sources
from refsam.metal.cases import SMALL
from refsam.metal.device import open_device
from refsam.metal.runner import Runner

OPERATORS = {
    "+": "-*", "-": "+*", "*": "+/", "/": "*%", "%": "/*", "<": ("<=", ">"), "<=": ("<", ">"), ">": (">=", "<"), ">=": (">",),
    "==": ("!=",), "!=": ("==",), "&&": ("||",), "||": ("&&",), "+=": ("-=", "="), "-=": ("+=",), "*=": ("+=",), "++": ("--",),
}  # fmt: skip
TOKEN = re.compile(
    r"(?P<comment>//[^\n]*)|(?P<barrier>threadgroup_barrier\([^;]*;)"
    r"|(?P<fixed>\[\[.*?\]\]|#[^\n]*|\bkernel\s+void\s+\w+|template <[^>]*>|\w+\s*(?=\()|\w+<\w+>|(?:float|uchar|uint) \*)"
    r"|(?P<number>\b0x\w+|(?<![\w.])\d+\.?\d*(?:e-?\d+)?[fu]?\b)"
    r"|(?P<name>\b[A-Za-z_]\w*\b)|(?P<operator>\+\+|[-+*/%<>=!]=|&&|\|\||[-+*/%<>])"
)
COUNTS = re.compile(r"\buint ((?:\w+(?: = [^;]*?)?, )*\w+(?: = [^;]*?)?)[;)]")
"""Declarations of whole numbers: indices, sizes, fields of the parameters."""


EQUIVALENT: dict[str, str] = {
    "matmul: line 92: `0.0f` -> `1.0f` in `As[i][j] = m0 + i < p.M && k0 + j < p.K ? a[(m0 + i) * a_m + ("
    "k0 + j) * a_k] : 0.0f;`": "the other factor is 0 there (or the row is not stored)",
    "tile: line 7: `1` -> `2` in `constant constexpr uint A_ROW = BM / 4 + 1;  // float4s in a row of a t"
    "ile; one is empty, so that a column is not all in one bank`": "rows lie further apart in threadgroup memory, no more",
}
"""Fault of evidence.py's seed -> why no result that the kernel promises changes."""


@dataclass(frozen=True)
class Site:
    """A token that can be another: where it begins, what it is, what it may become."""

    at: int
    old: str
    choices: tuple[str, ...]


def sites(text: str) -> list[Site]:
    """All of a file, in order. What is no code is left out: comments, attributes, preprocessor lines, names of functions."""
    body = text.index("#include")
    found = []
    for match in TOKEN.finditer(text, body):
        choices = tuple(new for new in _choices(text, match) if not same_number(new, match[0]))
        if choices:
            found.append(Site(match.start(), match[0], choices))
    return found


def _choices(text: str, match: re.Match[str]) -> Iterator[str]:
    old = match[0]
    if match["barrier"]:
        yield ""
    elif match["operator"]:
        yield from OPERATORS.get(old, ())
    elif match["number"] and "." in old:
        yield from (f"{float(old.rstrip('f')) * factor + shift!r}f" for factor, shift in ((1.01, 0), (-1, 0), (1, 1)))
    elif match["number"] and old.rstrip("u").isdigit():
        yield from (str(n) for n in (int(old.rstrip("u")) + 1, int(old.rstrip("u")) - 1) if n >= 0)
    elif match["name"]:
        field = text[match.start() - 2 : match.start()] == "p."
        names = counts(text) if field else counts(text[max(0, match.start() - 1200) : match.start()])
        yield from (name for name in names if old in names and name != old)


def counts(text: str) -> list[str]:
    """Names of whole numbers that are declared in a text."""
    return sorted({name for found in COUNTS.finditer(text) for name in re.findall(r"(?:^|, )(\w+)(?= =|,|$)", found[1])})


def same_number(new: str, old: str) -> bool:
    """Whether both are numbers, and the same one: -0.0f for 0.0f."""
    try:
        return float(new.rstrip("fu")) == float(old.rstrip("fu"))
    except ValueError:
        return False


def mutants(seed: int, count: int) -> list[Mutant]:
    """So many faults, each at another token, spread over all files by their number of tokens."""
    rng = random.Random(seed)
    folder = sources.folder()
    all_sites = [(path, site) for path in sorted(folder.glob("*")) if path.suffix in (".metal", ".h") and path.stem != "canary"
                 for site in sites(_code(path))]  # fmt: skip
    return [_mutant(path, site, rng) for path, site in rng.sample(all_sites, count)]


def _code(path: Path) -> str:
    """A header has no #include, from which code begins."""
    text = path.read_text("utf-8")
    return text if "#include" in text else "#include\n" + text


def _mutant(path: Path, site: Site, rng: random.Random) -> Mutant:
    text = path.read_text("utf-8")
    at = site.at - (len(_code(path)) - len(text))
    new = rng.choice(site.choices)
    line = text.count("\n", 0, at)
    shown = text.splitlines()[line].strip()
    fault = f"line {line + 1}: `{site.old}` -> `{new}` in `{shown}`"
    return Mutant(path.stem, fault, site.old, new, nth=text[:at].count(site.old))


def broken(seed: int, faults: int = 4) -> tuple[Path, str]:
    """One of our kernel files, and its text with several faults at once: something that nobody would write.

    Operators, numbers and barriers only: of four names that become others, one is nearly always unknown to the compiler there,
    and what it refuses does not run.
    """
    rng = random.Random(seed)
    path = rng.choice([path for path in sorted(sources.folder().glob("*.metal")) if path.stem != "canary"])
    text = sources.read(path)
    chosen = [site for site in sites(text) if not site.old.isidentifier()]
    for site in sorted(rng.sample(chosen, min(faults, len(chosen))), key=lambda site: -site.at):
        text = text[: site.at] + rng.choice(site.choices) + text[site.at + len(site.old) :]
    return path, text


def outcome(seed: int, folder: Path) -> str:
    """What becomes of `broken(seed)` in checked mode: "refused", "fault", "wrong" or "right". Anything else is for the caller."""
    path, text = broken(seed)
    shutil.copytree(sources.folder(), folder)
    (folder / path.name).write_text(text, "utf-8")
    device = Runner(open_device("emulator", checked=True, step_limit=STEPS, group_size=64, seed=seed), folder)
    files = sources.kernel_files(folder)
    for case in (case for case in SMALL if files[case.kernel].name == path.name):
        try:
            if not case.judge(case.run(device, *case.arguments())):
                return "wrong"
        except KernelError as error:
            return "refused" if "the compiler refuses" in str(error) else "fault"
    return "right"
