"""Compiled kernels, kept by the hash of all that went into them.

An entry is a folder that appears by one rename, whole: processes and threads that build the same one at the same time do work
twice, and all but one throw theirs away. Nothing is ever changed, so no reader needs a lock.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from refsam.errors import InputError
from refsam.weights_store import CACHE_VARIABLE, cache_folder


def key(*parts: object) -> str:
    """A name for what these determine."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:40]


def unusable(what: str, reason: OSError) -> InputError:
    """What to raise where the cache folder is read-only, full, or on a disk from which nothing runs."""
    return InputError(f"{what}: {reason.strerror or reason}; set {CACHE_VARIABLE}")


def entry(name: str, build: Callable[[Path], None]) -> Path:
    """The folder of that key; `build` fills it where it is not there yet, and leaves nothing where it fails."""
    home = cache_folder() / "emulator"
    final = home / name
    if final.is_dir():
        return final
    try:
        home.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".making-", dir=home))
    except OSError as reason:
        raise unusable(f"cannot write the cache folder {home}", reason) from reason
    try:
        build(temporary)
        with suppress(OSError):  # another was first: its folder is as good
            os.rename(temporary, final)  # noqa: PTH104 - Path.rename says the same
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return final
