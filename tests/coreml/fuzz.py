"""Damaged packages: bytes changed, pieces gone, doubled or moved. Whatever happens is a PackageError or an InputError."""

import random
from pathlib import Path

import numpy as np
from coreml.packages import case

from refsam import coreml
from refsam.errors import InputError

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
        program = coreml.load(folder)
        program.run({name: np.asarray(x) for name, x in case("PromptEncoder", 1).items()}, threads=1)
    except InputError as error:
        return type(error).__name__
    finally:
        path.write_bytes(original[path])
    return "ran"
