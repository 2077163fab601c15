"""Damaged packages: bytes changed, pieces gone, doubled or moved. Whatever happens is a PackageError or an InputError."""

import os
import random
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
from coreml.packages import case

from refsam import coreml
from refsam.coreml.verdicts import judge_package, judge_run
from refsam.errors import InputError
from refsam.model.sam import MobileSam

SOURCE = "PromptEncoder.iOS15.fp16.mlpackage"
"""Small, and it has what is dangerous: lengths that are data, ranges, scatter."""


def damaged(data: bytes, rng: random.Random) -> bytes:
    """One to four changes: a byte, a number at the edge, a piece gone, doubled or moved."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at, size = rng.randrange(len(out)), rng.choice((1, 2, 8, 64, 1024))
        kind = rng.randrange(6)
        if kind == 0:
            out[at] = rng.randrange(256)
        elif kind == 1:
            out[at : at + 8] = rng.choice((b"\xff" * 8, b"\x00" * 8, b"\x80" * 8, (1 << 40).to_bytes(8, "little")))
        elif kind == 2:
            del out[at : at + size]
        elif kind == 3:
            out[at:at] = out[at : at + size]
        elif kind == 4:
            other = rng.randrange(len(out))
            out[at : at + size] = out[other : other + size]
        else:
            out[at] ^= 1 << rng.randrange(8)
    return bytes(out) or b"\0"


def attack(folder: Path, original: dict[Path, bytes], seed: int) -> str:
    """Damage one file of the package, load and run it, repair it; says what happened."""
    rng = random.Random(seed)
    path = rng.choice([p for p in original if p.suffix in (".mlmodel", ".bin", ".json")])
    path = rng.choice([path, *(p for p in original if p.suffix == ".mlmodel")])  # most of what can go wrong is there
    path.write_bytes(damaged(original[path], rng))
    try:
        return outcome(folder)
    finally:
        path.write_bytes(original[path])


def outcome(folder: Path) -> str:
    """Load and run the package: the name of the error that it may raise, or "ran". Any other exception is the caller's."""
    part = folder.name.split(".")[0]
    try:
        given = {name: np.asarray(x) for name, x in case(part, 1).items()}
        coreml.load(folder).run(given, threads=1)
    except InputError as error:
        return type(error).__name__
    return "ran"


def everything(folder: Path) -> dict[str, np.ndarray]:
    """Every result of the package."""
    dump: dict[str, np.ndarray] = {}
    program = coreml.load(folder)
    program.run(
        case(folder.name.split(".")[0], 1),
        observe=lambda op, _, results: dump.update(zip([o.name for o in op.outputs], results, strict=True)),
    )
    return dump


def judged(folder: Path, dump: dict[str, np.ndarray], model: MobileSam) -> list[str]:
    """As `outcome`, of both verdicts: on a run of the package as it was, and on the package itself."""
    given, found = case(folder.name.split(".")[0], 1), []
    for judge in (lambda p: judge_run(p, given, dump), lambda p: judge_package(p, model, given)):
        try:
            judge(coreml.load(folder))
            found.append("judged")
        except InputError as error:
            found.append(type(error).__name__)
    return found


class FilesOpened:
    """Which files Python opens while this is entered. An audit hook cannot be taken away again, so one serves all."""

    _active: ClassVar[list["FilesOpened"]] = []

    def __init__(self) -> None:
        self.paths: set[Path] = set()

    def __enter__(self) -> "FilesOpened":
        if not _HOOKED:
            _HOOKED.append(True)
            sys.addaudithook(_hook)
        self._active.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._active.remove(self)

    def outside(self, folder: Path) -> list[Path]:
        """Those that are not within `folder`, and are no modules that Python loads just then."""
        code = (".py", ".pyc", ".so")
        return [path for path in self.paths if path.suffix not in code and not path.is_relative_to(folder.resolve())]


_HOOKED: list[bool] = []


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and FilesOpened._active and isinstance(arguments[0], str):
        for watcher in FilesOpened._active:
            watcher.paths.add(Path(os.path.realpath(arguments[0])))
