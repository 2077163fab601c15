"""Hostile packages: nothing crashes, hangs, takes memory without end, or opens a file outside the package."""

import json
import os
import shutil
import struct
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from coreml import fuzz_structure
from coreml.faults import field, varint
from coreml.fuzz import SOURCE, FilesOpened, attack, everything, judged, outcome
from coreml.packages import CONFIG, case
from standin import standin_weights

from refsam import coreml
from refsam.coreml import blob, spec, tensors, wire
from refsam.coreml.types import TensorType
from refsam.coreml.verdicts import judge_run
from refsam.coreml.wire import Message
from refsam.errors import InputError, PackageError
from refsam.model.sam import MobileSam

WEIGHTS = Path("Data") / "com.apple.CoreML" / "weights" / "weight.bin"
SLOWER = 100
"""Times the time of the clean package."""

MODEL = Path("Data") / "com.apple.CoreML" / "model.mlmodel"


@pytest.fixture
def package(packages: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(packages / SOURCE, tmp_path / SOURCE))


def test_damaged_packages_are_refused_or_run(package: Path) -> None:
    """A seeded part of what make evidence does ten thousand times."""
    original = {path: path.read_bytes() for path in package.rglob("*") if path.is_file()}
    clean = seconds_to_run(package)
    slowest, results = 0.0, Counter()
    with FilesOpened() as opened:
        for seed in range(400):
            start = time.process_time()
            results[attack(package, original, seed)] += 1
            slowest = max(slowest, time.process_time() - start)
    assert opened.paths & {path.resolve() for path in original}
    assert not opened.outside(package)
    assert results["ran"] < 250 < 400 == results.total()
    assert results["PackageError"] > 100
    assert slowest < SLOWER * clean


def seconds_to_run(package: Path) -> float:
    """Of the processor, for a package that is right; the first run reads and compiles what later ones have."""
    assert outcome(package) == "ran"
    start = time.process_time()
    assert outcome(package) == "ran"
    return time.process_time() - start


@pytest.mark.parametrize("source", fuzz_structure.SOURCES)
def test_packages_of_a_wrong_structure_are_refused_or_run(packages: Path, tmp_path: Path, source: str) -> None:
    """A seeded part of what make evidence does ten thousand times; an exception that is no InputError would be raised here."""
    package = Path(shutil.copytree(packages / f"{source}.mlpackage", tmp_path / f"{source}.mlpackage"))
    tree, clean = fuzz_structure.tree_of(package), seconds_to_run(package)
    slowest, results = 0.0, Counter()
    with FilesOpened() as opened:
        for seed in (*range(4), 307):  # 307: an output of the first package that nothing computes
            start = time.process_time()
            results[fuzz_structure.attack(package, tree, seed)] += 1
            slowest = max(slowest, time.process_time() - start)
    assert not opened.outside(package)
    assert results["PackageError"] > 0
    assert results["ran"] < results.total() == 5
    assert slowest < SLOWER * clean


@pytest.mark.parametrize("source", ["PromptEncoder.iOS15.fp16", "MaskDecoder.int4-block"])
def test_verdicts_of_packages_of_a_wrong_structure_are_errors_of_one_line(packages: Path, tmp_path: Path, source: str) -> None:
    """An exception that is no InputError would be raised here."""
    package = Path(shutil.copytree(packages / f"{source}.mlpackage", tmp_path / f"{source}.mlpackage"))
    tree, dump = fuzz_structure.tree_of(package), everything(package)
    model = MobileSam(standin_weights(CONFIG), CONFIG)
    results = Counter()
    for seed in range(12):
        fuzz_structure.write_changed(package, tree, seed)
        results.update(judged(package, dump, model))
    assert results["PackageError"] > 0
    assert results["judged"] > 0


def test_two_inputs_of_one_name_are_refused(package: Path) -> None:
    data = (package / MODEL).read_bytes()
    (package / MODEL).write_bytes(data.replace(b"\x0a\x06labels\x1a", b"\x0a\x06points\x1a"))
    with pytest.raises(PackageError, match="two inputs or outputs have the name 'points'"):
        coreml.load(package)


