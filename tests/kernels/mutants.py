"""Faults planted in copies of our kernels, and what notices each: the compiler, a checked run, or the comparison.

A mutant replaces one piece of text in one file. It is tried as a user would: compiled, run in checked mode on the kernel's small
cases, then compared with the definition on devices of several kinds. What notices it first is what the table says.
"""

import multiprocessing
import resource
import shutil
import signal
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from kernels.modes import runner

from refsam.errors import KernelError
from refsam.metal import sources
from refsam.metal.case import KernelCase
from refsam.metal.cases import SMALL
from refsam.metal.runner import Runner

BARRIER = "threadgroup_barrier(mem_flags::mem_threadgroup);"
STEPS = 20_000_000
"""Turns of loops that a checked dispatch of a small case may take: several times what the right kernels need."""
CHECKED = ("checked", "checked, one group", "checked, groups of 48, random order")
UNCHECKED = ("fast math", "strict", "groups of 64", "random order 2")
SECONDS = 40
"""Of processor time that the unchecked runs of a fault may take: many times what the right kernels need."""


@dataclass(frozen=True)
class Catch:
    """What noticed a fault: "compiler", "checked run", "runner", "comparison", or "end of the process"; and its words."""

    by: str
    words: str


@dataclass(frozen=True)
class Mutant:
    """One fault.

    Attributes:
        file: of kernels/, without the ending.
        fault: in words.
        old, new: the text that is replaced.
        nth: which of its occurrences, from 0.
        kernel: whose cases are run; of all kernels in the file where it is empty.
    """

    file: str
    fault: str
    old: str
    new: str
    nth: int = 0
    kernel: str = ""

    @property
    def name(self) -> str:
        """For reports."""
        return f"{self.file}: {self.fault}"

    def plant(self, folder: Path) -> Path:
        """A copy of all kernels in `folder` with this fault."""
        shutil.copytree(sources.folder(), folder)
        (path,) = folder.glob(f"{self.file}.*")
        parts = path.read_text("utf-8").split(self.old)
        assert len(parts) > self.nth + 1, f"{self.name}: {self.old!r} is not there {self.nth + 1} times"
        text = self.old.join(parts[: self.nth + 1]) + self.new + self.old.join(parts[self.nth + 1 :])
        path.write_text(text, "utf-8")
        return folder

    def cases(self, folder: Path) -> list[KernelCase]:
        """The small cases of the kernels that have the fault."""
        files = sources.kernel_files(folder)
        hosts = {path for path in files.values() if path.stem == self.file or f'"{self.file}.h"' in path.read_text("utf-8")}
        return [case for case in SMALL if files[case.kernel] in hosts and self.kernel in ("", case.kernel)]


def caught_by(mutant: Mutant, folder: Path) -> Catch | None:
    """What notices this fault first; None where nothing does."""
    planted = mutant.plant(folder)
    cases = mutant.cases(planted)
    assert cases, mutant.name
    device = runner(CHECKED[0], planted, step_limit=STEPS)
    for path in sorted({sources.kernel_files(planted)[case.kernel] for case in cases}):
        try:
            device.compile(sources.read(path))
        except KernelError as error:
            return Catch("compiler", _short(error))
    return _first_catch(cases, planted, CHECKED, step_limit=STEPS) or caught_unchecked(mutant, planted)


def _first_catch(cases: list[KernelCase], planted: Path, modes: tuple[str, ...], **options: int) -> Catch | None:
    devices = (runner(mode, planted, **options) for mode in modes)
    return next((noticed for device in devices for case in cases if (noticed := _notice(case, device))), None)


