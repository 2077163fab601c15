"""The pickle machine: no program makes it run, allocate or descend; what it does not know it refuses."""

import pickle
import struct
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch_files import Call, Name, Persistent, encode, pickled

from refsam.errors import CheckpointError
from refsam.formats import torch_pickle
from refsam.formats.pickle_machine import Machine


def run(program: bytes) -> object:
    return Machine(program, torch_pickle.NAMES, torch_pickle._storage).run()


@pytest.mark.parametrize(
    "name", ["builtins.eval", "os.system", "torch.hub.load", "collections.deque", "torch.load", "numpy.load"]
)
def test_names_outside_of_the_table_are_refused_by_name(name):
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        run(pickled(Call(Name(name), ("x",))))


def test_a_later_protocol_is_said_and_what_to_do():
    program = pickle.dumps({"a": 1}, protocol=4)
    with pytest.raises(CheckpointError, match=r"of protocol 4, .* without pickle_protocol"):
        run(program)


PROGRAMS = {
    "every later instruction of the protocol": b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
    "build an instance": pickled(Name("collections.OrderedDict"))[:-1] + b")\x81.",
    "old-style instance": b"(ios\nsystem\n.",
    "call of a text": encode("eval") + encode(("1",)) + b"R.",
    "call of a storage type": encode(Call(Name("torch.FloatStorage"), ())) + b".",
    "call without a tuple": encode(Name("collections.OrderedDict")) + encode([]) + b"R.",
    "call with wrong arguments": encode(Call(Name("torch._utils._rebuild_tensor_v2"), (1,))) + b".",
    "empty stack": b".",
    "pop of nothing": b"R.",
    "mark of nothing": b"t.",
    "mark above the stack": b"}((R.",
    "tuple of nothing": b"\x87.",
    "memo of nothing": b"h\x07.",
    "memo beyond memory": b"Nr\xff\xff\xff\xffj\xfe\xff\xff\xff.",
    "text beyond the end": b"X\xff\xff\xff\x7fab.",
    "text that is not one": b"X\x01\x00\x00\x00\xff.",
    "name without an end": b"c" + b"a" * 300,
    "name of raw bytes": b"c\xff\n\xff\n.",
    "unhashable key": b"}]]s.",
    "tuple as key": b"})]s.",
    "items of a list": b"](NNu.",
    "odd items": b"}(Nu.",
    "append to a dict": b"}Na.",
    "persistent of nothing": b"Q.",
    "persistent of a text": encode(Persistent("storage")) + b".",
    "persistent of another kind": encode(Persistent(("file", Name("torch.FloatStorage"), "/etc/passwd", "cpu", 1))) + b".",
    "storage with a view": encode(Persistent(("storage", Name("torch.FloatStorage"), "0", "cpu", 1, ("0", 0, 1)))) + b".",
    "negative storage": encode(Persistent(("storage", Name("torch.FloatStorage"), "0", "cpu", -1))) + b".",
}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_a_wrong_program_is_a_checkpoint_error(program):
    with pytest.raises(CheckpointError):
        run(program)


@pytest.mark.parametrize("program", [b"]" + b"\x85" * 8000, b"]" * 3000 + b"a" * 2999], ids=["tuples", "lists"])
def test_deep_nesting_neither_crashes_nor_takes_memory(program):
    """Deeper than Python's own recursion limit, 1000: nothing here descends."""
    tracemalloc.start()
    value = run(b"\x80\x02" + program + b".")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(value, list | tuple)
    # A list of one is 88 bytes at most, its slot on the stack 8 or, while the stack grows, 17: twice that, and 1 MiB of checks.
    assert peak < 210 * len(program) + (1 << 20)


def test_no_program_gets_more_memory_than_its_length_allows():
    program = b"\x80\x02X" + struct.pack("<I", 1 << 31) + b"x"
    tracemalloc.start()
    with pytest.raises(CheckpointError, match="ends too early"):
        run(program)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.text(max_size=5) | st.just(Name("collections.OrderedDict")),
    lambda inner: st.lists(inner, max_size=3)
    | st.lists(inner, max_size=3).map(tuple)
    | st.dictionaries(st.text(max_size=3) | st.integers(0, 9), inner, max_size=3),
    max_leaves=6,
)
STORAGES = st.builds(
    lambda kind, key, place, size: encode(Persistent(("storage", Name(f"torch.{kind}Storage"), key, place, size))),
    st.sampled_from(["Float", "Half", "Long", "Other"]), st.sampled_from(["0", "1", 1]), st.sampled_from(["cpu", "cuda:0", 0]),
    st.sampled_from([0, 1, 12, -1, "4"]),
)  # fmt: skip
OPCODES = st.sampled_from(
    [bytes([code]) for code in b"N}])(t.\x85\x86\x87suaeRbQ\x88\x89"]
    + [b"q\0", b"q\1", b"h\0", b"h\1", b"K\7", b"r\0\0\0\0", b"j\1\0\0\0", b"\x80\2", b"\x80\4"]
)
PIECES = st.one_of(OPCODES, OPCODES, VALUES.map(encode), STORAGES, st.binary(max_size=3))
STARTS = st.lists(VALUES.map(encode) | STORAGES, max_size=4)
PROGRAMS_BY_CHANCE = st.binary(max_size=200) | st.builds(
    lambda start, pieces: b"".join([*start, *pieces, b"."]), STARTS, st.lists(PIECES, max_size=12)
)
"""Bytes, most of which are no instruction, and programs of values and instructions, many of which give a value."""


@given(PROGRAMS_BY_CHANCE)
def test_no_program_does_anything_but_give_a_value_or_a_checkpoint_error(program):
    try:
        value = run(program)
    except CheckpointError:
        return
    assert {type(part) for part in parts(value)} <= PLAIN


def parts(value: object) -> list[object]:
    """The value and all within it, each once: a list or a table may hold itself."""
    found: dict[int, object] = {}
    left = [value]
    while left:
        part = left.pop()
        if id(part) not in found:
            found[id(part)] = part
            left += [*part, *part.values()] if isinstance(part, dict) else part if isinstance(part, list | tuple) else []
    return list(found.values())


PLAIN = {type(None), bool, int, float, str, list, tuple, dict, torch_pickle.Storage, torch_pickle.View, torch_pickle.StorageType,
         type(torch_pickle._tensor)}  # fmt: skip
"""What a program can give: data, what stands for torch's tensors, and the functions of the table, uncalled."""
