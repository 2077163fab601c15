"""Whether the machine had anything else to do while a sample was taken.  Linux only: other systems do not tell so cheaply."""

import contextlib
import os
import time
from pathlib import Path

SHARE = 0.05
"""Of the sample's time that all other processes may compute."""

GRAIN = 0.02
"""Seconds of computing that may not be there: the kernel counts in ticks of 10 ms."""

PATIENCE = 1.0
"""Seconds to wait for an idle machine before a turn."""


def busy_seconds(stat: Path = Path("/proc/stat")) -> float | None:
    """Seconds that all CPUs have computed since the start, stolen time of a virtual machine included; None where unknown."""
    if not stat.exists():
        return None
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, stat.read_text().split("\n", 1)[0].split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def own_seconds(proc: Path = Path("/proc")) -> float:
    """CPU seconds of this process and, on Linux, of the children that it has now: they compute for it."""
    ticks = 0
    for stat in proc.glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            fields = stat.read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12]) if int(fields[1]) == os.getpid() else 0
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def is_checked() -> bool:
    """Whether this system has a check."""
    return busy_seconds() is not None


class Watch:
    """From its making until `was_idle` is asked."""

    def __init__(self) -> None:
        self.start, self.busy, self.own = time.perf_counter(), busy_seconds(), time.process_time()

    def was_idle(self, cpu: float) -> bool:
        """Whether processes other than this one and the one measured, which used `cpu` seconds, computed next to nothing."""
        busy = busy_seconds()
        if self.busy is None or busy is None:
            return True
        others = busy - self.busy - cpu - (time.process_time() - self.own)
        return others <= max(SHARE * (time.perf_counter() - self.start), GRAIN)


def wait(patience: float = PATIENCE) -> bool:
    """Until the machine is idle, or patience ends: pools of the contender before may still be spinning. Whether it is idle."""
    if not is_checked():
        time.sleep(0.1)
        return True
    end = time.perf_counter() + patience
    while time.perf_counter() < end:
        before = busy_seconds()
        time.sleep(0.05)
        if (busy_seconds() or 0) - (before or 0) <= 0.011:  # one tick
            return True
    return False