def caught_unchecked(mutant: Mutant, planted: Path, seconds: int = SECONDS) -> Catch | None:
    """Unchecked runs have no limit and end the process that they overrun: they get one of their own, and processor time."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_run_unchecked, args=(mutant, planted, seconds, theirs))
    process.start()
    theirs.close()
    process.join()
    if process.exitcode == 0:
        found: Catch | None = ours.recv()
        return found
    assert process.exitcode is not None
    assert process.exitcode < 0, f"{mutant.name}: the process of the unchecked runs failed"
    return Catch("end of the process", f"an unchecked run ends with {signal.Signals(-process.exitcode).name}")


def _run_unchecked(mutant: Mutant, planted: Path, seconds: int, answer: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))
    answer.send(_first_catch(mutant.cases(planted), planted, UNCHECKED))


def _notice(case: KernelCase, device: Runner) -> Catch | None:
    try:
        verdict = case.judge(case.run(device, *case.arguments()))
    except KernelError as error:
        return Catch("runner" if "as they were" in str(error) else "checked run", _short(error))
    return None if verdict else Catch("comparison", f"{case.name}: {verdict.required:.2g} times the bound")


def _short(error: KernelError) -> str:
    """The compiler's or the emulator's own line."""
    lines = [line for line in str(error).splitlines() if "error: " in line] or str(error).splitlines()
    return lines[0].rpartition("error: ")[2]


MATMUL, TILED, NAIVE = "matmul", "matmul_2_tiled", "matmul_1_naive"

MUTANTS = (
    # Barriers.
    Mutant("matmul", "barrier before the products removed", BARRIER, "", nth=2, kernel=MATMUL),
    Mutant("matmul", "barrier after the products removed", BARRIER, "", nth=3, kernel=MATMUL),
    Mutant("matmul", "barrier before the products removed (tiled)", BARRIER, "", nth=0, kernel=TILED),
    Mutant("matmul", "barrier after the products removed (tiled)", BARRIER, "", nth=1, kernel=TILED),
    Mutant("matmul", "barrier inside a branch", BARRIER + "\n                if (worker < WORKERS)",
           "if (worker < WORKERS - 32) " + BARRIER + "\n                if (worker < WORKERS)", kernel=MATMUL),
    Mutant("conv2d", "barrier before the products removed", BARRIER, "", kernel="conv2d"),
    Mutant("conv_transpose2d", "barrier after the products removed", BARRIER, "", nth=1, kernel="conv_transpose2d"),
    Mutant("attention", "barrier before the scores removed", BARRIER, "", kernel="attention_16"),
    Mutant("attention", "barrier before the next tile removed", BARRIER, "", nth=1, kernel="attention_16"),
    Mutant("attention", "early return before the barrier", "float4 query[W], sum[W];", "if (!live) return;\n float4 query[W], sum[W];",
           kernel="attention_16"),
    Mutant("layer_norm", "barrier before the mean removed", BARRIER, "", kernel="layer_norm"),
    Mutant("layer_norm", "barrier between mean and squares removed", BARRIER, "", nth=1, kernel="layer_norm"),
    Mutant("layer_norm", "barrier before the variance removed", BARRIER, "", nth=2, kernel="layer_norm"),
    Mutant("layer_norm", "barrier before the next rows removed", BARRIER, "", nth=3, kernel="layer_norm"),
    Mutant("gaussian_blur", "barrier before the sums removed", BARRIER, "", kernel="gaussian_blur"),
    Mutant("gaussian_blur", "barrier before the next stretch removed", BARRIER, "", nth=1, kernel="gaussian_blur"),
    # Bounds of memory.
    Mutant("matmul", "<= for < in the store's rows", "m < p.M && n + j < p.N) C", "m <= p.M && n + j < p.N) C", kernel=MATMUL),
    Mutant("matmul", "no test of the columns in the store", "m < p.M && n + j < p.N) C", "m < p.M) C", kernel=MATMUL),
    Mutant("tile", "loads without a test of the rows", "i0 + i < i_end && k0 + k < k_end", "k0 + k < k_end"),
    Mutant("tile", "loads without a test of the depth", "i0 + i < i_end && k0 + k < k_end", "i0 + i < i_end"),
    Mutant("tile", "a tile one row too long", "e < width * BK", "e < width * BK + 4 * BK"),
    Mutant("gelu", "<= for < in the tail", "i < p.n; i += grid) y[i] = gelu4(float4(x[i])).x;", "i <= p.n; i += grid) y[i] = gelu4(float4(x[i])).x;",
           nth=1, kernel="gelu"),
    Mutant("relu", "no test of the length", "for (uint i = gid; i < p.n; i += grid) y[i]", "uint i = gid; y[i]"),
    Mutant("depthwise_conv2d", "no test of the right border", "ix0 + i < W ? row[ix0 + i] : 0.0f", "row[ix0 + i]", kernel="depthwise_conv2d"),
    Mutant("depthwise_conv2d", "no test of the last strip", "if (ox + j < p.Wo) y", "y", kernel="depthwise_conv2d"),
    Mutant("depthwise_conv2d", "no test of upper and lower border", "if (iy < p.H)\n", "\n", kernel="depthwise_conv2d"),
    Mutant("attention", "keys beyond the end are read", "r < end && j < width", "j < width", kernel="attention_32"),
    Mutant("attention", "no test of the last queries", "i < p.lq;", "i <= p.lq;", kernel="attention_16"),
    Mutant("preprocess", "first source one to the right", "uint(first[x]) + t", "uint(first[x]) + t + 1"),
    Mutant("taps", "no clamp at the far end", "min(near + 1, n_in - 1)", "near + 1"),
    Mutant("gaussian_blur", "stretch without room for the kernel", "SPAN + 2 * MAX_RADIUS", "SPAN", kernel="gaussian_blur"),
    Mutant("layer_norm", "room for 64 threads only", "partial[1024]", "partial[64]", kernel="layer_norm"),
    # Wrong numbers.
    Mutant("matmul", "wrong stride of A", "1 : p.K, a_k", "1 : p.M, a_k", nth=2, kernel=MATMUL),
    Mutant("matmul", "bias of the wrong axis", "kind == 1 ? n : m", "kind == 1 ? m : n"),
    Mutant("matmul", "one batch too few", "tile < p.batches * down * across", "tile < (p.batches - 1) * down * across + 1", nth=1, kernel=MATMUL),
    Mutant("tile", "a row of products dropped", "acc[7] = fma(float4(lower.w), b, acc[7]);", ""),
    Mutant("tile", "a factor rounded to half precision", "acc[3] = fma(float4(upper.w), b, acc[3]);",
           "acc[3] = fma(float4(float(half(upper.w))), b, acc[3]);"),
    Mutant("erf", "tanh's coefficient for GELU", "0.70710678f", "0.70f"),
    Mutant("erf", "a digit of a coefficient", "0.0051895054f", "0.0051995054f"),
    Mutant("layer_norm", "eps outside the root", "rsqrt(variance + p.eps)", "(rsqrt(variance) + p.eps)", kernel="layer_norm"),
    Mutant("layer_norm_2d", "unbiased variance", "variance / float(p.C)", "variance / float(p.C - 1)"),
    Mutant("batch_norm", "mean added", "bias[c] - mean[c]", "bias[c] + mean[c]"),
    Mutant("attention", "no subtraction of the greatest", "exp(scores[j] - top)", "exp(scores[j])", kernel="attention_16"),
    Mutant("attention", "no shrinking of earlier tiles", "fma(sum[w], float4(shrink), part[w])", "sum[w] + part[w]", kernel="attention_16"),
    Mutant("attention", "bias of another head", "job % p.heads * p.lq + i", "job * p.lq + i", nth=1, kernel="attention_16"),
    Mutant("attention", "zeros among the keys count", "const uint keys = min(KEYS, p.lk - j0);", "const uint keys = KEYS;", kernel="attention_16"),
    Mutant("conv2d", "kernel flipped", "n % p.Wo * p.stride + t - p.padding", "n % p.Wo * p.stride + (p.size - 1 - t) - p.padding", kernel="conv2d"),
    Mutant("conv_transpose2d", "rows and columns of a patch swapped", "s = m / 2 % 2, t = m % 2", "t = m / 2 % 2, s = m % 2", kernel="conv_transpose2d"),
    Mutant("depthwise_conv2d", "weights of the neighbour", "plane % p.C * 9;", "plane % p.C * 9 + 1;", kernel="depthwise_conv2d"),
    Mutant("taps", "corners for centres", "(2 * target + half_pixel)", "(2 * target)"),
    Mutant("preprocess", "truncated, not rounded", "(sum + (1 << 21)) >> 22", "sum >> 22"),
    Mutant("bilinear", "another threshold", "> p.threshold", "> p.threshold + 0.01f"),
    # Races between groups.
    Mutant("matmul", "all groups write the first tile", "const uint batch = tile / across / down, m0 = tile / across % down * BM",
           "const uint batch = 0 * (tile / across / down), m0 = tile / across % down * 0", kernel=MATMUL),
    Mutant("layer_norm_2d", "neighbours write one element", "const uint at = start + c * p.pixels;", "const uint at = start / 2 + c * p.pixels;"),
    # What the language or Metal 2.3 does not allow.
    Mutant("matmul", "double", "float sum = 0.0f;", "double sum = 0.0;", kernel=NAIVE),
    Mutant("matmul", "33 KB of threadgroup memory", "threadgroup float4 As[BK * A_ROW];", "threadgroup float4 As[BK * A_ROW + 512];", kernel=MATMUL),
    Mutant("erf", "recursion", "return 0.5f * fma", "if (x.x > 100.0f) return gelu4(x - 1.0f);\n    return 0.5f * fma"),
    Mutant("gelu", "pointer without address space", "device const float4 *x4 = (device const float4 *)x;", "const float4 *x4 = (const float4 *)x;"),
    Mutant("gelu", "buffer argument without address space", "device float *y [[buffer(1)]]", "float *y [[buffer(1)]]"),
    Mutant("relu", "write through a const pointer", "device float *y [[buffer(1)]]", "device const float *y [[buffer(1)]]"),
    Mutant("relu", "function of the C library", "max(x[i], 0.0f)", "fmaxf(x[i], 0.0f)"),
    Mutant("relu", "ambiguous overload", "max(x[i], 0.0f)", "max(x[i], 0)"),
    Mutant("layer_norm", "threadgroup memory in a helper", "float sum = 0.0f;\n    for (uint i = 0; i < lanes; i++) sum += partial[i];",
           "threadgroup float sum; sum = 0.0f;\n    for (uint i = 0; i < lanes; i++) sum += partial[i];"),
    Mutant("layer_norm", "device pointer given for a threadgroup pointer", "row_sum(partial + slot * lanes, lanes)", "row_sum(x + slot * lanes, lanes)"),
    Mutant("batch_norm", "variable at program scope", "kernel void", "device float total;\nkernel void"),
    Mutant("batch_norm", "two buffers with one index", "[[buffer(4)]]", "[[buffer(3)]]"),
    Mutant("conv2d", "goto", "float v = 0.0f;", "float v = 0.0f; goto done; done:"),
    Mutant("bilinear", "long long", "for (uint n = gid; n < p.planes", "for (long long n = gid; n < p.planes"),
    Mutant("preprocess", "division by zero", "const uint x = n % p.w, row = n / p.w;", "const uint x = n % (p.w - p.w), row = n / p.w;"),
    # Between host and device.
    Mutant("preprocess", "float3 read where a packed one would lie", "- p.mean)",
           "- float3(*(constant packed_float3 *)((constant uchar *)&p + 20)))"),
    Mutant("preprocess_bilinear", "float3 read as if it took 12 bytes", "/ p.deviation", "/ float3(*(constant packed_float3 *)((constant uchar *)&p.mean + 12))"),
    Mutant("layer_norm", "parameters in another order", "uint rows, C;\n    float eps;\n};", "uint rows, C;\n    float eps;\n};\nstruct Swapped {\n    uint C, rows;\n    float eps;\n};\n#define LayerNormParams Swapped"),
    Mutant("batch_norm", "two buffers swapped", "variance [[buffer(2)]],\n                       device const float *weight [[buffer(3)]]", "variance [[buffer(3)]],\n                       device const float *weight [[buffer(2)]]"),
)  # fmt: skip