@pytest.mark.parametrize(
    "name", ["../../../../outside.bin", "/etc/passwd", "weights/../../../../../outside.bin", "weights/link.bin"]
)
def test_no_file_outside_the_package_is_read(package: Path, tmp_path: Path, name: str) -> None:
    secret = tmp_path / "outside.bin"
    shutil.copy(package / WEIGHTS, secret)
    (package / WEIGHTS.parent / "link.bin").symlink_to(secret)
    old, new = b"@model_path/weights/weight.bin", f"@model_path/{name}".encode()
    data = (package / MODEL).read_bytes()
    (package / MODEL).write_bytes(resized(data, old, new))
    with pytest.raises(PackageError, match="leads out of the package"):
        coreml.load(package).run(case("PromptEncoder", 1))


def resized(data: bytes, old: bytes, new: bytes) -> bytes:
    """`data` with a text replaced by one of another length, in every message that has it."""
    if data == old:
        return new
    if old not in data:
        return data
    out, at = bytearray(), 0
    while at < len(data):
        key, length, start = header(data, at)
        body = data[start : start + length] if key & 7 == 2 else b""
        out += field(key >> 3, resized(body, old, new)) if key & 7 == 2 else data[at : start + length]
        at = start + length
    return bytes(out)


def header(data: bytes, at: int) -> tuple[int, int, int]:
    from coreml.faults import read_varint

    key, at = read_varint(data, at)
    value, after = read_varint(data, at)
    return (key, value, after) if key & 7 == 2 else (key, after - at, at)


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ("{", "does not say where the model is"),
        ("[" * 100_000, "does not say where the model is"),
        ({"rootModelIdentifier": "a", "itemInfoEntries": {"a": {"path": 3}}}, "does not name the model's file"),
        ({"rootModelIdentifier": "a", "itemInfoEntries": {"a": {"path": "../../x.mlmodel"}}}, "leads out of the package"),
        ({"rootModelIdentifier": "a", "itemInfoEntries": {"a": {"path": "a\0b"}}}, "cannot be the name of a file"),
        ({"rootModelIdentifier": "a", "itemInfoEntries": {"a": {"path": "com.apple.CoreML"}}}, "is not a regular file"),
        ({"rootModelIdentifier": "a", "itemInfoEntries": {"a": {"path": "none"}}}, "cannot be read"),
    ],
)
def test_manifests_that_lie(package: Path, manifest: object, message: str) -> None:
    (package / "Manifest.json").write_text(manifest if isinstance(manifest, str) else json.dumps(manifest))
    with pytest.raises(PackageError, match=message):
        coreml.load(package)


def test_what_is_no_package_says_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=r"it has no Manifest\.json"):
        coreml.load(tmp_path)
    (tmp_path / "model.mil").touch()
    with pytest.raises(PackageError, match="this folder is a compiled model"):
        coreml.load(tmp_path)
    network = tmp_path / "old.mlmodel"
    network.write_bytes(varint(1 << 3) + varint(4) + field(500, b""))
    with pytest.raises(PackageError, match="a neural network; refsam runs ML programs"):
        coreml.load(network)
    with pytest.raises(PackageError, match="cannot be read"):
        coreml.load(tmp_path / "none.mlpackage")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\xff" * 11, "longer than ten bytes"),
        (b"\x0a\xff\xff\xff\xff\x0f", "claims 4294967295 bytes where 0 are left"),
        (b"\x0b", "wire type 3"),
        (b"\x0a", "ends within a number"),
        (b"\x09abc", "claims 8 bytes"),
    ],
)
def test_wire_format_bounds(data: bytes, message: str) -> None:
    with pytest.raises(PackageError, match=message):
        Message(memoryview(data))


def test_a_message_of_empty_fields_is_refused() -> None:
    """Two bytes each, and a hundred times as many in memory."""
    assert len(list(Message(memoryview(b"\x0a\0" * 1000)).messages(1))) == 1000
    with pytest.raises(PackageError, match="more than 131072 fields"):
        Message(memoryview(b"\x0a\0" * (1 << 18)))


