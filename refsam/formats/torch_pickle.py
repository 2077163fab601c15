"""Upstream's .pt without torch: what torch.save writes, as zip (since torch 1.6) and as the older bare pickles.

Nothing of the file is ever run: see pickle_machine. Of tensors only the description is made here; the data is read when asked.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BufferedIOBase
from typing import Any, NamedTuple

import numpy as np

from refsam.errors import CheckpointError
from refsam.formats import zip_stored
from refsam.formats.pickle_machine import Machine
from refsam.formats.stored import ITEM_SIZE, MAX_HEADER, Stored, StoredTensor, check_shape, decode
from refsam.types import Array

_LEGACY_HEAD = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
"""The first pickle of the older format: torch's magic number."""

WRAPPERS = ("model", "state_dict", "model_state_dict")
"""Where training scripts put the state dict inside of a larger table."""


@dataclass(frozen=True)
class StorageType:
    """What `torch.FloatStorage` and its kin stand for; a key of ITEM_SIZE."""

    dtype: str


class Storage(NamedTuple):
    """A flat run of elements in the file."""

    key: str
    dtype: str
    length: int

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.length * ITEM_SIZE[self.dtype]


class View(NamedTuple):
    """A tensor: a strided look at a storage; offset and strides count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _storage(identity: Any) -> Storage:
    """From torch's persistent id: ("storage", type, key, device, element count[, view])."""
    kind, storage_type, key, _, count, *view = identity
    if kind != "storage" or not isinstance(storage_type, StorageType) or not isinstance(key, str) or view not in ([], [None]):
        raise TypeError
    return Storage(key, storage_type.dtype, *check_shape(key, [count]))


def _noting(storages: dict[str, Storage]) -> Callable[[Any], Storage]:
    """As `_storage`, and every storage is kept in `storages`: whatever names one again has to describe it in the same way.

    Views are checked against a description, and its data may have been read by another's.
    """

    def note(identity: Any) -> Storage:
        storage = _storage(identity)
        if storages.setdefault(storage.key, storage) != storage:
            raise CheckpointError(f"the torch file has two storages {storage.key} that differ; it is damaged")
        return storage

    return note


def _tensor(storage: Storage, offset: int, shape: Any, strides: Any, *_: Any) -> View:
    if not isinstance(storage, Storage):
        raise TypeError
    name = f"in storage {storage.key}"
    (start,) = check_shape(name, [offset])
    view = View(storage, start, check_shape(name, shape), check_shape(name, strides))
    if len(view.shape) != len(view.strides):
        raise CheckpointError(f"a tensor {name} has {len(view.shape)} sizes and {len(view.strides)} strides; the file is damaged")
    last = view.offset + sum((size - 1) * stride for size, stride in zip(view.shape, view.strides, strict=True))
    if math.prod(view.shape) and last >= storage.length:
        raise CheckpointError(f"a tensor {name} reaches element {last} of {storage.length}; the file is damaged")
    return view


NAMES: dict[str, Any] = {
    "collections.OrderedDict": lambda: {},
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": lambda view, *_: view,
    **{f"torch.{name}Storage": StorageType(dtype) for name, dtype in (
        ("Float", "F32"), ("Double", "F64"), ("Half", "F16"), ("BFloat16", "BF16"), ("Long", "I64"), ("Int", "I32"),
        ("Short", "I16"), ("Char", "I8"), ("Byte", "U8"), ("Bool", "BOOL"))},
}  # fmt: skip
"""All that a pickle may name."""


def matches_zip(head: bytes) -> bool:
    """Whether a file that begins so is a zip file."""
    return head.startswith(b"PK\x03\x04")


def matches_legacy(head: bytes) -> bool:
    """Whether a file that begins so is of torch.save before 1.6."""
    return head.startswith(_LEGACY_HEAD)


