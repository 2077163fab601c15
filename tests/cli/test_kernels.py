"""`refsam kernels`: on the emulator."""

import json
from pathlib import Path

import numpy as np
import pytest

from refsam.cli import kernels
from refsam.metal.cases import CASES
from refsam.metal.sources import folder as kernels_folder

SQUARE = """#include <metal_stdlib>
using namespace metal;
struct Size { uint n; float3 scale; };
kernel void square(device const float *x [[buffer(0)]], device float *y [[buffer(1)]], constant Size &p [[buffer(2)]],
                   uint i [[thread_position_in_grid]]) {
    if (i < p.n) y[i] = x[i] * x[i] * p.scale.y;
}
"""
ON_EMULATOR = ("--device", "emulator")


@pytest.fixture
def square(folder: Path) -> Path:
    path = folder / "square.metal"
    path.write_text(SQUARE)
    np.save(folder / "x.npy", np.arange(5, dtype=np.float32))
    return path


def test_check_says_what_a_good_file_has(run, square: Path) -> None:
    code, out, _ = run("kernels", "check", square, *ON_EMULATOR)
    assert (code, out) == (0, f"{square}: ok, kernels: square\n")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("x[i] * x[i]", "x[i] * z[i]", ":6:32: error: use of undeclared identifier 'z'"),
        (
            "device float *y",
            "float *y",
            ":4: error: `float *y [[buffer(1)]]`: a buffer is a pointer or reference in",
        ),
        ("float3 scale", "double scale", "double"),
        ("constant Size &p [[buffer(2)]]", "constant Size &p [[buffer(1)]]", ":4: error: kernel 'square': two arguments"),
        ("uint i [[thread_position_in_grid]]", "texture2d<float> i [[texture(0)]]", ":5: error: attribute [[texture]]: textures"),
        ("uint i [[thread_position_in_grid]]", "threadgroup float *i [[threadgroup(0)]]", "write in the kernel"),
    ],
)
def test_check_names_the_line_of_a_bad_file(run, square: Path, old: str, new: str, message: str) -> None:
    square.write_text(SQUARE.replace(old, new))
    code, out, err = run("kernels", "check", square, *ON_EMULATOR)
    assert (code, err) == (1, "")
    assert out.startswith(f"{square}:")
    assert message in out
    assert out.endswith(f"{square}: refused\n")
    code, out, _ = run("kernels", "check", square, *ON_EMULATOR, "--json")
    document = json.loads(out)
    assert (code, document["ok"], document["kernels"]) == (1, False, ["square"])
    assert message in document["error"]


def test_check_of_what_is_no_file_is_bad_input(refused, folder: Path) -> None:
    assert "cannot read" in refused("kernels", "check", "nothing.metal", *ON_EMULATOR)
    (folder / "bytes.metal").write_bytes(b"\xff\xfe\x00")
    assert "cannot read bytes.metal" in refused("kernels", "check", "bytes.metal", *ON_EMULATOR)


@pytest.mark.parametrize("path", sorted(kernels_folder().glob("*.metal")), ids=lambda path: path.stem)
def test_check_takes_every_kernel_of_ours(run, path: Path) -> None:
    code, out, _ = run("kernels", "check", path, *ON_EMULATOR)
    assert (code, out.startswith(f"{path}: ok, kernels: ")) == (0, True), out


def test_run_runs_a_kernel_on_files(run, square: Path, folder: Path) -> None:
    words = ("x.npy", "float32:5", "n=5,scale=1:2:3", "--threads", "5", "--save", "1=y.npy")
    (folder / "another.metal").write_text(SQUARE)  # with a kernel of the same name
    code, out, _ = run("kernels", "run", square, "square", *words, *ON_EMULATOR)
    assert (code, out) == (0, "buffer 1 y: float32 5, 0 to 32, wrote y.npy\n")
    code, out, err = run("kernels", "run", square, "square", *words[:-1], "1=/dev/fd/1", *ON_EMULATOR)
    assert (code, out, "the answer is printed there" in err) == (2, "", True)
    assert np.load(folder / "y.npy").tolist() == [0, 2, 8, 18, 32]