def test_lists_of_numbers_are_read_as_protobuf_packs_them() -> None:
    rng = np.random.RandomState(0)
    numbers = [0, 1, -1, 127, 128, -(1 << 63), (1 << 63) - 1, *(int(n) >> int(s) for n, s in zip(
        rng.randint(-(1 << 63), (1 << 63) - 1, 40_000, np.int64), rng.randint(0, 64, 40_000), strict=True))]  # fmt: skip
    packed = b"".join(varint(n % (1 << 64)) for n in numbers)
    assert len(packed) > 2 * wire.PIECE
    assert Message(memoryview(field(1, packed))).integers(1, len(numbers)).tolist() == numbers
    both = field(1, packed[:1]) + varint(1 << 3) + varint((1 << 64) - 5) + field(1, b"")
    assert Message(memoryview(both)).integers(1, 2).tolist() == [0, -5]
    assert Message(memoryview(b"")).integers(1, 0).tolist() == []
    for wrong, message in ((b"\x01\xff", "ends within a number"), (b"\x01" + b"\xff" * 11, "longer than ten bytes"),
                           (b"\x01" + b"\x80" * 10 + b"\x01\x01", "longer than ten bytes")):  # fmt: skip
        with pytest.raises(PackageError, match=message):
            Message(memoryview(field(1, wrong))).integers(1, 9)


def test_a_list_that_is_too_long_is_not_read_to_its_end() -> None:
    """One number at a time took minutes for 60 MB, and a gigabyte."""
    long = b"\x01" * (1 << 20)
    assert len(wire._varints(memoryview(long), 16)) == 17
    with pytest.raises(PackageError, match="longer than what it is of"):
        Message(memoryview(field(1, long))).integers(1, 16)


def test_many_inputs_are_told_apart_in_time() -> None:
    """To compare each name with each took minutes for a megabyte."""
    counts = []
    for count in (1000, 30_000):
        description = Message(memoryview(b"".join(field(1, field(1, b"%d" % i)) for i in range(count))))
        start = time.process_time()
        assert len(spec._features(description, 1)) == count
        counts.append(time.process_time() - start)
    assert counts[1] < 30 * 10 * counts[0]


def test_blocks_and_values_cannot_nest_for_ever(tmp_path: Path) -> None:
    def model(operation: bytes) -> bytes:
        block = field(3, operation)
        function = field(2, b"CoreML5") + field(3, field(1, b"CoreML5") + field(2, block))
        return field(502, field(2, field(1, b"main") + field(2, function)))

    operation = b""
    for _ in range(500):
        operation = field(4, field(3, operation))
    value = b""
    for _ in range(500):
        value = field(2, field(3, b"")) + field(3, field(2, field(1, value)))
    for content in (operation, field(5, field(1, b"val") + field(2, value))):
        path = tmp_path / "deep.mlmodel"
        path.write_bytes(model(content))
        with pytest.raises(PackageError, match="nested more than 16 deep"):
            coreml.load(path)


RECORD_AT = 64


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ((0xDEADBEEF, 1, 8, 1 << 50, 0), "claims 8 bytes from"),
        ((0xDEADBEEF, 1, 1 << 60, 128, 0), "claims"),
        ((0xDEADBEEF, 1, 8, 129, 0), "claims 8 bytes from 129"),
        ((0xDEADBEEF, 1, 16, 128, 0), r"has 16 bytes where fp16 \(4,\) needs 8"),
        ((0xDEADBEEF, 2, 8, 128, 0), "is fp32, and the program takes it for fp16"),
        ((0xDEADBEEF, 99, 8, 128, 0), "is type 99"),
        ((0xDEADBEEE, 1, 8, 128, 0), "there is no tensor at byte 64"),
    ],
)
def test_weight_files_that_lie(tmp_path: Path, record: tuple, message: str) -> None:
    path = tmp_path / "weight.bin"
    path.write_bytes(struct.pack("<II", 1, 2).ljust(64, b"\0") + blob.RECORD.pack(*record).ljust(64, b"\0") + bytes(64))
    with pytest.raises(PackageError, match=message):
        blob.read(path, RECORD_AT, TensorType("fp16", (4,)))


