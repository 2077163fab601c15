"""How many groups of how many threads a dispatch becomes, and in which order they run."""

from dataclasses import dataclass

import numpy as np

from refsam.emulator.build import Compiled
from refsam.emulator.error import error
from refsam.emulator.options import Options
from refsam.types import Array, Int

LARGEST_GRID = 2**32 - 1
"""Positions in the grid are 32-bit numbers."""


@dataclass(frozen=True)
class Plan:
    """One dispatch: `groups` whole groups of `threads` threads run kernel `number` of its file."""

    kernel: str
    number: int
    groups: int
    threads: int
    waits: bool

    def order(self, seed: int) -> Int[Array, "groups"] | None:
        """The groups, shuffled by `seed`; None for 0, 1, 2 ..."""
        if seed == 0:
            return None
        return np.random.default_rng(seed).permutation(self.groups).astype(np.uint32).view(np.int32)


def plan(compiled: Compiled, name: str, count: int, options: Options) -> Plan:
    """metalcompute's arithmetic: the greatest group of whole SIMD-groups, and as many groups as `count` threads need.

    The grid is padded to whole groups: a kernel runs for threads beyond `count`, too.
    """
    number = next(i for i, s in enumerate(compiled.signatures) if s.name == name)
    threads = group_threads(compiled.signatures[number].max_threads, options)
    if threads == 0:
        limit = compiled.signatures[number].max_threads
        raise error(f"{name}: max_total_threads_per_threadgroup({limit}) is less than one SIMD-group of {options.simd_width}")
    if count <= 0:
        raise error(f"{name}: the count of threads is {count}; it has to be at least 1")
    groups = -(-count // threads)
    if groups * threads > LARGEST_GRID:
        raise error(f"{name}: {count} threads are more than a grid can number ({LARGEST_GRID})")
    return Plan(name, number, groups, threads, name in compiled.facts.waiting)


def group_threads(max_threads: int | None, options: Options) -> int:
    """Threads of a group: a multiple of the SIMD width, 0 where the kernel's limit does not allow one."""
    return min(options.group_size, max_threads or options.group_size) // options.simd_width * options.simd_width
