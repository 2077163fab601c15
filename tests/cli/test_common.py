"""Exit codes, one line on stderr, JSON: what every command of the console promises."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from cyclopts import App

import refsam
from refsam import cli
from refsam.cli import common
from refsam.errors import BackendUnavailable, CheckpointError, InputError, NotReady, RefsamError

ROOT = Path(refsam.__file__).parent.parent


def console(*arguments: str, **how) -> subprocess.CompletedProcess[str]:
    """A real process: what a shell sees."""
    code = "import sys; from refsam.cli import main; sys.exit(main())"
    return subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, text=True, capture_output=True, timeout=60, **how)


def app_that(action) -> App:
    app = App(name="probe")

    @app.default
    def act(number: int = 0, /, *, kind: Literal["a", "b"] = "a"):
        return action()

    return app


def raising(error):
    def action():
        raise error

    return action


@pytest.mark.core
@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InputError("box is odd"), 2, "box is odd"),
        (CheckpointError("x.pt: empty"), 2, "x.pt: empty"),
        (NotReady("set an image"), 2, "set an image"),
        (RefsamError("lost"), 2, "lost"),
        (BackendUnavailable("metal needs a Mac"), 3, "metal needs a Mac"),
        (
            ModuleNotFoundError("No module", name="coremltools.models"),
            3,
            "coremltools is not installed; try: pip install coremltools",
        ),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "a.png"), 2, "a.png: No such file or directory"),
        (PermissionError(errno.EACCES, "Permission denied", "a.png"), 2, "a.png: Permission denied"),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "No space left on device"),
        (OSError(), 2, "OSError"),
        (MemoryError(), 2, "there is not enough memory for this"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (InputError("two\nlines \x1b[31mred"), 2, "two lines \\x1b[31mred"),
    ],
)
def test_an_error_is_one_line_and_a_code(capsys, error, code, line):
    assert common.run(lambda: app_that(raising(error)), []) == code
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"refsam: {line}\n")


def test_a_module_missing_behind_a_command_is_named(capsys, monkeypatch):
    monkeypatch.setattr(cli, "COMMANDS", (("metal", "metalcompute_is_not_here:app", "A."),))
    assert cli.main(["metal"]) == 3
    assert "try: pip install metalcompute_is_not_here" in capsys.readouterr().err


@pytest.mark.parametrize("error", [ZeroDivisionError("x"), ImportError("no name"), ModuleNotFoundError("no", name="refsam.lost")])
def test_an_error_of_ours_shows_where_and_is_no_difference(capsys, error):
    """A bug must not pass for the answer 1, "a check found a difference"."""
    assert common.run(lambda: app_that(raising(error)), []) == 70
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.endswith("refsam: this is an error in refsam; please report the lines above\n")


@pytest.mark.core
def test_a_termination_leaves_nothing_half_written(tmp_path):
    """As by `timeout` or a scheduler, in the middle of a file."""
    code = """if True:
        import os, signal, sys
        from cyclopts import App
        from refsam.cli import common
        from refsam.files import atomic_write

        def write():
            with atomic_write(sys.argv[1]) as file:
                file.write(b"half")
                os.kill(os.getpid(), signal.SIGTERM)
                signal.pause()

        app = App()
        app.default(write)
        code = common.run(lambda: app, [])
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        sys.exit(code)
    """
    (tmp_path / "a").write_bytes(b"old")
    command = [sys.executable, "-c", code, str(tmp_path / "a")]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (143, "", "refsam: terminated\n")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"old")]


def test_a_host_s_own_answer_to_termination_stays():
    def act():
        seen.append(signal.getsignal(signal.SIGTERM))

    seen: list[object] = []
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        assert common.run(lambda: app_that(act), []) == 0
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        thread = threading.Thread(target=lambda: common.run(lambda: app_that(act), []))
        thread.start()
        thread.join()
        signal.signal(signal.SIGTERM, before)
    assert seen == [signal.SIG_IGN, signal.SIG_DFL]


@pytest.mark.core
@pytest.mark.parametrize(("result", "code"), [(0, 0), (1, 1), (None, 0)])
def test_a_command_s_result_is_the_exit_code(result, code):
    assert common.run(lambda: app_that(lambda: result), []) == code


@pytest.mark.parametrize("tokens", [["x"], ["--kind", "c"], ["--nope"], ["1", "2"]], ids=" ".join)
def test_wrong_usage_is_one_line_and_2(capsys, tokens):
    assert common.run(lambda: app_that(lambda: 0), tokens) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("refsam: ")
    assert "--help" in err


def test_wrong_commands_are_one_line_and_2(capsys):
    for tokens in (["nope"], ["weights", "nope"], ["weights", "convert"]):
        assert cli.main(tokens) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_help_and_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == refsam.__version__
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name, *_ in cli.COMMANDS)


def test_python_m_refsam_is_the_console():
    done = subprocess.run([sys.executable, "-m", "refsam", "segment"], cwd=ROOT, text=True, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("refsam: ")


@pytest.mark.parametrize(("name", "target", "line"), cli.COMMANDS, ids=[name for name, *_ in cli.COMMANDS])
def test_every_command_of_the_table_can_be_loaded_and_has_help(capsys, name, target, line):
    assert cli.main([name, "--help"]) == 0
    assert "Usage: refsam " + name in capsys.readouterr().out
    assert line.endswith(".")


def test_help_loads_no_command_and_no_picture_code():
    code = (
        "import sys; from refsam.cli import main; main(['--help'])\n"
        "print(sorted(n for n in sys.modules if n.startswith('refsam.cli.') or n in ('PIL', 'urllib.request', 'torch', 'scipy')))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "['refsam.cli.common']"


def test_a_closed_pipe_is_quiet():
    """As in `refsam weights info --json | head -1`."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-c", "import sys; from refsam.cli import main; sys.exit(main(['--version']))"],
            cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, timeout=60, check=False,
        )  # fmt: skip
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_full_disk_behind_stdout_is_one_line():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", "import sys; from refsam.cli import main; sys.exit(main(['--version']))"],
            cwd=ROOT, stdout=full, stderr=subprocess.PIPE, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == b"refsam: No space left on device\n"


