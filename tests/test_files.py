"""Files that are whole or not there; locks."""

import errno
import importlib.util
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from refsam import files
from refsam.errors import InputError

ROOT = Path(files.__file__).parent.parent


def others(folder: Path, *expected: str) -> list[str]:
    return sorted({path.name for path in folder.iterdir()} - set(expected))


@pytest.mark.core
def test_the_file_appears_when_the_block_ends(tmp_path):
    target = tmp_path / "a.bin"
    with files.atomic_write(target) as file:
        file.write(b"new")
        assert not target.exists()
    assert target.read_bytes() == b"new"
    assert others(tmp_path, "a.bin") == []


@pytest.mark.core
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, error):
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")

    def work():
        with files.atomic_write(target) as file:
            file.write(b"half")
            raise error

    with pytest.raises(error):
        work()
    assert target.read_bytes() == b"old"
    assert others(tmp_path, "a.bin") == []


def test_a_folder_takes_the_place_of_the_one_before(tmp_path):
    target = tmp_path / "results"
    for name in ("first", "second"):
        with files.atomic_folder(target) as folder:
            (folder / name).write_bytes(b"")
            assert not (target / name).exists()
        assert [path.name for path in target.iterdir()] == [name]
    assert others(tmp_path, "results") == []


@pytest.mark.parametrize("there", [True, False])
def test_a_link_to_a_folder_is_replaced_and_what_it_leads_to_stays(tmp_path, there):
    if there:
        (tmp_path / "old").mkdir()
        (tmp_path / "old" / "precious").write_bytes(b"")
    (tmp_path / "results").symlink_to("old")
    with files.atomic_folder(tmp_path / "results") as folder:
        (folder / "new").write_bytes(b"")
    assert not (tmp_path / "results").is_symlink()
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["new"]
    assert others(tmp_path, "results") == (["old"] if there else [])
    assert not there or (tmp_path / "old" / "precious").exists()


def test_a_folder_for_which_there_is_no_room_leaves_the_old_one(tmp_path):
    (tmp_path / "results").mkdir()
    with pytest.raises(InputError, match=r"cannot write .*results: No space"), files.atomic_folder(tmp_path / "results"):
        raise OSError(28, "No space left on device")
    assert others(tmp_path, "results") == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_folder_and_nothing_else(tmp_path, error):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "old").write_bytes(b"")

    def work():
        with files.atomic_folder(tmp_path / "results") as folder:
            (folder / "half").write_bytes(b"")
            raise error

    with pytest.raises(error):
        work()
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["old"]
    assert others(tmp_path, "results") == []


@pytest.mark.parametrize("place", [".", "nowhere/results", "file"])
def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    Path("file").write_bytes(b"precious")
    with pytest.raises(InputError, match=f"cannot write {place}: "), files.atomic_folder(place):
        pass
    assert Path("file").read_bytes() == b"precious"
    assert others(tmp_path, "file") == []


def test_a_symbolic_link_is_replaced_and_not_written_through(tmp_path):
    victim, link = tmp_path / "victim", tmp_path / "link"
    victim.write_bytes(b"precious")
    link.symlink_to(victim)
    with files.atomic_write(link) as file:
        file.write(b"new")
    assert victim.read_bytes() == b"precious"
    assert not link.is_symlink()
    assert link.read_bytes() == b"new"


def test_a_dangling_link_is_replaced(tmp_path):
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    with files.atomic_write(link) as file:
        file.write(b"new")
    assert link.read_bytes() == b"new"
    assert not (tmp_path / "nowhere").exists()


def test_the_file_has_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    with files.atomic_write(tmp_path / "a") as file:
        file.write(b"x")
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "a")}
    assert len(modes) == 1


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444])
def test_a_file_that_is_replaced_keeps_its_permissions_from_the_first_byte(tmp_path, mode):
    (tmp_path / "a").write_bytes(b"old")
    (tmp_path / "a").chmod(mode)
    with files.atomic_write(tmp_path / "a") as file:
        assert stat.S_IMODE(os.fstat(file.fileno()).st_mode) == mode
        file.write(b"new")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == mode
    assert (tmp_path / "a").read_bytes() == b"new"


def test_the_permissions_of_what_a_link_leads_to_are_not_its_own(tmp_path):
    (tmp_path / "victim").write_bytes(b"")
    (tmp_path / "victim").chmod(0o777)
    (tmp_path / "link").symlink_to("victim")
    (tmp_path / "plain").write_bytes(b"")
    with files.atomic_write(tmp_path / "link") as file:
        file.write(b"new")
    assert (tmp_path / "link").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("name", ["a\0b", "a\ud800b", "a\0/b"])
