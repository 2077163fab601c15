"""What an emulated device is like: everything that differs between real GPUs, and between lucky and unlucky runs."""

from dataclasses import dataclass, field

from refsam.errors import InputError
from refsam.threads import thread_count

GROUP_LIMIT = 1024
WIDTHS = (16, 32, 64)


@dataclass(frozen=True)
class Options:
    """Options of `Device`.

    Args:
        checked: run every kernel in a process of its own with every memory access checked. What that costs depends on the kernel:
            docs/evidence/emulator.md has measured figures.
        threads: CPU threads that groups are shared out to; None: $REFSAM_THREADS, else the CPUs that this process may
            use. Checked mode uses one.
        group_size: greatest number of threads in a group; Apple's pipelines say 256 to 1024.
        simd_width: lanes of a SIMD-group, 16, 32 or 64; Apple's GPUs have 32.
        seed: 0 runs groups and SIMD-groups in order; another number shuffles both.
        fast_math: compile as Metal does by default; False: strict IEEE arithmetic, no contraction.
        noise: 0 for exact functions; another number moves each result of a fast function, of a division and of a square
            root within the bounds of the Metal specification (needs fast_math).
        flush_denormals: float32 denormals become zero, as Metal allows.
        step_limit: checked mode ends a dispatch after that many turns of loops.
    """

    checked: bool = False
    threads: int | None = None
    group_size: int = GROUP_LIMIT
    simd_width: int = 32
    seed: int = 0
    fast_math: bool = True
    noise: int = 0
    flush_denormals: bool = True
    step_limit: int = 1_000_000_000
    workers: int = field(init=False)

    def __post_init__(self) -> None:
        if self.simd_width not in WIDTHS:
            raise InputError(f"simd_width is {self.simd_width}; it is one of 16, 32, 64")
        if not self.simd_width <= self.group_size <= GROUP_LIMIT:
            raise InputError(f"group_size is {self.group_size}; it lies between the SIMD width and {GROUP_LIMIT}")
        if self.noise and not self.fast_math:
            raise InputError("noise needs fast_math: strict functions have none")
        for name in ("seed", "noise"):
            if not 0 <= getattr(self, name) < 2**32:
                raise InputError(f"{name} is {getattr(self, name)}; it is a number from 0 to 2**32 - 1")
        if self.step_limit < 1:
            raise InputError(f"step_limit is {self.step_limit}; it is 1 or more")
        workers = thread_count(self.threads)
        object.__setattr__(self, "workers", 1 if self.checked else workers)
