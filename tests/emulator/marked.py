"""Kernels of the tests: small .metal files whose first line says how to run them and whose comments say what is wrong."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from refsam import emulator

KERNELS = Path(__file__).parent / "kernels"


@dataclass(frozen=True)
class Marked:
    """`// run: count=64 group_size=64 buffers=256,4:65` (a buffer of 256 zero bytes, one of 4 bytes that holds 65), and in a
    faulty kernel `// FAULT text` on the line that the message has to name."""

    name: str
    source: str

    @property
    def settings(self) -> dict[str, str]:
        return dict(re.findall(r"(\w+)=(\S+)", self.source.splitlines()[0]))

    @property
    def fault(self) -> tuple[int, str]:
        """(line, what the message says of it)."""
        [found] = [(i, m[1]) for i, row in enumerate(self.source.splitlines(), 1) if (m := re.search(r"// FAULT (.+)", row))]
        return found

    def run(self, **options: Any) -> list[emulator.Buffer]:
        """Run on a new device; the file's group size and step limit unless others are given."""
        settings = self.settings
        own = {name: int(settings[name]) for name in ("group_size", "step_limit") if name in settings}
        device = emulator.Device(**{**own, **options})
        buffers = [device.buffer(_content(text)) for text in settings["buffers"].split(",")]
        device.kernel(self.source).function("k")(int(settings["count"]), *buffers)
        return buffers


def _content(text: str) -> Any:
    size, _, value = text.partition(":")
    return np.full(int(size) // 4, int(value), np.uint32) if value else int(size)


def marked(folder: str) -> dict[str, Marked]:
    """Name -> kernel of one folder."""
    return {path.stem: Marked(path.stem, path.read_text("utf-8")) for path in sorted((KERNELS / folder).glob("*.metal"))}