def test_what_can_be_no_name_is_an_input_error(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    for write in (files.atomic_write, files.atomic_folder):
        with pytest.raises(InputError, match=r"cannot write 'a\\.*b': no file can have this name"), write(name):
            pytest.fail("the block has to be left out")
    for folder in (False, True):
        with pytest.raises(InputError, match="no file can have this name"):
            files.check_writable(name, folder=folder)
    assert others(tmp_path) == []


def test_a_folder_whose_name_is_too_long_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match=r"cannot write .*: File name too long"), files.atomic_folder(tmp_path / ("x" * 300)):
        pass
    assert others(tmp_path) == []


def test_a_device_is_written_to_and_stays_a_device():
    with files.atomic_write("/dev/null") as file:
        file.write(b"x")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def written(name: str, stdout: Path, mode: str) -> None:
    """Have a process whose stdout is the file `stdout`, opened with `mode`, write "new" to `name`."""
    code = (
        "import sys; from refsam import files; files.check_writable(sys.argv[1])\n"
        "with files.atomic_write(sys.argv[1]) as file:\n    file.write(b'new')"
    )
    with stdout.open(mode) as file:
        file.write(b"before ")
        file.flush()
        subprocess.run([sys.executable, "-c", code, name], check=True, cwd=ROOT, stdout=file)


@pytest.mark.core
@pytest.mark.parametrize("name", ["/dev/fd/1", "/proc/self/fd/1", "link", "link to link"])
@pytest.mark.parametrize("mode", ["wb", "ab"])
def test_stdout_is_written_to_where_it_is_redirected_to_a_file(tmp_path, name, mode):
    """A link such as /dev/stdout, which root may replace and so is not used here, stays; so does what was written before."""
    target = tmp_path / "redirected"
    (tmp_path / "link").symlink_to("/proc/self/fd/1")
    (tmp_path / "link to link").symlink_to("link")
    target.write_bytes(b"old ")
    written(str(tmp_path / name), target, mode)
    assert target.read_bytes() == (b"old before new" if mode == "ab" else b"before new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "link to link").is_symlink()
    assert others(tmp_path, "redirected") == ["link", "link to link"]


def test_another_process_s_descriptor_keeps_what_it_holds(tmp_path):
    target = tmp_path / "redirected"
    with target.open("wb") as file:
        file.write(b"before ")
        file.flush()
        (tmp_path / "link").symlink_to(f"/proc/{os.getpid()}/fd/{file.fileno()}")
        written(str(tmp_path / "link"), tmp_path / "unused", "wb")
    assert target.read_bytes() == b"before new"
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("mode", ["rb", None])
def test_a_descriptor_that_cannot_be_written_is_known_before(tmp_path, mode):
    (tmp_path / "file").write_bytes(b"precious")
    with (tmp_path / "file").open("rb") as file:
        name = f"/dev/fd/{file.fileno() if mode else 999}"
        with pytest.raises(InputError, match=f"cannot write {name}: Bad file descriptor"):
            files.check_writable(name)
        with pytest.raises(InputError, match=f"cannot write {name}: Bad file descriptor"), files.atomic_write(name) as opened:
            opened.write(b"x")
    assert (tmp_path / "file").read_bytes() == b"precious"


@pytest.mark.parametrize(
    ("name", "reason"), [("", "it is a folder"), ("no/such/folder/a", "No such file"), ("file/a", "Not a dir")]
)
def test_what_cannot_be_written_is_named(tmp_path, name, reason):
    (tmp_path / "file").write_bytes(b"")
    target = tmp_path / name
    with pytest.raises(InputError, match=reason) as caught, files.atomic_write(target):
        pytest.fail("the block has to be left out")
    assert str(target) in str(caught.value)
    assert ".refsam-" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "folder", "reason"),
    [
        (".", False, "it is a folder"), ("no/a", False, "No such file"), ("file/a", True, "Not a dir"),
        ("/proc/a", False, "No such file"), ("a", False, None), ("file", False, None), (".", True, None),
        ("/dev/null", False, None), ("x" * 300, False, "File name too long"), ("x" * 300, True, "File name too long"),
    ],
)  # fmt: skip
def test_whether_a_file_can_be_written_is_known_before(tmp_path, name, folder, reason):
    (tmp_path / "file").write_bytes(b"precious")
    if reason is None:
        files.check_writable(tmp_path / name, folder=folder)
    else:
        with pytest.raises(InputError, match=f"cannot write {tmp_path / name}: {reason}"):
            files.check_writable(tmp_path / name, folder=folder)
    assert others(tmp_path, "file") == []
    assert (tmp_path / "file").read_bytes() == b"precious"


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(InputError, match=r"a\.bin: No space left"), files.atomic_write(tmp_path / "a.bin") as file:
        file.write(b"x")
    assert others(tmp_path) == []


