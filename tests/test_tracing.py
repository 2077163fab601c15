"""Traces: what is kept, and their files."""

import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import save as as_bytes
from safetensors.numpy import save_file

from refsam.errors import InputError, RefsamError
from refsam.tracing import Trace

pytestmark = pytest.mark.core


def filled(*names: str, stages: str | list[str] = "*") -> Trace:
    trace = Trace(stages)
    for number, name in enumerate(names):
        trace.record(name, np.full((2, 3), number, np.float32))
    return trace


@pytest.mark.parametrize(
    ("stages", "kept"),
    [
        ("*", ["a.0", "a.1.b", "c"]),
        ("a.*", ["a.0", "a.1.b"]),
        ("a.?", ["a.0"]),
        ("a.[0-9]*", ["a.0", "a.1.b"]),
        (" c , a.0 ,", ["a.0", "c"]),
        (["c", "a.?"], ["a.0", "c"]),
        ("A.*", []),
        ("a", []),
    ],
)
def test_globs(stages: str | list[str], kept: list[str]) -> None:
    trace = filled("a.0", "a.1.b", "c", stages=stages)
    assert list(trace) == kept
    assert len(trace) == len(kept)
    assert [name for name in ("a.0", "a.1.b", "c") if trace.wants(name)] == kept


@pytest.mark.parametrize("stages", ["", " ", ",", " , ", []])
def test_no_pattern_at_all_is_refused(stages: str | list[str]) -> None:
    with pytest.raises(InputError, match="give glob patterns"):
        Trace(stages)


def test_a_stage_is_a_copy() -> None:
    trace, x = Trace(), np.zeros(3)
    trace.record("x", x)
    x[:] = 1
    np.testing.assert_array_equal(trace["x"], 0)


def test_a_stage_that_runs_twice_is_an_error_unless_nobody_wants_it() -> None:
    trace = filled("a", stages="a")
    with pytest.raises(RefsamError, match=r"stage a ran twice .* new Trace"):
        trace.record("a", np.zeros(1))
    trace.record("b", np.zeros(1))
    trace.record("b", np.zeros(1))
    assert list(trace) == ["a"]


def test_a_trace_may_begin_with_what_another_has() -> None:
    before = filled("a.0", "b", "a.1")
    trace = filled(stages="a.*")
    trace.take(before)
    trace.record("a.2", np.zeros(2))
    assert list(trace) == ["a.0", "a.1", "a.2"]
    assert trace["a.1"] is before["a.1"], "not a copy"
    with pytest.raises(RefsamError, match="3 stages"):
        trace.take(before)


def test_it_is_a_mapping() -> None:
    trace = filled("a", "b")
    assert trace["b"][0, 0] == 1
    assert "c" not in trace
    with pytest.raises(KeyError):
        trace["c"]
    assert repr(trace) == "Trace(2 stages: a, b)"
    assert repr(filled(*"abcd")) == "Trace(4 stages: a, b, c, ...)"


KINDS = st.sampled_from([np.float32, np.float64, np.uint8, np.bool_, np.int64])
ARRAYS = KINDS.flatmap(lambda kind: hnp.arrays(kind, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)))
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8).filter(
    lambda x: x != "__metadata__"
)


@given(st.dictionaries(NAMES, ARRAYS, max_size=6), st.dictionaries(st.sampled_from(["prompts", "ü"]), st.text(max_size=5)))
def test_there_and_back(
    tmp_path_factory: pytest.TempPathFactory, arrays: dict[str, np.ndarray], metadata: dict[str, str]
) -> None:
    trace = Trace(metadata=metadata)
    for name, array in arrays.items():
        trace.record(name, array)
    path = tmp_path_factory.mktemp("trace") / "t.safetensors"
    trace.save(path)
    again = Trace.load(path)
    assert list(again) == list(arrays)
    assert again.metadata == metadata
    for name, array in arrays.items():
        assert again[name].dtype == array.dtype
        np.testing.assert_array_equal(again[name], array)


def test_order_is_that_of_the_run_and_not_of_sizes_or_names(tmp_path: Path) -> None:
    trace = Trace()
    for name, size in (("z", 1), ("a", 100), ("m", 0), ("b", 7)):
        trace.record(name, np.zeros(size, np.float32))
    trace.save(tmp_path / "t")
    assert list(Trace.load(tmp_path / "t")) == ["z", "a", "m", "b"]


def test_a_view_of_a_transposed_array_is_saved_right(tmp_path: Path) -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    trace = Trace()
    trace.record("x", x.T)
    trace.save(str(tmp_path / "t"))
    np.testing.assert_array_equal(Trace.load(str(tmp_path / "t"))["x"], x.T)


def test_saving_is_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.safetensors"
    filled("old").save(path)

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(InputError, match=r"t\.safetensors.*No space left"):
        filled("new").save(path)
    assert list(Trace.load(path)) == ["old"]
    assert [file.name for file in tmp_path.iterdir()] == ["t.safetensors"]


def test_saving_into_a_folder_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        filled("a").save(tmp_path / "nowhere" / "t")


def good_bytes(tmp_path: Path) -> bytes:
    filled("a", "b").save(tmp_path / "good")
    return (tmp_path / "good").read_bytes()


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        Trace.load(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_a_file_that_is_not_there_or_a_folder(tmp_path: Path) -> None:
    assert "cannot be read" in refused(tmp_path / "missing")
    assert "cannot be read" in refused(tmp_path)


def test_truncated_files(tmp_path: Path) -> None:
    good, path = good_bytes(tmp_path), tmp_path / "bad"
    for length in (0, 3, 8, 60, len(good) - 1):
        path.write_bytes(good[:length])
        assert "cannot be read as .safetensors" in refused(path)


@given(st.data())
def test_a_flipped_byte_is_another_trace_or_an_input_error(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("flip")
    damaged = bytearray(good_bytes(folder))
    place = data.draw(st.integers(0, len(damaged) - 1))
    damaged[place] ^= data.draw(st.integers(1, 255))
    path = folder / "bad"
    path.write_bytes(damaged)
    try:
        trace = Trace.load(path)
    except InputError:
        return
    assert sum(array.size for array in trace.values()) == 12


def test_safetensors_that_are_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"a": np.zeros(1)}, path)
    assert "not a trace; refsam trace --out writes one" in refused(path)
    save_file({"a": np.zeros(1)}, path, {"refsam": "weights"})
    assert "not a trace" in refused(path)


@pytest.mark.parametrize(
    "order",
    [{}, {"order.0": "a"}, {"order.0": "a", "order.1": "a"}, {"order.0": "a", "order.1": "c"}, {"order.0": "a", "order.2": "b"}],
)
def test_a_list_of_stages_that_does_not_fit(tmp_path: Path, order: dict[str, str]) -> None:
    path = tmp_path / "t"
    path.write_bytes(as_bytes({"a": np.zeros(1), "b": np.zeros(1)}, {"refsam": "trace", **order}))
    assert "damaged trace" in refused(path)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "device or a pipe" in refused(tmp_path / "pipe")


def test_a_type_that_numpy_does_not_have(tmp_path: Path) -> None:
    path = tmp_path / "t"
    entry = {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}
    header = json.dumps({"__metadata__": {"refsam": "trace", "order.0": "a"}, "a": entry}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(2))
    assert "cannot be read as .safetensors" in refused(path)


def test_a_name_with_a_zero_byte() -> None:
    with pytest.raises(InputError, match="cannot be read"):
        Trace.load("a\0b")
