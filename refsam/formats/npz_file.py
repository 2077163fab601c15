"""Reading and writing .npz and .npy."""

import os
import tokenize
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path

import numpy as np

from refsam.errors import InputError
from refsam.files import check_regular
from refsam.types import Array

_UNREADABLE = (
    OSError, ValueError, EOFError, SyntaxError, MemoryError, OverflowError, zipfile.BadZipFile, zlib.error, NotImplementedError,
    RuntimeError, TypeError, IndexError, tokenize.TokenError,
)  # fmt: skip
"""What zipfile and NumPy raise where an .npz or .npy is damaged, or not one, by what the damaged bytes lead them to.
NumPy takes a header that it cannot parse for one of Python 2, and tokenizes it."""

_LONGEST = 300
"""Characters of a reason: NumPy's may repeat the header, and have lines."""


def read(path: str | os.PathLike[str], max_bytes: int, names: Collection[str] | None = None) -> dict[str, Array]:
    """The arrays of an .npz by name; those of `names`, where they are there, or all. Pickled objects are refused.

    Raises InputError naming `path` where it cannot be read, or all that is in it unpacks to more than `max_bytes` bytes.
    """
    with _named(path, "npz"), zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        size = sum(member.file_size for member in members)
        if size > max_bytes:
            raise InputError(f"it unpacks to {size} bytes; at most {max_bytes >> 20} MiB are read")
        found = {}
        for member in members:
            name = member.filename.removesuffix(".npy")
            if name in found:
                raise InputError(f"it holds {name!r:.80} twice")
            if names is None or name in names:
                found[name] = _member(archive, member)
        return found


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Array:
    if not member.filename.endswith(".npy"):
        raise InputError(f"{member.filename!r:.80} in it is no .npy")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InputError(f"{member.filename!r:.80} is compressed in a way that NumPy never uses; write it with numpy.savez")
    with archive.open(member) as file:
        return np.asarray(np.lib.format.read_array(file, allow_pickle=False))


def read_npy(path: str | os.PathLike[str]) -> Array:
    """The array of an .npy. Pickled objects are refused. Raises InputError naming `path` where it cannot be read.

    It is mapped before it is read, because that compares the header's claims with the file's size.
    """
    with _named(path, "npy"):
        return np.array(np.lib.format.open_memmap(Path(path), mode="r"))


@contextmanager
def _named(path: str | os.PathLike[str], kind: str) -> Iterator[None]:
    """Raises InputError naming `path` for all that reading it may raise."""
    try:
        check_regular(path)
        yield
    except _UNREADABLE as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise InputError(f"{path} cannot be read as .{kind}: {' '.join(reason.split())[:_LONGEST]}") from None


def write(file: BufferedIOBase, tensors: Mapping[str, Array]) -> None:
    """Write arrays as .npz. `np.savez` takes names as keywords, so that it has none for `file`, and loses `allow_pickle`."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, tensor in tensors.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(tensor), allow_pickle=False)