def read_zip(file: BufferedIOBase, size: int) -> Stored:
    """The tensors of a .pt file of `size` bytes. Raises CheckpointError."""
    entries = zip_stored.entries(file, size)
    root = _zip_root(list(entries))
    pickle = root + "data.pkl"
    if entries[pickle].size > MAX_HEADER:
        raise CheckpointError(f"its data.pkl has {entries[pickle].size} bytes; a state dict needs far less than {MAX_HEADER}")
    state = Machine(zip_stored.content(file, pickle, entries[pickle]), NAMES, _noting({})).run()
    order = root + "byteorder"
    little = order not in entries or zip_stored.content(file, order, entries[order]) != b"big"

    def load(storage: Storage) -> bytes:
        name = f"{root}data/{storage.key}"
        if name not in entries or entries[name].size != storage.nbytes:
            raise CheckpointError(f"the zip entry {name} is missing or not of {storage.nbytes} bytes; the file is damaged")
        return zip_stored.content(file, name, entries[name])

    return _stored(state, load, "<" if little else ">")


def _zip_root(names: list[str]) -> str:
    """The folder inside the zip that torch put everything into, with its slash."""
    roots = [name[: -len("data.pkl")] for name in names if name.endswith("/data.pkl")]
    if len(roots) != 1:
        inside = ", ".join(names[:3]) or "nothing"
        raise CheckpointError(f"this zip file is not of torch.save (inside: {inside})")
    if roots[0] + "constants.pkl" in names:
        raise CheckpointError("this is a TorchScript program, not weights; in torch: torch.save(model.state_dict(), path)")
    return roots[0]


def read_legacy(file: BufferedIOBase, size: int) -> Stored:
    """The tensors of a .pt file of torch before 1.6: magic, version, system, state, keys, then the storages one by one."""
    # Every storage counts, also those of an optimizer: the data of all of them lie in the file, one after another.
    storages: dict[str, Storage] = {}
    machine = Machine(file.read(MAX_HEADER), NAMES, _noting(storages))
    _, _, system, state, keys = (machine.run() for _ in range(5))
    if not isinstance(system, dict) or not isinstance(keys, list):
        raise CheckpointError("the old torch file is damaged: it lacks its list of storages")
    little = system.get("little_endian", True) is True
    places: dict[str, int] = {}
    position = machine.position
    for key in keys:
        if not isinstance(key, str) or key not in storages or key in places:
            raise CheckpointError("the old torch file lists a storage twice, or one that it does not describe; it is damaged")
        places[key] = position + 8
        position += 8 + storages[key].nbytes
    if position > size:
        raise CheckpointError(f"the old torch file needs {position} bytes and has {size}: it is truncated, get it again")

    def load(storage: Storage) -> bytes:
        if storage.key not in places:
            raise CheckpointError(f"the old torch file lacks storage {storage.key}; it is damaged")
        file.seek(places[storage.key])
        return file.read(storage.nbytes)

    return _stored(state, load, "<" if little else ">")


def _stored(state: Any, load: Callable[[Storage], bytes], byteorder: str) -> Stored:
    views = _views(state)
    uses = Counter(view.storage.key for view in views.values())
    kept: dict[str, bytes] = {}

    def read(view: View) -> Array:
        """A storage is read once, and kept only while another tensor waits for it."""
        key = view.storage.key
        raw = kept.pop(key, None) or load(view.storage)
        if len(raw) != view.storage.nbytes:  # the strides below would leave the memory
            raise CheckpointError("the file ended while it was read: it is being changed")
        uses[key] -= 1
        if uses[key] > 0:
            kept[key] = raw
        flat = decode(raw, view.storage.dtype, byteorder)[view.offset :]
        strides = [stride * flat.itemsize for stride in view.strides]
        with np.errstate(over="ignore"):  # see safetensors_file
            return np.lib.stride_tricks.as_strided(flat, view.shape, strides, writeable=False).astype(np.float32, order="C")

    def tensor(view: View) -> StoredTensor:
        return StoredTensor(view.storage.dtype, view.shape, lambda: read(view))

    return Stored({name: tensor(view) for name, view in views.items()})


def _views(state: Any) -> dict[str, View]:
    """The tensors of a state dict, or of the one inside a training script's table."""
    for table in _tables(state):
        views = {name: view for name, view in table.items() if isinstance(name, str) and isinstance(view, View)}
        if views:
            return views
    raise CheckpointError("the file of torch.save holds no state dict; in torch: torch.save(model.state_dict(), path)")


def _tables(state: Any) -> Iterator[dict[Any, Any]]:
    if not isinstance(state, dict):
        return
    yield from (state[key] for key in WRAPPERS if isinstance(state.get(key), dict))
    yield state