def test_an_error_about_another_file_keeps_its_name(tmp_path):
    with pytest.raises(FileNotFoundError, match="other"), files.atomic_write(tmp_path / "a"):
        (tmp_path / "other").read_bytes()
    assert others(tmp_path) == []


def test_a_lock_lets_one_in_at_a_time(tmp_path):
    inside, most = [], []

    def work():
        with files.lock(tmp_path / "lock"):
            inside.append(1)
            most.append(len(inside))
            threading.Event().wait(0.02)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1, 1]


def test_an_error_while_the_lock_is_held_is_not_of_the_lock(tmp_path):
    with pytest.raises(OSError, match="No route") as caught, files.lock(tmp_path / "lock"):
        raise OSError(113, "No route to host")
    assert not isinstance(caught.value, InputError)
    with pytest.raises(InputError, match=r"cannot write .*nowhere.lock: No such file"), files.lock(tmp_path / "nowhere" / "lock"):
        pass


def test_a_lock_dies_with_its_process(tmp_path):
    code = "import sys, os; from refsam import files\nwith files.lock(sys.argv[1]):\n    os._exit(0)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "lock")], check=True, cwd=ROOT)
    with files.lock(tmp_path / "lock"):
        assert (tmp_path / "lock").exists()


class FakeLocks:
    """msvcrt, each of whose calls has the next outcome: an error's number, or None where the lock is had."""

    LK_LOCK = 1

    def __init__(self, *outcomes):
        self.outcomes, self.positions = list(outcomes), []

    def locking(self, descriptor, mode, count):
        self.positions.append((os.lseek(descriptor, 0, os.SEEK_CUR), mode, count))
        outcome = self.outcomes.pop(0)
        if outcome is not None:
            raise OSError(outcome, os.strerror(outcome))


def on_windows(monkeypatch: pytest.MonkeyPatch, locks: FakeLocks) -> ModuleType:
    """`refsam.files` as it is there."""
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setitem(sys.modules, "msvcrt", locks)
    spec = importlib.util.spec_from_file_location("files_on_windows", files.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_on_windows_a_lock_is_waited_for_at_the_first_byte(tmp_path, monkeypatch):
    (tmp_path / "lock").write_bytes(b"what someone wrote")
    locks = FakeLocks(errno.EDEADLK, errno.EDEADLK, None)
    with on_windows(monkeypatch, locks).lock(tmp_path / "lock"):
        assert locks.positions == [(0, 1, 1)] * 3


@pytest.mark.parametrize("number", [errno.EACCES, errno.EINVAL, errno.EBADF])
def test_on_windows_any_other_error_of_a_lock_is_named_at_once(tmp_path, monkeypatch, number):
    locks = FakeLocks(number, None)
    with (
        pytest.raises(InputError, match=f"cannot write .*lock: {os.strerror(number)}"),
        on_windows(monkeypatch, locks).lock(tmp_path / "lock"),
    ):
        pass
    assert len(locks.positions) == 1


@pytest.mark.parametrize(("refusals", "replaced"), [(2, True), (99, False)])
def test_on_windows_a_file_that_is_open_elsewhere_is_replaced_a_moment_later(tmp_path, monkeypatch, refusals, replaced):
    (tmp_path / "a").write_bytes(b"old")
    left, pauses, plain = [refusals], [], Path.replace

    def busy(path, target):
        left[0] -= 1
        if left[0] >= 0:
            raise PermissionError(errno.EACCES, "The process cannot access the file", str(path))
        return plain(path, target)

    there = on_windows(monkeypatch, FakeLocks())
    monkeypatch.setattr(there, "time", SimpleNamespace(sleep=pauses.append))
    monkeypatch.setattr(Path, "replace", busy)

    def write():
        with there.atomic_write(tmp_path / "a") as file:
            file.write(b"new")

    if replaced:
        write()
    else:
        with pytest.raises(InputError, match=r"cannot write .*a: The process cannot access the file"):
            write()
    assert pauses == list(there._PAUSES)[:refusals]
    assert (tmp_path / "a").read_bytes() == (b"new" if replaced else b"old")
    assert others(tmp_path, "a") == []


def test_what_begins_with_a_dot_is_not_seen(tmp_path):
    """macOS leaves "._NAME" beside files that it copies."""
    for name in ("b.png", "a.png", "._a.png"):
        (tmp_path / name).touch()
    assert files.visible(tmp_path) == [tmp_path / "a.png", tmp_path / "b.png"]
