"""A whole process from nothing to its first mask; the parent times it from outside.  Its last line of output is JSON."""

import json
import sys
from pathlib import Path
from time import perf_counter
from typing import Any


def main(builder: str, settings: str, row: str) -> None:
    """`row` is cold_start, from a ready tensor to mask logits, or photo, from a JPEG to masks of its size."""
    begin = perf_counter()
    from benchmarks.contenders import Contender
    from benchmarks.worker import own_stdout

    options = json.loads(settings)
    with own_stdout() as answers:
        contender = Contender("", builder).build(options)
        times = {"load": perf_counter() - begin}
        times.update(_photo(contender, options) if row == "photo" else _cold_start(contender, options))
        answers.write(json.dumps({"parts": times, "peak": peak_bytes() / 1e6, "versions": contender.versions()}) + "\n")


def _cold_start(contender: Any, options: dict[str, Any]) -> dict[str, float]:
    import numpy as np

    from benchmarks import inputs

    start = perf_counter()
    features = contender.encode(np.load(options["tensor"]))
    encoded = perf_counter()
    contender.decode(features, *inputs.points(1, options["side"]))
    return {"first encode": encoded - start, "first decode": perf_counter() - encoded}


def _photo(contender: Any, options: dict[str, Any]) -> dict[str, float]:
    start = perf_counter()
    contender.photo(options["photo"])
    return {"photo to masks": perf_counter() - start}


def peak_bytes() -> int:
    """The most memory that this process held. Linux's ru_maxrss counts the parent too, as it was when it made this process."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