def test_weight_files_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "weight.bin"
    for content, message in ((b"", "empty or truncated"), (struct.pack("<II", 1, 1).ljust(256, b"\0"), "version 1")):
        path.write_bytes(content)
        with pytest.raises(PackageError, match=message):
            blob.read(path, RECORD_AT, TensorType("fp16", (4,)))
    with pytest.raises(PackageError, match="at most 134217728 elements"):
        blob.read(path, RECORD_AT, TensorType("fp16", (1 << 20, 1 << 20)))
    with pytest.raises(PackageError, match="no fixed shape"):
        blob.read(path, RECORD_AT, TensorType("fp16", (None,)))


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6])
def test_packed_numbers(bits: int) -> None:
    values = np.random.RandomState(bits).randint(0, 1 << bits, 53)
    stream = sum(int(v) << (bits * i) for i, v in enumerate(values))
    raw = np.frombuffer(stream.to_bytes(-(-53 * bits // 8), "little"), np.uint8)
    np.testing.assert_array_equal(blob.unpack_bits(raw, bits, 53), values)
    signed = np.where(values >= 1 << (bits - 1), values - (1 << bits), values)
    np.testing.assert_array_equal(blob.unpack_bits(raw, bits, 53, signed=True), signed)


@pytest.mark.parametrize(
    ("dtype", "raw", "values"),
    [("int4", b"\x03", [3]), ("int4", b"\xf1\x07", [1, -1, 7]), ("uint1", b"\x15", [1, 0, 1, 0, 1]), ("uint6", b"\x3f", [63])],
)
def test_packed_numbers_in_the_program_need_not_fill_their_last_byte(dtype: str, raw: bytes, values: list[int]) -> None:
    def read(content: bytes) -> np.ndarray:
        return spec._tensor(TensorType(dtype, (len(values), 1)), Message(memoryview(field(7, field(1, content)))))

    np.testing.assert_array_equal(read(raw), np.array(values)[:, None])
    with pytest.raises(PackageError, match=rf"{len(raw) + 1} bytes where {dtype} .* needs {len(raw)}"):
        read(raw + b"\0")


def test_float8_and_bfloat16() -> None:
    e4m3 = blob.decode(bytes([0x00, 0x01, 0x08, 0x38, 0x7E, 0xB8, 0x7F]), "fp8e4m3fn", (7,))
    np.testing.assert_array_equal(e4m3, np.float32([0, 2**-9, 2**-6, 1, 448, -1, np.nan]))
    e5m2 = blob.decode(bytes([0x01, 0x04, 0x3C, 0x7B, 0x7C, 0xFC, 0x7D]), "fp8e5m2", (7,))
    np.testing.assert_array_equal(e5m2, np.float32([2**-16, 2**-14, 1, 57344, np.inf, -np.inf, np.nan]))
    np.testing.assert_array_equal(blob.decode(b"\x80\x3f\x00\xc0", "bf16", (2,)), np.float32([1, -2]))


def test_dumps_in_every_form(tmp_path: Path) -> None:
    types = {"a/b": TensorType("fp16", (2, 3)), "c": TensorType("int32", (None, 2)), "d": TensorType("fp32", (2,))}
    arrays = {"a/b": np.arange(6, dtype=np.float16).reshape(2, 3), "c": np.arange(8, dtype=np.int32).reshape(4, 2)}
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "a_b.bin").write_bytes(arrays["a/b"].astype(np.float32).tobytes())  # float32 of a float16 tensor: the length says so
    (raw / "c.bin").write_bytes(arrays["c"].tobytes())
    np.save(raw / "d.npy", np.float32([1, 2]))
    found = tensors.read(raw, types)
    np.testing.assert_array_equal(found["a/b"], arrays["a/b"])
    np.testing.assert_array_equal(found["c"], arrays["c"])
    tensors.write(tmp_path / "x.npz", arrays)
    tensors.write(tmp_path / "x.safetensors", {"d": found["d"]})
    np.testing.assert_array_equal(tensors.read(tmp_path / "x.npz", types)["c"], arrays["c"])
    np.testing.assert_array_equal(tensors.read(tmp_path / "x.safetensors", types)["d"], [1, 2])


def test_dumps_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(b"abc")
    with pytest.raises(InputError, match=r"has 3 bytes, which fp16\[4\] does not explain"):
        tensors.read(tmp_path, {"x": TensorType("fp16", (4,))})
    with pytest.raises(InputError, match="is no tensor of the program"):
        tensors.read(tmp_path, {"y": TensorType("fp16", (4,))})
    with pytest.raises(InputError, match="is neither"):
        tensors.read(tmp_path / "x.bin", {})
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"has no \.bin or \.npy file"):
        tensors.read(tmp_path / "empty", {})
    np.savez(tmp_path / "o.npz", x=np.array([{}], dtype=object))
    with pytest.raises(InputError, match="cannot be read"):
        tensors.read(tmp_path / "o.npz", {})


@pytest.mark.parametrize("damage", ["data", "encrypted", "method"])
def test_a_damaged_npz_is_an_error_of_one_line(tmp_path: Path, damage: str) -> None:
    """zlib.error, RuntimeError and NotImplementedError."""
    path = tmp_path / "x.npz"
    np.savez_compressed(path, a=np.arange(1000.0))
    raw = bytearray(path.read_bytes())
    central = raw.find(b"PK\x01\x02")
    if damage == "data":
        raw[150:170] = b"\xff" * 20
    elif damage == "encrypted":
        raw[6] |= 1
        raw[central + 8] |= 1
    else:
        raw[8] = raw[central + 10] = 99
    path.write_bytes(raw)
    with pytest.raises(InputError, match="cannot be read"):
        tensors.read(path, {})


def test_dumps_that_unpack_to_more_than_memory_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensors, "MAX_BYTES", 1 << 20)
    np.savez_compressed(tmp_path / "x.npz", a=np.zeros(1 << 18))
    with pytest.raises(InputError, match="unpacks to 2097"):
        tensors.read(tmp_path / "x.npz", {})


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "dumps").mkdir()
    for place in (tmp_path / "x.npz", tmp_path / "dumps" / "x.bin"):
        os.mkfifo(place)
        with pytest.raises(InputError, match="device or a pipe"):
            tensors.read(place if place.suffix == ".npz" else place.parent, {"x": TensorType("fp16", (4,))})


