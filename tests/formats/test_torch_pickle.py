"""The reader of .pt, against files that torch would write and files that nobody should."""

import io
import os
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch_files
from hypothesis import given
from hypothesis import strategies as st
from torch_files import Call, Name, Persistent, pickled, storage, tensor, torch_legacy, torch_zip, zip_file

from refsam.errors import CheckpointError
from refsam.formats import torch_pickle
from refsam.formats.stored import MAX_HEADER, Stored

RNG = np.random.default_rng(0)
ARRAYS = {
    "a": RNG.normal(size=(2, 3)).astype("f4"),
    "b.c": RNG.normal(size=(4,)).astype("f8"),
    "h": RNG.normal(size=(3, 1, 2)).astype("f2"),
    "empty": np.zeros((0, 3), "f4"),
    "scalar": np.array(2.5, "f4"),
}


def read(raw: bytes) -> Stored:
    kind = torch_pickle.read_legacy if torch_pickle.matches_legacy(raw[:64]) else torch_pickle.read_zip
    return kind(io.BytesIO(raw), len(raw))


def values(raw: bytes) -> dict[str, np.ndarray]:
    return {name: entry.read() for name, entry in read(raw).tensors.items()}


@pytest.mark.core
@pytest.mark.parametrize("write", [torch_zip, torch_legacy])
def test_values_are_exact(write):
    found = values(write(ARRAYS))
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert found[name].dtype == np.float32
        assert found[name].flags.owndata
        assert found[name].flags.writeable
        np.testing.assert_array_equal(found[name], array.astype("f4"))


def test_big_endian_files_read_the_same():
    swapped = {name: array.byteswap() for name, array in ARRAYS.items()}
    for raw in (torch_zip(swapped, byteorder=b"big"), torch_legacy(swapped, little=False)):
        np.testing.assert_array_equal(values(raw)["a"], ARRAYS["a"])
    np.testing.assert_array_equal(values(torch_zip(ARRAYS, byteorder=b"little"))["a"], ARRAYS["a"])


def test_bfloat16_is_the_upper_half_of_a_float32():
    halves = np.array([0x3F80, 0xC000, 0x0001, 0x7F80], np.uint16)
    found = values(torch_zip({"x": halves}))["x"]
    np.testing.assert_array_equal(found, np.array([1, -2, 2.0**-133, np.inf], "f4"))


def test_strides_and_offsets_are_honoured():
    flat = np.arange(12, dtype="f4")
    where = storage("0", flat)
    views = {"t": tensor(where, (4, 3), (1, 4)), "tail": tensor(where, (2,), (5,), 6), "spread": tensor(where, (2, 2), (0, 1))}
    found = values(zip_file(views, {"0": flat.tobytes()}))
    np.testing.assert_array_equal(found["t"], flat.reshape(3, 4).T)
    assert found["t"].flags.c_contiguous
    np.testing.assert_array_equal(found["tail"], [6, 11])
    np.testing.assert_array_equal(found["spread"], [[0, 1], [0, 1]])


@pytest.mark.parametrize(
    "view",
    [
        {"shape": (13,), "strides": (1,)},
        {"shape": (2,), "strides": (12,)},
        {"shape": (12,), "strides": (1,), "offset": 1},
        {"shape": (2,), "strides": (-1,), "offset": 5},
        {"shape": (2,), "strides": (1,), "offset": -1},
        {"shape": (-1,), "strides": (1,)},
        {"shape": (2, 2), "strides": (1,)},
        {"shape": (1 << 62,), "strides": (0,)},
        {"shape": (True,), "strides": (1,)},
        {"shape": (1,) * 9, "strides": (1,) * 9},
        {"shape": "ab", "strides": (1,)},
    ],
    ids=str,
)
def test_a_view_outside_of_its_storage_is_refused(view):
    flat = np.arange(12, dtype="f4")
    with pytest.raises(CheckpointError, match="tensor"):
        read(zip_file({"x": tensor(storage("0", flat), **view)}, {"0": flat.tobytes()}))


def test_wrapped_state_dicts_and_parameters_are_found():
    flat = np.arange(6, dtype="f4")
    view = tensor(storage("0", flat), (6,), (1,))
    parameter = Call(Name("torch._utils._rebuild_parameter"), (view, True, Call(Name("collections.OrderedDict"), ())))
    for value in ({"model": {"x": view}}, {"epoch": 3, "state_dict": {"x": parameter}}, {"x": parameter, "lr": 1, "note": "n"}):
        assert list(read(zip_file(value, {"0": flat.tobytes()})).tensors) == ["x"]