def test_run_counts_what_is_no_number_and_takes_hexadecimal_ones(run, square: Path, folder: Path) -> None:
    np.save(folder / "x.npy", np.float32([2, np.nan, 3, np.nan] + [3] * 10))
    for count, extent in (("0xe", "4 to 9, 2 NaN"), ("1e1", None)):
        words = ("x.npy", "float32:14", f"n={count},scale=1:1:1", "--threads", "14", "--cpu-threads", "1")
        code, out, err = run("kernels", "run", square, "square", *words, *ON_EMULATOR)
        assert (code, out) == ((0, f"buffer 1 y: float32 14, {extent}\n") if extent else (2, ""))
    assert "Size.n is 10.0, which does not fit its type uint32" in err
    np.save(folder / "x.npy", np.full(4, np.nan, np.float32))
    words = ("x.npy", "float32:4", "n=4,scale=1:1:1", "--threads", "4", "--json")
    code, out, _ = run("kernels", "run", square, "square", *words, *ON_EMULATOR)
    (row,) = json.loads(out)["buffers"]
    assert (row["min"], row["max"], row["nan"]) == (None, None, 4)


def test_run_in_checked_mode_names_the_fault(run, square: Path) -> None:
    square.write_text(SQUARE.replace("if (i < p.n)", ""))
    words = ("x.npy", "float32:5", "n=5,scale=1:2:3", "--threads", "5", "--checked")
    code, out, err = run("kernels", "run", square, "square", *words, *ON_EMULATOR)
    assert (code, out) == (2, "")
    assert "6: error: kernel 'square', group 0, thread 5: reads 4 bytes out of bounds, byte 20 of buffer 0 `x`" in err


COUNT = """#include <metal_stdlib>
using namespace metal;
struct Turn { float2x3 by; int shift; };
kernel void count(device const uchar *x [[buffer(0)]], device atomic_uint *n [[buffer(1)]], constant Turn &p [[buffer(2)]],
                  constant uint &length [[buffer(3)]], uint i [[thread_position_in_grid]]) {
    if (i < length) atomic_fetch_add_explicit(n + x[i], uint((p.by * float2(1, 2)).z) + uint(p.shift), memory_order_relaxed);
}
"""


def test_run_adds_to_zeros_and_lays_out_matrices(run, folder: Path) -> None:
    (folder / "count.metal").write_text(COUNT)
    np.save(folder / "x.npy", np.uint8([1, 3, 3, 2, 3]))
    words = ("x.npy", "uint32:4", "by=1:2:3:4:5:6,shift=-5", "5", "--threads", "5", "--checked", "--save", "1=n.npy")
    assert run("kernels", "run", "count.metal", "count", *words, *ON_EMULATOR)[0] == 0
    assert np.load(folder / "n.npy").tolist() == [0, 10, 10, 30]  # 3 + 2 * 6 - 5 for each


def test_run_says_what_a_struct_has(refused, square: Path, folder: Path) -> None:
    (folder / "x.raw").write_bytes(bytes(10))
    words = ("x.raw", "float32:5", "n=5,scale=1:2:3", "--threads", "5")
    assert "x.raw has 10 bytes, which are no whole number of float32" in refused("kernels", "run", square, "square", *words)
    words = ("x.npy", "float32:5", "5", "--threads", "5")
    message = refused("kernels", "run", square, "square", *words, *ON_EMULATOR)
    assert "buffer 2 (p) is a struct of n (uint), scale (float3): NAME=NUMBER,NAME=1:2:3, not '5'" in message