def closed(descriptor: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`refsam ARGUMENTS >&-` or `2>&-`."""
    return console(*arguments, preexec_fn=lambda: os.close(descriptor))


def test_a_closed_stdout_or_stderr_is_no_error(folder):
    done = closed(1, "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = closed(2, "segment", str(folder / "picture.png"), "--point", "1,1", "--json")
    assert (done.returncode, len(json.loads(done.stdout)["prompts"])) == (0, 1)
    done = closed(2, "weights", "info", "/nonexistent.pt")
    assert (done.returncode, done.stdout) == (2, "")
    assert closed(1, "weights", "info", "/nonexistent.pt").stderr.count("\n") == 1


def test_a_process_ends_with_the_code():
    done = console("weights", "info", "/nonexistent.pt")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "refsam: /nonexistent.pt: cannot be read: No such file or directory\n"


def test_a_name_that_is_no_text_can_be_printed(capsys):
    """As of a file whose name is Latin-1."""
    name = os.fsdecode(b"caf\xe9  \x1b.png")
    assert common.run(lambda: app_that(lambda: print(name.replace("\x1b", ""))), []) == 0
    assert capsys.readouterr().out == "caf\\udce9  .png\n"
    assert common.printable(Path(name)) == "caf\\udce9  \\x1b.png"


def test_json_is_one_document_without_nan(capsys):
    document = {
        "path": Path("a/b"),
        "array": np.array([1.5, np.nan, np.inf], "f4"),
        "scalar": np.int64(3),
        "flag": np.bool_(True),
        "nested": {"t": (1, None, "ü\x00")},
        5: -np.inf,
    }
    common.print_json(document)
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == {
        "path": "a/b",
        "array": [1.5, None, None],
        "scalar": 3,
        "flag": True,
        "nested": {"t": [1, None, "ü\x00"]},
        "5": None,
    }


def test_progress_is_silent_where_nobody_watches(capsys):
    with common.progress("file") as advance:
        advance(1, 2)
        advance(2, None)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("unit", "shown"), [("bytes", "1.0/2.0 MB"), ("images", "1000000/2000000")])
def test_progress_is_drawn_on_a_terminal_s_stderr(capsys, monkeypatch, unit, shown):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    with common.progress("mobile_sam", unit) as advance:
        advance(1_000_000, 2_000_000)
    out, err = capsys.readouterr()
    assert out == ""
    assert "mobile_sam" in err
    assert shown in err
