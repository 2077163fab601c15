"""Our own reader and writer of .safetensors: every byte is accounted for before memory is asked for."""

import json
import math
import os
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refsam import checkpoint
from refsam.errors import CheckpointError
from refsam.formats import safetensors_file
from refsam.formats.stored import MAX_HEADER

BIAS = "image_encoder.neck.1.bias"


def joined(table, data: bytes) -> bytes:
    text = table if isinstance(table, bytes) else json.dumps(table).encode()
    return len(text).to_bytes(8, "little") + text + data


def one(**entry):
    return {BIAS: {"dtype": "F32", "shape": [4], "data_offsets": [0, 16], **entry}}


HEADERS = {
    "length beyond the file": ((1 << 20).to_bytes(8, "little") + b"{}", "claims 1048576 bytes"),
    "length of everything": ((1 << 31).to_bytes(8, "little") + b"{" + bytes(1000), "claims"),
    "no JSON": (joined(b"{nonsense}", b""), "damaged"),
    "not UTF-8": (joined(b'{"\xff": 1}', b""), "damaged"),
    "deep": (joined(b'{"a":' + b"[" * 100_000, b""), "damaged"),
    "huge number": (joined(b'{"a":' + b"9" * 100_000 + b"}", b""), "a number of 100000 digits"),
    "same name twice": (joined(b'{"a": 1, "a": 2}', b""), "twice"),
    "entry is a number": (joined({"a": 1}, b""), "not described as dtype"),
    "entry with more": (joined(one(more=1), bytes(16)), "not described as dtype"),
    "unknown type": (joined(one(dtype="F1"), bytes(16)), "unknown type F1"),
    "type is a list": (joined(one(dtype=[]), bytes(16)), "unknown type"),
    "shape is a text": (joined(one(shape="4"), bytes(16)), "no valid shape"),
    "negative shape": (joined(one(shape=[-4]), bytes(16)), "no valid shape"),
    "fractional shape": (joined(one(shape=[4.0]), bytes(16)), "no valid shape"),
    "true shape": (joined(one(shape=[True]), bytes(16)), "no valid shape"),
    "shape of many axes": (joined(one(shape=[1] * 100), bytes(16)), "no valid shape"),
    "shape beyond memory": (joined(one(shape=[1 << 39, 1 << 39]), bytes(16)), "do not fit"),
    "offsets of another size": (joined(one(data_offsets=[0, 12]), bytes(16)), "do not fit"),
    "offsets backwards": (joined(one(data_offsets=[16, 0]), bytes(16)), "do not fit"),
    "one offset": (joined(one(data_offsets=[16]), bytes(16)), "do not fit"),
    "offset beyond the file": (joined(one(data_offsets=[16, 32]), bytes(16)), "starts at byte 16 of the data, not at 0"),
    "overlap": (joined({**one(), "b": one()[BIAS]}, bytes(16)), "starts at byte 0 of the data, not at 16"),
    "bytes of no tensor": (joined(one(), bytes(20)), "need 16 bytes and the file has 20"),
    "too few bytes": (joined(one(), bytes(12)), "need 16 bytes and the file has 12"),
    "metadata is a list": (joined({"__metadata__": []}, b""), "not a table of texts"),
    "metadata of numbers": (joined({"__metadata__": {"a": 1}}, b""), "not a table of texts"),
}


@pytest.mark.parametrize(("raw", "message"), HEADERS.values(), ids=HEADERS)
def test_a_dishonest_safetensors_header_is_refused(place, raw, message):
    with pytest.raises(CheckpointError, match=message) as caught:
        checkpoint.read(place(raw))
    assert len(str(caught.value)) < checkpoint.LONGEST + 300


def test_an_oversized_header_is_refused_unread(place, tmp_path):
    path = place((1 << 30).to_bytes(8, "little") + b"{")
    os.truncate(path, (1 << 30) + 100)  # sparse: it takes no space on the disk
    tracemalloc.start()
    with pytest.raises(CheckpointError, match="claims 1073741824 bytes"):
        checkpoint.read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MAX_HEADER


KEYS = st.sampled_from(["dtype", "shape", "data_offsets", "__metadata__", BIAS])
TABLES = st.recursive(
    st.none() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner),
    max_leaves=12,
)


ITEM = {"F32": 4, "F16": 2, "I64": 8, "BF16": 2, "X": 4}
"""Types with their sizes, one of which does not exist."""
SIZES = st.lists(st.integers(0, 4), max_size=3)


@st.composite
def entries_and_data(draw):
    """Descriptions of tensors that lie one after another, and as many bytes: valid, or with one thing in them wrong."""
    table, end = {}, 0
    for name in draw(st.lists(st.sampled_from([BIAS, "a", "b"]), min_size=1, max_size=3, unique=True)):
        dtype = draw(st.sampled_from(["F32", "F16", "I64", "BF16"] * 2 + ["X"]))
        shape = draw(SIZES)
        start, end = end, end + math.prod(shape) * ITEM[dtype]
        table[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    wrong = draw(st.sampled_from([None, None, "shape", "shape", "dtype", "data_offsets"]))
    if wrong:
        table[draw(st.sampled_from([*table]))][wrong] = draw(SIZES | SIZES | TABLES)
    return table, bytes(end + draw(st.sampled_from([0, 0, 0, 0, 0, 1, 16])))


@given(described=st.tuples(TABLES, st.just(bytes(16))) | entries_and_data() | entries_and_data())
def test_no_header_gives_another_error(tmp_path_factory, described):
    table, data = described
    path = tmp_path_factory.getbasetemp() / "fuzz"
    path.write_bytes(joined(table, data))
    with pytest.raises(CheckpointError):  # whatever is read, it is no whole checkpoint
        checkpoint.read(path)
    with path.open("rb") as file:
        try:
            found = safetensors_file.read(file, path.stat().st_size)
        except CheckpointError:
            return
        for name, tensor in found.tensors.items():
            assert tensor.shape == tuple(table[name]["shape"])
            assert tensor.dtype not in checkpoint.FLOATS or tensor.read().shape == tensor.shape


def test_the_two_directions_of_our_own_format_agree(tmp_path):
    """A file of no tensors and a scalar: the corners of the layout."""
    for arrays in ({}, {"a": np.array(1.5, "f4"), "b": np.zeros((0, 2), "f4")}):
        with (tmp_path / "x").open("w+b") as file:
            safetensors_file.write(file, arrays, {})
            size = file.tell()
            file.seek(0)
            found = safetensors_file.read(file, size)
            assert {name: entry.read().tolist() for name, entry in found.tensors.items()} == {
                name: array.tolist() for name, array in arrays.items()
            }