@pytest.mark.parametrize("first", ["model", "optimizer"])
def test_a_training_checkpoint_s_other_storages_are_stepped_over(first):
    """In the older format as in the zip: those of an optimizer lie before, between or behind the state dict's."""
    arrays = {"a": ARRAYS["a"], "moment": np.zeros(7, "f8"), "b": np.arange(4, dtype="f4"), "step": np.ones((), "f4")}
    views = torch_files.state(arrays, None)
    state = {"moment": views["moment"], "step": views["step"]}
    parts = {"model": {"a": views["a"], "b": views["b"]}, "optimizer": {"state": {0: state}}}
    value = {first: parts[first], **parts, "epoch": 3}
    data = {str(key): array.tobytes() for key, array in enumerate(arrays.values())}
    for raw in (zip_file(value, data), torch_files.legacy_file(value, arrays)):
        found = values(raw)
        assert list(found) == ["a", "b"]
        for name, array in found.items():
            np.testing.assert_array_equal(array, arrays[name])


def test_storages_of_a_legacy_file_have_one_size_each_and_fit_into_it():
    array = ARRAYS["a"]
    other = tensor(storage("0", np.zeros(1 << 20, "f4"), None), (1,), (1,))
    with pytest.raises(CheckpointError, match="two storages 0 that differ"):
        read(torch_files.legacy_file({"model": torch_files.state({"a": array}, None), "x": other}, {"a": array}))
    huge = Persistent(("storage", Name("torch.FloatStorage"), "1", "cpu", (1 << 40) - 1, None))
    value = {"model": torch_files.state({"a": array}, None), "optimizer": tensor(huge, (1,), (1,))}
    with pytest.raises(CheckpointError, match="truncated"):
        read(torch_files.legacy_file(value, {"a": array, "b": array}))


@pytest.mark.core
@pytest.mark.parametrize(
    "claim", [np.zeros(1 << 18, "f4"), np.zeros(1 << 18, "f8"), np.zeros(1, "f8")], ids=["longer", "other", "one"]
)
@pytest.mark.parametrize("write", [zip_file, torch_files.legacy_file])
def test_no_tensor_reads_beyond_the_data_that_another_one_read(write, claim):
    """Both name storage 0; the first describes it truly, and the second by what it would like to see of the memory behind."""
    flat = np.ones(1, "f4")
    value = {"a": tensor(storage("0", flat, None), (1,), (1,)), "b": tensor(storage("0", claim, None), claim.shape, (1,))}
    data = {"0": flat.tobytes()} if write is zip_file else {"0": flat}
    with pytest.raises(CheckpointError, match="two storages 0 that differ"):
        values(write(value, data))


@pytest.mark.parametrize("write", [torch_zip, torch_legacy])
def test_a_file_that_becomes_shorter_while_it_is_read_is_refused(write):
    raw = write({"a": ARRAYS["a"]})
    file = io.BytesIO(raw)
    kind = torch_pickle.read_legacy if write is torch_legacy else torch_pickle.read_zip
    entry = kind(file, len(raw)).tensors["a"]
    file.truncate(raw.index(ARRAYS["a"].tobytes()) + 4)
    with pytest.raises(CheckpointError, match=r"is being changed|checksum"):
        entry.read()


