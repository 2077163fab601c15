"""From the bytes of model.mlmodel to a program. The numbers are the fields of Model.proto, MIL.proto and FeatureTypes.proto.

Upstream: coremltools mlmodel/format/*.proto (BSD-3).
"""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from refsam.coreml import blob
from refsam.coreml.types import (
    BY_NAME,
    DATA_TYPES,
    MAX_RANK,
    Argument,
    Blob,
    Block,
    Feature,
    Literal,
    Operation,
    OtherType,
    Output,
    TensorType,
    Type,
    Value,
    known_shape,
)
from refsam.coreml.wire import Message
from refsam.errors import PackageError
from refsam.types import Array

MAX_DEPTH = 16
"""Of blocks within operations and of values within values."""

MAX_ZEROS = 1 << 16
"""Elements of a tensor that the program leaves out because all are zero: nothing in the file answers for their number."""

ARRAY_TYPES = {65552: "fp16", 65568: "fp32", 65600: "fp64", 131080: "int8", 131104: "int32"}
FEATURE_KINDS = {1: "integer", 2: "number", 3: "text", 6: "dictionary", 7: "sequence", 8: "state"}
COLOURS = {10: "of grey levels", 20: "of RGB", 30: "of BGR", 40: "of float16 grey levels"}
"""By FeatureTypes.proto's numbers: what an input can be beside an array, and the colour spaces of images."""

MODEL_KINDS = {
    200: "a pipeline classifier", 201: "a pipeline regressor", 202: "a pipeline", 303: "a neural network regressor",
    403: "a neural network classifier", 500: "a neural network", 556: "a serialized model",
}  # fmt: skip
"""What else a Core ML model can be: refsam runs programs (`mlprogram`) only."""

DEFAULT_FUNCTION = 21
"""The description's field with the name of the function that Core ML runs where none is asked for (iOS 18)."""

Load = Callable[[str, int, TensorType], Array]
"""Reads a tensor from a file beside the program: (file name as the program has it, offset, type)."""


@dataclass(frozen=True)
class Model:
    """What a model.mlmodel says: its version, its description, its default function."""

    specification_version: int
    opset: str
    inputs: tuple[Feature, ...]
    outputs: tuple[Feature, ...]
    metadata: dict[str, str]
    parameters: tuple[Output, ...]
    block: Block


def read(data: bytes, load: Load) -> Model:
    """The model in these bytes. Raises PackageError where they are damaged or hold something else than one program."""
    model = Message(memoryview(data))
    if 502 not in model:
        kind = next((name for number, name in MODEL_KINDS.items() if number in model), "not a program")
        raise PackageError(f"this Core ML model is {kind}; refsam runs ML programs (convert_to='mlprogram')")
    functions, description = model.message(502).table(2), model.message(2)
    name = description.text(DEFAULT_FUNCTION) or "main"
    if name not in functions:
        some = ", ".join(sorted(functions)[:4]) or "none"
        raise PackageError(f"the program has no function named {name:.80}, its default; it has: {some:.300}")
    function = Message(functions[name])
    inputs, outputs = _interface(description, name)
    opset = function.text(2)
    blocks = function.table(3)
    if opset not in blocks:
        raise PackageError(f"the function has no body for its operation set {opset!r}; the file is damaged")
    parameters = tuple(_output(message) for message in function.messages(1))
    return Model(
        model.integer(1), opset, inputs, outputs, _metadata(description.message(100)), parameters,
        _block(Message(blocks[opset]), load, 0),
    )  # fmt: skip


def _metadata(message: Message) -> dict[str, str]:
    names = {1: "description", 2: "version", 3: "author", 4: "license"}
    found = {name: message.text(number) for number, name in names.items() if number in message}
    return {**found, **{entry.text(1): entry.text(2) for entry in message.messages(100)}}


def _interface(description: Message, name: str) -> tuple[tuple[Feature, ...], tuple[Feature, ...]]:
    """Inputs and outputs of this function. Where there are several functions (iOS 18), each has a description of its own."""
    own = next((function for function in description.messages(20) if function.text(1) == name), None)
    if own is None:
        return _features(description, 1), _features(description, 10)
    return _features(own, 2), _features(own, 3)


def _features(description: Message, number: int) -> tuple[Feature, ...]:
    features = tuple(_feature(message) for message in description.messages(number))
    twice, count = next(iter(Counter(feature.name for feature in features).most_common(1)), ("", 0))
    if count > 1:
        raise PackageError(f"two inputs or outputs have the name {twice!r:.80}; the file is damaged")
    return features


def _feature(message: Message) -> Feature:
    name, kind = message.text(1), message.message(3)
    if 5 not in kind:
        return _other_feature(name, kind)
    array = kind.message(5)
    choices = tuple(_lengths(name, shape.integers(1, MAX_RANK).tolist()) for shape in array.message(21).messages(1))
    ranges = tuple(_range(size) for size in array.message(31).messages(1))
    dtype = ARRAY_TYPES.get(array.integer(2), f"type {array.integer(2)}")
    return Feature(name, dtype, _lengths(name, array.integers(1, MAX_RANK).tolist()), ranges, choices)


def _other_feature(name: str, kind: Message) -> Feature:
    """What refsam can describe but not run on."""
    if 4 in kind:
        image = kind.message(4)
        colours = COLOURS.get(image.integer(3), f"of colour space {image.integer(3)}")
        return Feature(name, "uint8", _lengths(name, [image.integer(2), image.integer(1)]), kind=f"image {colours}")
    found = next((what for number, what in FEATURE_KINDS.items() if number in kind), "thing of unknown type")
    return Feature(name, "", (), kind=found)


