"""How many threads compute: as many as were asked for, else as many as there are CPUs that this process may use."""

import math
import os
from pathlib import Path

from refsam.arguments import whole_number
from refsam.errors import InputError

THREADS_VARIABLE = "REFSAM_THREADS"
CGROUP = Path("/sys/fs/cgroup")
"""Where Linux shows a container its own limits."""


def thread_count(threads: int | None = None) -> int:
    """`threads`, else $REFSAM_THREADS, else the CPUs that this process may use. Raises InputError for less than 1."""
    if threads is not None:
        return whole_number("threads", threads, 1)
    text = os.environ.get(THREADS_VARIABLE)
    if not text:
        return usable_cpus()
    if not text.strip().isdecimal() or int(text) < 1:
        raise InputError(f"{THREADS_VARIABLE} is {text}; it has to be a whole number from 1")
    return int(text)


def usable_cpus(cgroup: Path = CGROUP) -> int:
    """The CPUs of this process's affinity, and no more than a container's quota pays for; at least 1.

    Threads beyond a quota are stopped by the system for the rest of each period, all at once.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return math.ceil(min(affinity, quota(cgroup)))


def quota(cgroup: Path = CGROUP) -> float:
    """CPU seconds per second; infinite where there is no limit or none can be read (cgroup version 2, then 1)."""
    for read in (_version_2, _version_1):
        try:
            allowed, period = read(cgroup)
        except (OSError, ValueError):
            continue
        if allowed > 0 and period > 0:
            return allowed / period
    return math.inf


def _version_2(cgroup: Path) -> tuple[int, int]:
    """ "200000 100000" in microseconds, or "max 100000"."""
    allowed, period = (cgroup / "cpu.max").read_text().split()
    return int(allowed), int(period)


def _version_1(cgroup: Path) -> tuple[int, int]:
    """A quota of -1 is none."""
    allowed, period = ((cgroup / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
    return int(allowed), int(period)
