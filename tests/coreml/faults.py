"""Faults planted in copies of packages, byte by byte, and in an executor: what people get wrong, each at one operation."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from refsam.coreml.arithmetic import arithmetic
from refsam.coreml.blob import RECORD
from refsam.coreml.mil import Program, arguments, compute, load
from refsam.coreml.types import BY_NAME, Blob, Operation

E, D, P = "ImageEncoder", "MaskDecoder", "PromptEncoder"
Change = Callable[[Any], Any]


class Fault(NamedTuple):
    """The nth operation of a type gets another parameter, another type (parameter "type"), or result (parameter "result")."""

    name: str
    part: str
    op: str
    nth: int
    parameter: str
    change: Change


def swap_pairs(pad: np.ndarray) -> np.ndarray:
    return pad.reshape(-1, 2)[:, ::-1].reshape(-1)


def one_wrong(y: np.ndarray) -> np.ndarray:
    y = y.copy()
    y.reshape(-1)[y.size // 2] += 0.01 * np.abs(y).max()
    return y


def begin_one_later(begin: np.ndarray) -> np.ndarray:
    return begin + np.array([0, 1, 0, 0], begin.dtype)


def end_one_later(end: np.ndarray) -> np.ndarray:
    return end + np.array([0, 1, 0, 0], end.dtype)


SHARED = [
    Fault("tanh GELU, convolutions", E, "gelu", 1, "mode", lambda _: "TANH_APPROXIMATION"),
    Fault("tanh GELU, an MLP", E, "gelu", -1, "mode", lambda _: "TANH_APPROXIMATION"),
    Fault("sigmoid GELU", E, "gelu", 3, "mode", lambda _: "SIGMOID_APPROXIMATION"),
    Fault("sigmoid GELU in the decoder", D, "gelu", 0, "mode", lambda _: "SIGMOID_APPROXIMATION"),
    Fault("bias of qkv reversed", E, "linear", 0, "bias", lambda b: b[::-1]),
    Fault("weight of a projection transposed", D, "linear", 0, "weight", lambda w: w.T),
    Fault("bias forgotten", D, "linear", 4, "bias", np.zeros_like),
    Fault("two heads of qkv exchanged", E, "linear", 4, "weight", lambda w: np.roll(w, len(w) // 2, 0)),
    Fault("filters of a convolution permuted", E, "conv", 2, "weight", lambda w: w[::-1]),
    Fault("depthwise kernels flipped", E, "conv", 3, "weight", lambda w: w[..., ::-1, ::-1]),
    Fault("pads of a strided convolution swapped", E, "conv", 0, "pad", lambda _: np.array([0, 2, 0, 2], np.int32)),
    Fault("stale bias of a convolution", E, "conv", 4, "bias", lambda b: b + b.dtype.type(0.05)),
    Fault("layer norm with epsilon 1e-2", E, "layer_norm", 0, "epsilon", lambda e: e * 0 + e.dtype.type(1e-2)),
    Fault("layer norm without gamma", E, "layer_norm", 2, "gamma", np.ones_like),
    Fault("layer norm with beta 2 % off", D, "layer_norm", 1, "beta", lambda b: b * b.dtype.type(1.02)),
    Fault("window padded on the wrong side", E, "pad", 0, "pad", swap_pairs),
    Fault("softmax along another axis", E, "softmax", 1, "axis", lambda a: a * 0 - 2),
    Fault("softmax along another axis, decoder", D, "softmax", 1, "axis", lambda a: a * 0 + 1),
    Fault("attention scale 1 % off", E, "mul", 0, "y", lambda y: y * y.dtype.type(1.01)),
    Fault("attention scale of another width", D, "mul", 1, "y", lambda y: y * y.dtype.type(1.4142)),
    Fault("upscaling kernel mirrored", D, "conv_transpose", 0, "weight", lambda w: w[..., ::-1]),
    Fault("LayerNorm2d with epsilon 1e-1", E, "add", -2, "y", lambda y: y * 0 + y.dtype.type(0.1)),
    Fault("half a pixel forgotten", P, "add", 0, "y", lambda y: y * 0),
    Fault("image size off by one", P, "mul", 0, "y", lambda y: y * y.dtype.type(64 / 63)),
    Fault("gamma 1e-5 off", E, "layer_norm", 1, "gamma", lambda g: (g * 1.00001).astype(g.dtype)),
    Fault("a slice one row late", E, "slice_by_index", 0, "begin", begin_one_later),
]  # fmt: skip
"""Possible in both."""

IN_PACKAGES = [
    *SHARED[:-1],
    Fault("silu in place of relu", D, "relu", 1, "type", lambda _: "silu"),
    Fault("sine for cosine", P, "cos", 0, "type", lambda _: "sin"),
]  # fmt: skip

IN_EXECUTORS = [
    *SHARED[:-1],
    Fault("a result 0.5 % off", D, "matmul", 3, "result", lambda y: y * 1.005),
    Fault("one element wrong", E, "linear", 3, "result", one_wrong),
    Fault("rows shifted by one", E, "transpose", 5, "result", lambda y: np.roll(y, 1, -2)),
    Fault("a crop of the wrong place", E, "slice_by_index", 0, "result", lambda y: np.roll(y, 1, 1)),
    Fault("a sum forgotten", D, "add", 3, "result", lambda y: y * 0.5),
    Fault("NaN in one place", D, "softmax", 2, "result", lambda y: np.where(np.arange(y.size).reshape(y.shape) == 3, np.nan, y)),
]  # fmt: skip


def target(program: Program, fault: Fault) -> Operation:
    """The operation that a fault is in."""
    found = [
        op
        for op in program.ops
        if op.type == fault.op and (fault.parameter in ("type", "result") or fault.parameter in op.inputs)
    ]
    if fault.parameter == "y":  # those whose second operand is a constant
        constants = {op.name for op in program.ops if op.type == "const"}
        found = [op for op in found if op.inputs["y"][0] in constants]
    return found[fault.nth]


def faulty_dump(program: Program, fault: Fault, inputs: Mapping[str, np.ndarray], precision: str | None) -> dict[str, np.ndarray]:
    """Every result of an executor that makes this mistake."""
    place, dump = target(program, fault).name, {}
    with arithmetic(precision) as c, np.errstate(all="ignore"):
        values = {**program.constants(c), **program.given(inputs, c)}
        for op in program.ops:
            if op.is_constant:
                continue
            bound = arguments(op, values, c)
            if op.name == place and fault.parameter not in ("type", "result"):
                bound = {**bound, fault.parameter: fault.change(bound[fault.parameter])}
            results = compute(op, bound, c)
            if op.name == place and fault.parameter == "result":
                results = [fault.change(results[0])]
            dump |= {output.name: value for output, value in zip(op.outputs, results, strict=True)}
            values |= {output.name: value for output, value in zip(op.outputs, results, strict=True)}
    return dump


def faulty_package(source: Path, folder: Path, fault: Fault) -> tuple[Program, list[str]]:
    """A copy with the fault in its bytes, and the operations that have it: converters share equal constants."""
    copy = Path(shutil.copytree(source, folder / "faulty.mlpackage", dirs_exist_ok=True))
    program = load(copy)
    operation = target(program, fault)
    index = [op.name for op in program.ops].index(operation.name)
    model = copy / "Data" / "com.apple.CoreML" / "model.mlmodel"
    if fault.parameter == "type":
        rewrite(model, (*block_path(program), (3, index), (1, 0)), fault.change(operation.type).encode())
        return load(copy), [operation.name]
    constant = next(i for i, op in enumerate(program.ops) if op.name == operation.inputs[fault.parameter][0])
    value = program.ops[constant].attributes["val"]
    new = fault.change(value.read())
    if isinstance(value, Blob):
        overwrite(model.parent / "weights" / "weight.bin", value.offset, np.ascontiguousarray(new, value.read().dtype))
    else:
        rewrite(
            model,
            (*block_path(program), (3, constant), (5, value_entry(program.ops[constant])), (2, 0), (3, 0), (1, 0)),
            tensor(new),
        )
    users = [op.name for op in program.ops if (program.ops[constant].name,) in op.inputs.values()]
    return load(copy), users


def block_path(program: Program) -> tuple[tuple[int, int], ...]:
    """Model.mlProgram, functions["main"], its only block."""
    return ((502, 0), (2, 0), (2, 0), (3, 0), (2, 0))


def value_entry(operation: Operation) -> int:
    """Which attribute is "val"."""
    return list(operation.attributes).index("val")


def overwrite(path: Path, offset: int, array: np.ndarray) -> None:
    """Other numbers in a weight file, in place."""
    data = bytearray(path.read_bytes())
    begin = RECORD.unpack_from(data, offset)[3]
    data[begin : begin + array.nbytes] = array.tobytes()
    path.write_bytes(data)


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, data: bytes) -> bytes:
    """A field of bytes."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def tensor(value: Any) -> bytes:
    """A TensorValue: texts, int32 numbers, floats, and 16-bit floats as bytes."""
    if isinstance(value, str):
        return field(4, field(1, value.encode()))
    array = np.asarray(value)
    if array.dtype.kind == "i":
        return field(2, field(1, b"".join(varint(int(v)) for v in array.reshape(-1))))
    return (
        field(1, field(1, array.astype("<f4").tobytes()))
        if array.dtype == BY_NAME["fp32"].numpy
        else field(7, field(1, array.tobytes()))
    )


def rewrite(path: Path, place: tuple[tuple[int, int], ...], content: bytes) -> None:
    """Replace the bytes of the field at `place`: (number, which of those with that number), from the outermost message on."""
    path.write_bytes(rewritten(path.read_bytes(), place, content))


def rewritten(data: bytes, place: tuple[tuple[int, int], ...], content: bytes) -> bytes:
    if not place:
        return content
    out, at, seen = bytearray(), 0, 0
    while at < len(data):
        start = at
        key, at = read_varint(data, at)
        if key & 7 == 0:
            _, at = read_varint(data, at)
        else:
            length, at = read_varint(data, at)
            at += length
        if key >> 3 == place[0][0]:
            if seen == place[0][1]:
                out += field(key >> 3, rewritten(data[at - length : at], place[1:], content))
                seen += 1
                continue
            seen += 1
        out += data[start:at]
    return bytes(out)


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 0x80:
            return value, at