class Evil:
    """Pickles to a call; unpickled by Python it would run the command."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.core
def test_a_malicious_pickle_runs_nothing(tmp_path):
    marker = tmp_path / "executed"
    program = pickle.dumps({"x": Evil(marker)}, protocol=2)
    pickle.loads(program)
    assert marker.exists(), "the pickle has to be one that does harm where it is run"
    marker.unlink()
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", program)
    for raw in (file.getvalue(), pickled(torch_files.MAGIC) + pickled(1001) + pickled({}) + program):
        with pytest.raises(CheckpointError, match=r"asks for (posix|nt)\.system"):
            read(raw)
    assert not marker.exists()


def test_a_pickle_that_holds_itself_is_no_state_dict():
    cyclic = b"\x80\x02}q\x00X\x05\x00\x00\x00modelh\x00s."  # d["model"] = d
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", cyclic)
    with pytest.raises(CheckpointError, match="no state dict"):
        read(file.getvalue())


@pytest.mark.parametrize("write", [torch_zip, torch_legacy])
def test_a_storage_is_let_go_when_its_last_tensor_is_read(write):
    arrays = {str(number): np.full(1 << 18, number, "f4") for number in range(8)}
    stored = read(write(arrays))
    tracemalloc.start()
    found = [entry.read() for entry in stored.tensors.values()]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [array[0] for array in found] == list(range(8))
    # All eight results, the bytes of one of them, and 512 KiB of small things.
    assert peak < 9 * found[0].nbytes + (1 << 19)


def test_a_zip_bomb_is_refused_before_it_is_inflated():
    flat = np.zeros(1 << 22, "f4")
    bomb = zip_file(torch_files.state({"x": flat}), {"0": flat.tobytes()}, method=zipfile.ZIP_DEFLATED)
    assert len(bomb) < flat.nbytes // 100
    tracemalloc.start()
    with pytest.raises(CheckpointError, match="compressed"):
        read(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < flat.nbytes // 10


def directory_of(raw: bytes) -> tuple[int, int]:
    """(count, start) from the end record."""
    return struct.unpack_from("<H", raw, len(raw) - 12)[0], struct.unpack_from("<I", raw, len(raw) - 6)[0]


def patched(raw: bytes, position: int, format: str, value: int) -> bytes:
    changed = bytearray(raw)
    struct.pack_into(format, changed, position, value)
    return bytes(changed)


def test_entries_that_share_their_data_are_refused():
    raw = torch_zip({"a": np.zeros(1000, "f4")})
    _, start = directory_of(raw)
    at = raw.index(b"archive/data/0", start)
    entry = raw[at - 46 : at + 14 + 8]  # with its 8 bytes of padding
    entries = b"".join(entry.replace(b"archive/data/0", b"archive/%06d" % number) for number in range(20))
    many = raw[:start] + entries + raw[-22:]
    many = patched(patched(many, len(many) - 12, "<H", 20), len(many) - 10, "<I", len(entries))
    with pytest.raises(CheckpointError, match="overlap"):
        read(many)


ZIPS = {
    "no end": (lambda raw: raw[:-1], "truncated"),
    "directory outside": (lambda raw: patched(raw, len(raw) - 6, "<I", len(raw)), "outside"),
    "zip64": (lambda raw: patched(raw, len(raw) - 6, "<I", 0xFFFFFFFF), "too large"),
    "too many entries": (lambda raw: patched(raw, len(raw) - 12, "<H", 60000), "too large"),
    "more entries than there are": (lambda raw: patched(raw, len(raw) - 12, "<H", 90), "damaged"),
    "entry elsewhere": (lambda raw: patched(raw, directory_of(raw)[1] + 42, "<I", 3), "not where"),
    "changed data": (lambda raw: raw.replace(ARRAYS["a"].tobytes(), bytes(ARRAYS["a"].nbytes)), "set_crc32_options"),
    "twice the same name": (lambda raw: raw.replace(b"archive/data/1", b"archive/data/0"), "twice"),
    "missing storage": (lambda raw: raw.replace(b"archive/data/1", b"archive/data/7"), "missing"),
    "name that is no text": (lambda raw: raw.replace(b"archive/data/1", b"archive/data/\xff"), "damaged"),
}


@pytest.mark.parametrize(("change", "message"), ZIPS.values(), ids=ZIPS)
def test_a_damaged_zip_says_what_is_wrong(change, message):
    with pytest.raises(CheckpointError, match=message):
        values(change(torch_zip(ARRAYS)))


def test_other_zip_files_are_named():
    file = io.BytesIO()
    np.savez(file, weights=ARRAYS["a"])
    with pytest.raises(CheckpointError, match=r"not of torch.save .*weights\.npy"):
        read(file.getvalue())
    with pytest.raises(CheckpointError, match="TorchScript"):
        read(torch_zip(ARRAYS, **{"constants.pkl": b""}))


def test_a_storage_of_another_size_is_refused():
    with pytest.raises(CheckpointError, match="not of 24 bytes"):
        values(zip_file(torch_files.state({"a": ARRAYS["a"]}), {"0": b"\0" * 20}))


def test_a_large_pickle_is_refused_unread():
    with pytest.raises(CheckpointError, match=r"data\.pkl has"):
        read(zip_file({"note": "x" * MAX_HEADER}, {}))


def test_a_cut_legacy_file_is_truncated():
    raw = torch_legacy(ARRAYS)
    for end in (len(raw) - 1, len(raw) - 30, 200, 60, 20):
        with pytest.raises(CheckpointError, match=r"truncated|damaged"):
            values(raw[:end])


@pytest.mark.parametrize("keys", [["9"], [["0"]], ["0", "0"], "0", []], ids=str)
def test_a_legacy_list_of_storages_has_to_fit(keys):
    head = [torch_files.MAGIC, 1001, {}, torch_files.state({"a": ARRAYS["a"]}, None), keys]
    with pytest.raises(CheckpointError):
        values(b"".join(map(pickled, head)) + b"\0" * 100)


@given(data=st.data(), legacy=st.booleans())
def test_no_damage_gets_past_as_another_error(data, legacy):
    raw = bytearray((torch_legacy if legacy else torch_zip)(ARRAYS))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(1, len(raw)))
    for damaged in (bytes(raw), bytes(raw[:cut])):
        for reader in (torch_pickle.read_zip, torch_pickle.read_legacy):
            try:
                found = reader(io.BytesIO(damaged), len(damaged))
                read = [(entry, entry.read()) for entry in found.tensors.values() if entry.nbytes <= len(damaged)]
            except CheckpointError:
                continue
            assert all((array.shape, array.dtype.kind) == (entry.shape, "f") for entry, array in read)


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore")  # those of upstream's own imports
@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_what_torch_saves_is_read_exactly(tmp_path, new):
    import torch
    from mobile_sam import sam_model_registry

    torch.manual_seed(1)
    state = sam_model_registry["vit_t"]().state_dict()
    torch.save(state, tmp_path / "m.pt", _use_new_zipfile_serialization=new)
    stored = read((tmp_path / "m.pt").read_bytes()).tensors
    assert list(stored) == list(state)
    for name, expected in state.items():
        if expected.is_floating_point():
            np.testing.assert_array_equal(stored[name].read(), expected.numpy())
