"""Writing .npz, and what reading one may raise."""

import zipfile
import zlib
from collections.abc import Mapping
from io import BufferedIOBase

import numpy as np

from refsam.types import Array

UNREADABLE = (
    OSError, ValueError, EOFError, SyntaxError, MemoryError, OverflowError, zipfile.BadZipFile, zlib.error, NotImplementedError,
    RuntimeError,
)  # fmt: skip
"""What zipfile and NumPy raise where an .npz or .npy is damaged, or not one, by what the damaged bytes lead them to."""


def write(file: BufferedIOBase, tensors: Mapping[str, Array]) -> None:
    """Write arrays as .npz. `np.savez` takes names as keywords, so that it has none for `file`, and loses `allow_pickle`."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, tensor in tensors.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(tensor), allow_pickle=False)
