"""The reader of .npz and .npy: what NumPy writes, and every damage to it as an error of one line."""

import io
import os
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from refsam.errors import InputError
from refsam.formats import npz_file

ARRAY = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
MANY = 1 << 20


def npy(array: np.ndarray = ARRAY) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array)
    return file.getvalue()


def npz(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, raw in members.items():
            archive.writestr(name, raw)
    return file.getvalue()


def with_header(text: str) -> bytes:
    header = text.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(16)


def refused(path: Path, raw: bytes) -> str:
    """The error of one line that both readers give, of an .npz for an array in it."""
    path.write_bytes(raw)
    with pytest.raises(InputError) as error:
        npz_file.read(path, MANY) if path.suffix == ".npz" else npz_file.read_npy(path)
    assert str(error.value).startswith(f"{path} cannot be read as {path.suffix}: ")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < len(str(path)) + 350
    return str(error.value)


def test_what_numpy_writes_is_read(tmp_path: Path) -> None:
    arrays = {
        "a": ARRAY,
        "empty": np.zeros((0, 3)),
        "scalar": np.float16(2),
        "text/x": np.array("x"),
        "f": np.asfortranarray(ARRAY),
    }
    np.savez_compressed(tmp_path / "x.npz", **arrays)
    found = npz_file.read(tmp_path / "x.npz", MANY)
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        np.save(tmp_path / "x.npy", array)
        for again in (found[name], npz_file.read_npy(tmp_path / "x.npy")):
            assert (type(again), again.dtype, again.shape) == (np.ndarray, np.asarray(array).dtype, np.shape(array))
            np.testing.assert_array_equal(again, array)


def test_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=ARRAY, b=np.array([{}], object))
    assert list(npz_file.read(tmp_path / "x.npz", MANY, ("a", "c"))) == ["a"]
    with pytest.raises(InputError, match="Object arrays cannot be loaded"):
        npz_file.read(tmp_path / "x.npz", MANY)


@pytest.mark.filterwarnings("ignore")  # those of Python about a header's text, and NumPy's about one of Python 2
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_every_byte_of_a_header_may_be_damaged(tmp_path: Path, suffix: str) -> None:
    raw, path = npy(), tmp_path / f"x{suffix}"
    for position in range(len(raw) - ARRAY.nbytes):
        for value in (*b"( [", raw[position] ^ 64):
            damaged = raw[:position] + bytes([value]) + raw[position + 1 :]
            path.write_bytes(damaged if suffix == ".npy" else npz({"x.npy": damaged}))
            with suppress(InputError):
                npz_file.read_npy(path) if suffix == ".npy" else npz_file.read(path, MANY)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_every_byte_of_an_archive_may_be_damaged(tmp_path: Path, method: int) -> None:
    raw, path = npz({"x.npy": npy(), "y.npy": npy()}, method), tmp_path / "x.npz"
    for position in range(len(raw)):
        path.write_bytes(raw[:position] + bytes([raw[position] ^ 1]) + raw[position + 1 :])
        with suppress(InputError):
            npz_file.read(path, MANY)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "text",
    [
        "{[1]:2}",
        "{1,[2]}",
        "{'descr': (), 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1" + 30 * "0" + ",)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,)}",
        "{'descr': '|O', 'fortran_order': False, 'shape': (1,)}",
        5000 * "(",
        9000 * "-" + "1",
    ],
    ids=lambda text: text[:30],
)
def test_a_header_that_makes_no_sense_is_refused(tmp_path: Path, text: str) -> None:
    refused(tmp_path / "x.npy", with_header(text))
    refused(tmp_path / "x.npz", npz({"x.npy": with_header(text)}))


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    raw = npz({"x.npy": npy(np.zeros(1 << 20))}, zipfile.ZIP_DEFLATED)
    assert len(raw) < 1 << 15
    assert "it unpacks to 8388736 bytes; at most 1 MiB are read" in refused(tmp_path / "x.npz", raw)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_archive_that_numpy_would_not_write_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    assert "compressed in a way" in refused(path, npz({"x.npy": npy()}, zipfile.ZIP_BZIP2))
    assert "'notes.txt' in it is no .npy" in refused(path, npz({"x.npy": npy(), "notes.txt": b"x"}))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x.npy", npy())
        archive.writestr("x.npy", npy(ARRAY + 1))
    assert "holds 'x' twice" in refused(path, file.getvalue())


def test_an_archive_in_the_place_of_an_array_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "x.npy", npz({"x.npy": npy()}))
    refused(tmp_path / "x.npz", npy())


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, tmp_path / "none", "a\0b"):
        with pytest.raises(InputError, match=r"cannot be read as \.npz"):
            npz_file.read(path, MANY)
        with pytest.raises(InputError, match=r"cannot be read as \.npy"):
            npz_file.read_npy(path)
