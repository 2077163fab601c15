"""Files and folders that are either whole or not there.

What is being written lies beside its place as `.refsam-....tmp`, and is taken away where that fails. What ends Python at once
(SIGKILL, SIGTERM outside the console, a power cut) leaves it; where a folder was being replaced, the older one may be named so.
"""

import errno
import os
import re
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from io import BufferedWriter
from pathlib import Path

from refsam.errors import InputError

_DESCRIPTOR = re.compile(r"(?:/dev|/proc/(\d+)(?:/task/\d+)?)/fd/(\d+)")
"""The name that the system gives to an open descriptor, of the process whose number it has, else of the one that asks."""
_MAX_LINKS = 40
"""As many links in a row as Linux follows."""
_PAUSES = (0.05, 0.2, 0.5)
"""Seconds between attempts to replace a file on Windows."""


def can_name_a_file(name: str) -> bool:
    """Whether the system could have a file of this name: none has a NUL, or half of a surrogate pair, in it."""
    try:
        return b"\0" not in os.fsencode(name)
    except UnicodeEncodeError:
        return False


def visible(folder: str | os.PathLike[str]) -> list[Path]:
    """What is in a folder, in order of names, without what begins with a dot: macOS leaves "._NAME" beside files that it copies.

    Raises OSError where the folder cannot be read.
    """
    return sorted(path for path in Path(folder).iterdir() if not path.name.startswith("."))


def check_regular(path: str | os.PathLike[str]) -> None:
    """Raise InputError where what is at `path` is no file to read: opening a pipe would wait for ever, and a device never ends.

    The message lacks the path: the caller, who knows what it should be, names it. Raises OSError where nothing is there.
    """
    try:
        kind = Path(path).stat().st_mode
    except ValueError as error:  # a zero byte in the name
        raise InputError(f"this cannot be the name of a file ({error})") from None
    if stat.S_ISDIR(kind):
        raise InputError("this is a folder, not a file")
    if not stat.S_ISREG(kind):
        raise InputError("this is a device or a pipe, not a file")


def is_file(path: str | os.PathLike[str]) -> bool:
    """Whether a regular file is at `path`; False where the system does not say.

    Up to Python 3.13 `Path.is_file` raises where a folder above it is closed to us, and where a name is too long.
    """
    return os.path.isfile(path)  # noqa: PTH113


def why_not_there(path: str | os.PathLike[str]) -> str:
    """Why nothing is found at `path`, "" where something is."""
    try:
        Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return "there is no such file"
    except OSError as error:
        return error.strerror or str(error)
    except ValueError:
        return "no file can have this name"
    return ""


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BufferedWriter]:
    """A binary file to write to, which takes the place of `path` when the block ends, and leaves no trace where it fails.

    A symbolic link at `path` is replaced, not written through; a file's permissions stay as they were. A device, a pipe or an
    open descriptor (`/dev/stdout`, whatever it leads to) cannot be replaced and is written to, a descriptor from where it stands.
    Raises InputError naming `path` where it cannot be written.
    """
    target = Path(path)
    _refuse_name(target)
    _refuse_folder(target)
    if is_stream(target):
        with named(target), _open_stream(target) as stream:
            yield stream
        return
    temporary = target.with_name(f".refsam-{secrets.token_hex(8)}.tmp")
    try:
        with named(target), temporary.open("xb") as file:
            _keep_permissions(target, file.fileno())
            yield file
            file.flush()
            os.fsync(file.fileno())
        with named(target):
            _replace(temporary, target)
    finally:
        with suppress(OSError):  # after the replacement it is gone; without its folder it never was
            temporary.unlink()


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A new folder to fill, which takes the place of the folder `path` when the block ends, and leaves no trace where it fails.

    An earlier folder is deleted with all that is in it: the caller knows that it may be. A symbolic link at `path` is replaced,
    and what it leads to is left alone. Raises InputError naming `path` where it cannot be written.
    """
    target = Path(path)
    _refuse_name(target)
    if not target.name:
        raise InputError(f"cannot write {target}: name a folder within it")
    if _kind(target) not in (0, stat.S_IFDIR):
        raise InputError(f"cannot write {target}: it is a file; name a folder")
    new, old = (target.with_name(f".refsam-{secrets.token_hex(8)}.tmp") for _ in range(2))
    try:
        new.mkdir()
        yield new
        if os.path.lexists(target):  # systems cannot exchange two folders at once: the older one steps aside
            target.rename(old)
        new.rename(target)
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror or error}") from None
    finally:
        if os.path.lexists(old) and not os.path.lexists(target):
            old.rename(target)
        if old.is_symlink():
            old.unlink()
        for rest in (new, old):
            shutil.rmtree(rest, ignore_errors=True)


def check_writable(path: str | os.PathLike[str], *, folder: bool = False) -> None:
    """Raise InputError where `atomic_write` (or `atomic_folder`, for a `folder`) could not write `path`.

    An empty file beside it is made and taken away: only the system knows what it lets whom write where.
    """
    target = Path(path)
    _refuse_name(target)
    if not folder:
        _refuse_folder(target)
    if is_stream(target):
        return _check_stream(target)
    with named(target), suppress(FileNotFoundError):
        os.lstat(target)  # its own name may be too long where the one beside it is not
    probe = target.with_name(f".refsam-{secrets.token_hex(8)}.tmp")
    with named(target):
        probe.open("xb").close()
        probe.unlink()
    return None


def _refuse_name(target: Path) -> None:
    if not can_name_a_file(str(target)):
        raise InputError(f"cannot write {str(target)!r}: no file can have this name")


def _refuse_folder(target: Path) -> None:
    if stat.S_ISDIR(_kind(target)):
        raise InputError(f"cannot write {target}: it is a folder; name a file")


def _keep_permissions(target: Path, descriptor: int) -> None:
    """Let the file that will take the place of `target` be read by no more people than the one before."""
    with suppress(OSError):  # there is none; or the file system has no permissions
        mode = target.lstat().st_mode
        if sys.platform != "win32" and stat.S_ISREG(mode):
            os.fchmod(descriptor, stat.S_IMODE(mode))


def _replace(temporary: Path, target: Path) -> None:
    """Windows refuses while another process has `target` open, which a virus scanner has for moments: it is tried again."""
    for pause in _PAUSES if sys.platform == "win32" else ():
        try:
            temporary.replace(target)
        except PermissionError:
            time.sleep(pause)
        else:
            return
    temporary.replace(target)


def is_stream(path: str | os.PathLike[str]) -> bool:
    """Whether nothing can take the place of what is at `path`: a device, a pipe, an open descriptor."""
    target = Path(path)
    kind = _kind(target)
    return _descriptor(target) is not None or (kind != 0 and not stat.S_ISDIR(kind) and not stat.S_ISREG(kind))


def is_stdout(path: str | os.PathLike[str]) -> bool:
    """Whether `path` stands for this process's own standard output."""
    return _descriptor(Path(path)) == (os.getpid(), 1)


