"""What torch.save writes, made without torch: the least that the tests of the reader need, valid and otherwise."""

import io
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

STORAGES = {"f4": "Float", "f8": "Double", "f2": "Half", "i8": "Long"}
MAGIC = 0x1950A86A20F9469CFC6C


@dataclass
class Name:
    """A class or function, as `c` in a pickle."""

    text: str


@dataclass
class Call:
    """`function(*arguments)`, as `R` in a pickle."""

    function: Name
    arguments: tuple


@dataclass
class Persistent:
    """What a pickle leaves to its host, as `Q`: torch's storages."""

    identity: Any


def encode(value: Any) -> bytes:
    """`value` as pickle instructions of protocol 2, without the end."""
    match value:
        case None | True | False:
            return {None: b"N", True: b"\x88", False: b"\x89"}[value]
        case int():
            packed = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            return b"\x8a" + bytes([len(packed)]) + packed
        case str():
            return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
        case tuple():
            return b"(" + b"".join(map(encode, value)) + b"t"
        case list():
            return b"](" + b"".join(map(encode, value)) + b"e"
        case dict():
            return b"}(" + b"".join(encode(key) + encode(item) for key, item in value.items()) + b"u"
        case Name(text):
            module, _, name = text.rpartition(".")
            return f"c{module}\n{name}\n".encode()
        case Call(function, arguments):
            return encode(function) + encode(arguments) + b"R"
        case Persistent(identity):
            return encode(identity) + b"Q"
    raise TypeError(value)


def pickled(value: Any) -> bytes:
    return b"\x80\x02" + encode(value) + b"."


def storage(key: str, array: np.ndarray, *view: None) -> Persistent:
    kind = "BFloat16" if array.dtype == np.uint16 else STORAGES[array.dtype.str[1:]]
    return Persistent(("storage", Name(f"torch.{kind}Storage"), key, "cpu", array.size, *view))


def tensor(where: Persistent, shape: tuple, strides: tuple, offset: int = 0) -> Call:
    return Call(
        Name("torch._utils._rebuild_tensor_v2"), (where, offset, shape, strides, False, Call(Name("collections.OrderedDict"), ()))
    )


def contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(np.prod(shape[axis + 1 :], dtype=np.int64)) for axis in range(len(shape)))


def state(arrays: Mapping[str, np.ndarray], *view: None) -> dict[str, Call]:
    return {
        name: tensor(storage(str(key), array, *view), array.shape, contiguous(array.shape))
        for key, (name, array) in enumerate(arrays.items())
    }


def zip_file(
    value: Any, data: Mapping[str, bytes], extra: Mapping[str, bytes] | None = None, method: int = zipfile.ZIP_STORED
) -> bytes:
    """A .pt of torch 1.6 and later: a pickle and its storages."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("archive/data.pkl", pickled(value))
        for key, raw in data.items():
            entry = zipfile.ZipInfo(f"archive/data/{key}")
            entry.extra = b"FB\x04\x00ZZZZ"  # torch pads like this, so that the data is aligned
            entry.compress_type = method
            archive.writestr(entry, raw)
        for name, raw in (extra or {}).items():
            archive.writestr(f"archive/{name}", raw)
    return file.getvalue()


def torch_zip(arrays: Mapping[str, np.ndarray], **extra: bytes) -> bytes:
    return zip_file(state(arrays), {str(key): array.tobytes() for key, array in enumerate(arrays.values())}, extra)


def torch_legacy(arrays: Mapping[str, np.ndarray], little: bool = True) -> bytes:
    """A .pt of torch before 1.6: five pickles, then each storage after its element count."""
    return legacy_file(state(arrays, None), arrays, little)


def legacy_file(value: Any, arrays: Mapping[str, np.ndarray], little: bool = True) -> bytes:
    """`torch_legacy` of any table; its storages are "0", "1", ... in the order of `arrays`."""
    keys = [str(key) for key in range(len(arrays))]
    head = [MAGIC, 1001, {"protocol_version": 1001, "little_endian": little}, value, keys]
    runs = [struct.pack("<q", array.size) + array.tobytes() for array in arrays.values()]
    return b"".join([*map(pickled, head), *runs])