def _range(message: Message) -> tuple[int, int | None]:
    upper = message.integer(2)
    return message.integer(1), None if upper < 0 else upper


def _lengths(name: str, lengths: list[int]) -> tuple[int, ...]:
    if len(lengths) > MAX_RANK or any(n < 0 for n in lengths):
        raise PackageError(f"{name} has no valid shape; the file is damaged")
    return tuple(lengths)


def _block(message: Message, load: Load, depth: int) -> Block:
    if depth > MAX_DEPTH:
        raise PackageError(f"blocks are nested more than {MAX_DEPTH} deep; the file is damaged")
    operations = tuple(_operation(part, load, depth) for part in message.messages(3))
    return Block(tuple(_output(part) for part in message.messages(1)), tuple(message.texts(2)), operations)


def _operation(message: Message, load: Load, depth: int) -> Operation:
    inputs = {name: _arguments(Message(bound), load) for name, bound in message.table(2).items()}
    attributes = {name: _value(Message(value), load, 0) for name, value in message.table(5).items()}
    outputs = tuple(_output(part) for part in message.messages(3))
    blocks = tuple(_block(part, load, depth + 1) for part in message.messages(4))
    return Operation(message.text(1), inputs, outputs, attributes, blocks)


def _arguments(message: Message, load: Load) -> tuple[Argument, ...]:
    bindings = message.messages(1)
    return tuple(binding.text(1) if 1 in binding else _value(binding.message(2), load, 0) for binding in bindings)


def _output(message: Message) -> Output:
    return Output(message.text(1), _type(message.message(2)))


def _type(message: Message) -> Type:
    if 1 in message:
        return _tensor_type(message.message(1))
    if 5 in message:
        return OtherType("state")
    kinds = {2: "list", 3: "tuple", 4: "dictionary"}
    return OtherType(next((kind for number, kind in kinds.items() if number in message), "nothing"))


def _tensor_type(message: Message) -> TensorType:
    code = message.integer(1)
    if code not in DATA_TYPES:
        raise PackageError(f"element type {code} is not one of MIL's; the file is damaged or newer than refsam")
    shape = tuple(_dimension(part) for part in message.messages(3))
    if len(shape) > MAX_RANK or any(n is not None and n < 0 for n in shape):
        raise PackageError("a tensor type has no valid shape; the file is damaged")
    return TensorType(DATA_TYPES[code].name, shape)


def _dimension(message: Message) -> int | None:
    return message.message(1).integer(1) if 1 in message else None


def _value(message: Message, load: Load, depth: int) -> Value:
    if depth > MAX_DEPTH:
        raise PackageError(f"values are nested more than {MAX_DEPTH} deep; the file is damaged")
    kind = _type(message.message(2))
    if 5 in message:
        return _blob(kind, message.message(5), load)
    immediate = message.message(3)
    if isinstance(kind, TensorType):
        return Literal(kind, _tensor(kind, immediate.message(1)))
    if 4 in immediate:
        pairs = immediate.message(4).messages(1)
        return Literal(kind, [(_value(p.message(1), load, depth + 1), _value(p.message(2), load, depth + 1)) for p in pairs])
    items = immediate.message(2 if 2 in immediate else 3).messages(1)
    return Literal(kind, [_value(item, load, depth + 1) for item in items])


def _blob(kind: Type, message: Message, load: Load) -> Blob:
    if not isinstance(kind, TensorType) or kind.dtype == "string":
        raise PackageError(f"a value in a file is a {kind}, where a tensor of numbers is needed; the package is damaged")
    file, offset = message.text(1), message.integer(2)
    return Blob(kind, file, offset, lambda: load(file, offset, kind))


def _tensor(kind: TensorType, message: Message) -> Any:
    """An array, or for strings a text or a list of texts."""
    if kind.dtype == "string":
        texts = [text for part in message.messages(4) for text in part.texts(1)]
        return texts if kind.shape else (texts[0] if texts else "")
    shape = known_shape("a tensor in the program", kind.shape)
    array = _numbers(kind.dtype, shape, message)
    if array is None:
        return _zeros(kind.dtype, shape)
    if array.size != math.prod(shape):
        raise PackageError(f"a tensor in the program has {array.size} elements where its shape is {shape}; the file is damaged")
    return array.reshape(shape)


def _numbers(dtype: str, shape: tuple[int, ...], message: Message) -> Array | None:
    """The elements, or None where the field is empty. 16-bit floats and narrow integers come as bytes, the rest as numbers.

    Only the shape says how many elements bytes have: those of less than a byte may leave some bits of the last one unused.
    """
    if 7 in message and message.message(7).size:
        return blob.decode(message.message(7).raw(1), dtype, shape)
    if 1 in message or 6 in message:
        number = 1 if 1 in message else 6
        found = message.message(number).floats(1, "<f4" if number == 1 else "<f8")
        return _cast(found, dtype) if found.size else None
    most = math.prod(shape)
    integers = np.concatenate([message.message(number).integers(1, most) for number in (2, 3, 5)])
    return _cast(integers, dtype) if integers.size else None


def _cast(array: Array, dtype: str) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        return array.astype(BY_NAME[dtype].numpy)


def _zeros(dtype: str, shape: tuple[int, ...]) -> Array:
    if math.prod(shape) > MAX_ZEROS:
        raise PackageError(f"a tensor of shape {shape} has no data; the file is damaged")
    return np.zeros(shape, BY_NAME[dtype].numpy)
