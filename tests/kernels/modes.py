"""The ways in which every kernel has to be right: devices that differ from each other in all that Metal leaves open."""

from pathlib import Path
from typing import Any

from refsam.metal.device import open_device
from refsam.metal.runner import MAX_THREADS, Runner

MODES: dict[str, dict[str, Any]] = {
    "fast math": {},
    "checked": {"checked": True},
    "strict": {"fast_math": False},
    "noise 1": {"noise": 1},
    "noise 2": {"noise": 2},
    "noise 3": {"noise": 3},
    "denormals kept": {"flush_denormals": False},
    "denormals kept, strict": {"flush_denormals": False, "fast_math": False},
    "groups of 16": {"group_size": 16, "simd_width": 16},
    "groups of 64": {"group_size": 64},
    "groups of 256": {"group_size": 256},
    "groups of 320": {"group_size": 320},
    "groups of 512": {"group_size": 512},
    "SIMD width 16": {"simd_width": 16},
    "SIMD width 64": {"simd_width": 64},
    "random order 1": {"seed": 1},
    "random order 2": {"seed": 2, "group_size": 192, "simd_width": 64},
    "checked, groups of 48, random order": {"checked": True, "group_size": 48, "simd_width": 16, "seed": 3},
    "one group": {"most_threads": 1, "group_size": 64},
    "checked, one group": {"checked": True, "most_threads": 1, "group_size": 256},
    "all at once": {"noise": 4, "seed": 4, "group_size": 96, "flush_denormals": False},
}
"""Name -> options of `refsam.emulator.Device`, and of the runner: how many threads it dispatches at most."""

IN_MAKE_TEST = (
    "fast math", "checked", "strict", "denormals kept, strict", "groups of 16", "checked, one group", "random order 2",
    "all at once",
)  # fmt: skip
"""One of each kind; `make evidence` runs them all."""


def runner(mode: str, folder: Path | None = None, **more: Any) -> Runner:
    """The kernels of a folder, by default ours, on a device like that (with `more` options)."""
    options = {**MODES[mode], **more}
    most_threads = options.pop("most_threads", MAX_THREADS)
    return Runner(open_device("emulator", **options), folder, most_threads)