@pytest.mark.parametrize("header", [5000 * "(", 9000 * "-" + "1", "{[1]:2}"], ids=["tokens", "memory", "type"])
def test_run_takes_no_damaged_array(refused, square: Path, folder: Path, header: str) -> None:
    (folder / "x.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode())
    words = ("x.npy", "float32:5", "n=5,scale=1:2:3", "--threads", "5")
    assert "x.npy cannot be read as .npy" in refused("kernels", "run", square, "square", *words, *ON_EMULATOR)


def test_list_names_every_kernel_with_its_cases(run) -> None:
    code, out, _ = run("kernels", "list", "--json")
    rows = json.loads(out)["kernels"]
    assert code == 0
    assert {row["kernel"] for row in rows} >= {case.kernel for case in CASES}
    assert all(row["what"] and row["cases"] for row in rows)


def test_test_takes_large_cases_too(run, folder: Path) -> None:
    code, out, _ = run("kernels", "test", "relu/*", "--large", "--out", "rows.json", *ON_EMULATOR)
    assert code == 0
    assert "| relu/map |" in out
    assert "| relu/decoder-mlp | 1x7x2048 | 0.0e+00 | 0.000 |" in out
    assert out.endswith("2 cases, 0 wrong\n")
    rows = {row["case"]: row for row in json.loads((folder / "rows.json").read_text())["rows"]}
    assert rows["relu/map"]["seconds"] is None
    assert rows["relu/decoder-mlp"]["seconds"] > 0


def test_bench_times_numpy_beside(run) -> None:
    code, out, _ = run("kernels", "bench", "relu/*", "--rounds", "2", *ON_EMULATOR)
    assert code == 0
    head, row = (next(line for line in out.splitlines() if line.startswith(start)) for start in ("| kernel", "| relu"))
    assert head.endswith("| NumPy ms | of NumPy's rate |")
    assert row.startswith("| relu/decoder-mlp |")
    assert row.endswith(" % |")
    assert row.count("|") == head.count("|")


@pytest.mark.parametrize("command", ["test", "bench"])
def test_a_wrong_result_is_a_difference(run, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    case = next(case for case in CASES if case.name == "relu/decoder-mlp")
    wrong = type(case)(**{**vars(case), "definition": lambda x: np.maximum(x, 0.001)})
    monkeypatch.setattr(kernels, "CASES", (wrong,))
    code, out, _ = run("kernels", command, "relu/*", *(["--large"] if command == "test" else ["--rounds", "1"]), *ON_EMULATOR)
    assert code == 1
    assert " WRONG |" in out
    assert out.endswith("1 cases, 1 wrong\n")


def test_patterns_and_options_without_sense_are_named(refused) -> None:
    assert "no case has a name like 'rleu/*'" in refused("kernels", "test", "rleu/*", *ON_EMULATOR)
    assert "--rounds is 0" in refused("kernels", "bench", "--rounds", "0", *ON_EMULATOR)
    assert "--rounds is 0" in refused("kernels", "forward", "--rounds", "0", *ON_EMULATOR)
    assert "simd_width is 20" in refused("kernels", "test", *ON_EMULATOR, "--simd-width", "20")


def test_forward_runs_the_whole_model_beside_the_definition(run, standin: Path, folder: Path) -> None:
    code, out, _ = run("kernels", "forward", "--weights", standin, "--out", "forward.json", *ON_EMULATOR)
    assert code == 0
    assert out.count("| right |") == 2
    document = json.loads((folder / "forward.json").read_text())
    assert [row["stage"] for row in document["stages"]] == ["image_embeddings", "low_res_masks"]
    assert all(0 < row["kernels"] < 1e-5 for row in document["stages"])  # the project's bound for MobileSAM's size
    assert document["time_ratio"] > 0


def test_forward_calls_a_wrong_kernel_wrong(run, standin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from refsam.backends.metal import MetalOps

    monkeypatch.setattr(MetalOps, "relu", staticmethod(lambda x: np.maximum(x, np.float32(0.01) * x)))
    code, out, _ = run("kernels", "forward", "--weights", standin, *ON_EMULATOR)
    assert code == 1
    assert "| right |" in out  # the embedding has no ReLU in it
    assert "| WRONG |" in out
