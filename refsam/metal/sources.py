"""The text of kernel files. metalcompute compiles one string without local headers, so those are pasted in here."""

import re
from functools import cache
from pathlib import Path

from refsam import resources
from refsam.emulator.error import error as refused
from refsam.emulator.parse import with_keywords
from refsam.emulator.parse import without_comments as without
from refsam.emulator.templates import instantiated
from refsam.errors import InputError

_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*"([^"\n]+)"', re.M)
KERNEL = r"\bkernel\s+void\s+"
"""What stands before the name of a kernel in what `plain` gives."""


def folder() -> Path:
    """Where the kernels of this installation lie."""
    return resources.path("kernels")


def read(path: Path) -> str:
    """The text of a .metal file, each header of its own folder pasted onto the line of its #include.

    Onto one line, so that the file's line numbers stay true in the compiler's messages; a header is therefore plain code
    without preprocessor lines. Raises InputError where a file cannot be read or a header does not fit on a line.
    """
    return _INCLUDE.sub(lambda match: _in_one_line(path.parent / match[1], path), _text(path))


def without_comments(source: str) -> str:
    """The same text with comments blanked, every character at its place."""
    return without(source, strings=True)


def plain(source: str) -> str:
    """The same program without comments, `[[kernel]] void` as `kernel void`, and with a kernel of its own for each instantiation
    `template [[host_name("name")]] ...`. Raises InputError, with the line, on an instantiation that is not understood.
    """
    try:
        return without(instantiated(with_keywords(source)))
    except refused as error:
        raise InputError(str(error)) from None


def kernel_names(source: str) -> list[str]:
    """The names of the kernels in a source, in order."""
    return re.findall(rf"{KERNEL}(\w+)\s*\(", plain(source))


@cache
def kernel_files(within: Path) -> dict[str, Path]:
    """Kernel name -> file, of all .metal files in a folder. Raises InputError where two files have a kernel of one name."""
    found: dict[str, Path] = {}
    for path in sorted(within.glob("*.metal")):
        for name in kernel_names(_text(path)):
            if name in found:
                raise InputError(f"{path} and {found[name]} both have a kernel {name}; rename one")
            found[name] = path
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None


def _in_one_line(header: Path, included_by: Path) -> str:
    if header.parent != included_by.parent:
        raise InputError(f"{included_by} includes {header}; only headers of its own folder can be pasted in")
    text = without_comments(_text(header))
    if "#" in text:
        raise InputError(f"{header} has preprocessor lines, and so cannot be pasted onto one line of {included_by}")
    return " ".join(text.split())