def _open_stream(target: Path) -> BufferedWriter:
    """To write to what `is_stream`. What a descriptor leads to may be a file, and keeps what was written to it before."""
    descriptor = _descriptor(target)
    if descriptor is None:
        return target.open("wb")
    process, number = descriptor
    return os.fdopen(os.dup(number), "wb") if process == os.getpid() else target.open("ab")


def _check_stream(target: Path) -> None:
    descriptor = _descriptor(target)
    if descriptor is not None and descriptor[0] == os.getpid():
        with named(target):
            os.write(descriptor[1], b"")  # an error where the descriptor is closed, or only for reading


def _descriptor(target: Path) -> tuple[int, int] | None:
    """(process, number) of the open descriptor that `target` stands for, by itself or through links; None for other files.

    `stat` follows such a link to the file behind it, so it shows no difference between `/dev/stdout` and that file.
    """
    place = target
    for _ in range(_MAX_LINKS):
        folder = os.path.realpath(place.parent)  # /dev/fd and /proc/self are links themselves
        found = _DESCRIPTOR.fullmatch(f"{folder}/{place.name}")
        if found:
            return int(found[1] or os.getpid()), int(found[2])
        try:
            place = Path(folder, place.readlink())
        except OSError:  # no link
            return None
    return None


def _kind(target: Path) -> int:
    """The file type bits of what `target` leads to, 0 where there is nothing."""
    try:
        return stat.S_IFMT(target.stat().st_mode)
    except OSError:
        return 0


@contextmanager
def named(target: Path) -> Iterator[None]:
    """Raises InputError naming `target` for errors that name it, no file, or a temporary one that the caller never asked for."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        wrong = target if error.filename is None else Path(str(error.filename))
        if wrong != target and not wrong.name.startswith(".refsam-"):
            raise
        reason = error.strerror or str(error)
        raise InputError(f"cannot write {target}: {reason}") from error


@contextmanager
def lock(path: str | os.PathLike[str]) -> Iterator[None]:
    """Hold the lock that the file `path` stands for; another process (or thread) that wants it waits until the block ends.

    The system lets go of it when a process dies, so no lock is ever left behind; the empty file is.
    """
    with ExitStack() as held:
        with named(Path(path)):  # not what is done while it is held: an error of that is of another file, or of none
            file = held.enter_context(Path(path).open("ab"))
            _acquire(file.fileno())
        yield


if sys.platform == "win32":
    import msvcrt

    def _acquire(descriptor: int) -> None:
        while True:
            os.lseek(descriptor, 0, os.SEEK_SET)  # what is locked is the byte at the file's position
            try:
                return msvcrt.locking(descriptor, msvcrt.LK_LOCK, 1)
            except OSError as error:
                if error.errno != errno.EDEADLK:  # else it was taken for ten seconds: wait on
                    raise
else:
    import fcntl

    def _acquire(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
