"""What a run is taken on."""

import os
import platform
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from benchmarks import idle, pool


def machine() -> dict[str, Any]:
    """The machine, and how samples are checked."""
    check = f"others < {100 * idle.SHARE:.0f} % CPU" if idle.is_checked() else f"none on {sys.platform}: keep the machine quiet"
    return {
        "started": f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
        "platform": _platform(),
        "cpu": _cpu(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "idle_check": check,
        "unset_in_workers": pool.unset_here(),
    }


def _platform() -> str:
    """System and C library, without the kernel's own name."""
    return " ".join(filter(None, (platform.system(), platform.machine(), *platform.libc_ver())))


def _cpu() -> str:
    """The processor's name where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
