"""What all commands share: exit codes, one-line errors, `--json`, progress for a person who is watching."""

import errno
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from cyclopts import App, CycloptsError, Parameter

from refsam.errors import BackendUnavailable, RefsamError
from refsam.files import atomic_write
from refsam.printing import one_line as one_line
from refsam.printing import printable as printable
from refsam.types import Progress

if TYPE_CHECKING:
    from rich.table import Table

OK = 0
DIFFERENCE = 1
"""A check ran and found a difference."""
BAD_INPUT = 2
NOT_INSTALLED = 3
BUG = 70
"""An error of refsam itself, so that nobody takes it for DIFFERENCE (EX_SOFTWARE in sysexits.h)."""
INTERRUPTED = 130
PIPE_CLOSED = 141
"""What a shell reports for a program that SIGPIPE ended (`refsam ... | head`)."""
TERMINATED = 143
"""What it reports for one that SIGTERM ended (`kill`, `timeout`, a scheduler)."""
_WORDS = {INTERRUPTED: "interrupted", TERMINATED: "terminated"}

JsonFlag: TypeAlias = Annotated[bool, Parameter(name="--json", negative=(), help="Print one JSON document to stdout.")]
"""Annotation of a command's `as_json` argument."""


def run(build: Callable[[], App], tokens: Sequence[str]) -> int:
    """Build the console, run a command line, return its exit code; errors are one line on stderr.

    A command returns its exit code, or None for OK.
    """
    _open_streams()
    try:
        if isinstance(sys.stdout, TextIOWrapper):  # a file name need not be text, and is no reason to fail after the work
            sys.stdout.reconfigure(errors="backslashreplace")
        with _tidy_termination():
            result = build()(tokens, print_error=False, exit_on_error=False, result_action="return_value")
            sys.stdout.flush()
    except BrokenPipeError:
        return _closed_pipe()
    except KeyboardInterrupt:
        return _complain(_WORDS[INTERRUPTED], INTERRUPTED)
    except SystemExit as stop:  # cyclopts makes one of Ctrl-C, rich of a pipe that closes while it prints the help; and SIGTERM
        return _complain(_WORDS[stop.code], stop.code) if isinstance(stop.code, int) and stop.code in _WORDS else PIPE_CLOSED
    except Exception as error:
        return _report(error)
    return result if isinstance(result, int) else OK


@contextmanager
def _tidy_termination() -> Iterator[None]:
    """Within this block SIGTERM ends what is done as Ctrl-C does, so that nothing half-written is left behind.

    A host that handles or ignores it goes on doing so. Only the main thread may change that.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _terminate(*_: Any) -> None:
    raise SystemExit(TERMINATED)


def _open_streams() -> None:
    """Python has None for a stream that is closed when it starts (`>&-`); what is said there is to go nowhere, not to fail."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123 - open to the end


def _report(error: Exception) -> int:
    missing = _missing_module(error)
    if missing:
        return _complain(f"{missing} is not installed; try: pip install {missing}", NOT_INSTALLED)
    if isinstance(error, BackendUnavailable):
        return _complain(str(error), NOT_INSTALLED)
    if isinstance(error, RefsamError):
        return _complain(str(error), BAD_INPUT)
    if isinstance(error, CycloptsError):
        return _complain(f"{error} (see --help)", BAD_INPUT)
    if isinstance(error, OSError):
        return _complain(_of_system(error), BAD_INPUT)
    if isinstance(error, MemoryError):
        return _complain("there is not enough memory for this", BAD_INPUT)
    traceback.print_exception(type(error), error, error.__traceback__)
    return _complain("this is an error in refsam; please report the lines above", BUG)


def _missing_module(error: Exception) -> str:
    """The third-party package that an import did not find."""
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith("refsam"):
        return error.name.split(".")[0]
    return ""


def _of_system(error: OSError) -> str:
    if error.errno == errno.EPIPE:
        return "the other end of a pipe was closed"
    reason = error.strerror or str(error) or type(error).__name__
    return f"{error.filename}: {reason}" if error.filename is not None else reason


def _complain(message: str, code: int) -> int:
    print(f"refsam: {one_line(message)}", file=sys.stderr)
    return code


def _closed_pipe() -> int:
    """Nobody reads any more. Python would complain once more when it flushes stdout on leaving."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return PIPE_CLOSED


def print_json(document: Any) -> None:
    """Print one JSON document (RFC 8259, so NaN and infinity become null) to stdout."""
    print(json.dumps(_plain(document), indent=2, allow_nan=False))


def narrow_table(*columns: str, left: Collection[int]) -> "Table":
    """An empty table of figures whose columns stay whole in a terminal of 80; those in `left` are words."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for place, name in enumerate(columns):
        table.add_column(name, no_wrap=True, justify="left" if place in left else "right")
    return table


def write_json(document: Any, path: Path | None) -> None:
    """The same document to a file, if one is named."""
    if path is not None:
        with atomic_write(path) as file:
            file.write(json.dumps(_plain(document), indent=1, allow_nan=False).encode())


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # NumPy's arrays and scalars, without importing NumPy for `--help`
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if value - value == 0 else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


@contextmanager
def progress(label: str, unit: str = "bytes") -> Iterator[Progress]:
    """A progress bar on stderr where that is a terminal, nothing elsewhere; yields the function to call with (done, total)."""
    if not sys.stderr.isatty():
        yield lambda *_: None
        return
    # Rich costs 50 ms: only where a person is watching.
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    amount = DownloadColumn() if unit == "bytes" else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), amount, TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