def test_tensors_may_be_called_as_they_like(tmp_path: Path) -> None:
    given = {"file": np.arange(3.0), "allow_pickle": np.arange(2), "a/b": np.float16([1])}
    tensors.write(tmp_path / "x.npz", given)
    found = tensors.read(tmp_path / "x.npz", {})
    assert set(found) == set(given)
    for name, x in given.items():
        np.testing.assert_array_equal(found[name], x)


def test_raw_dumps_of_a_flexible_program_have_the_shapes_of_a_run(packages: Path, tmp_path: Path) -> None:
    """float32 of fp16[1, ?, 32] is not float16 of twice the length, and two unknown lengths are none."""
    for source in ("PromptEncoder.iOS15.fp16", "MaskDecoder.iOS15.fp16"):
        dump = everything(packages / f"{source}.mlpackage")
        folder = tmp_path / source
        folder.mkdir()
        for name, x in dump.items():
            x.astype("f4" if x.dtype.kind == "f" else x.dtype).tofile(folder / f"{tensors.file_name(name)}.bin")
        program, given = coreml.load(packages / f"{source}.mlpackage"), case(source.split(".")[0], 1)
        found = tensors.read(folder, program.types_for(given))
        assert {name: x.shape for name, x in found.items()} == {name: x.shape for name, x in dump.items()}
        assert judge_run(program, given, found)


def test_raw_files_that_can_be_read_in_two_ways_say_so(tmp_path: Path) -> None:
    np.zeros((1, 2, 4), "f4").tofile(tmp_path / "x.bin")
    with pytest.raises(InputError, match=r"has 32 bytes: fp16\[1, \?, 4\] may be float16 or float32 here; write it as \.npy"):
        tensors.read(tmp_path, {"x": TensorType("fp16", (1, None, 4))})
    assert tensors.read(tmp_path, {"x": TensorType("fp32", (1, None, 4))})["x"].shape == (1, 2, 4)
    with pytest.raises(InputError, match="may be float16 or bfloat16 here"):
        tensors.read(tmp_path, {"x": TensorType("bf16", (1, 4, 4))})
