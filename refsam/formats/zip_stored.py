"""The uncompressed zip files that torch writes, and no others.

Python's zipfile builds an object for every entry that a file claims and inflates whatever is compressed. Torch compresses
nothing, so here a claim is checked against the file's own size before anything is read, and a zip bomb has no way in.
Format: PKWARE APPNOTE 6.3, sections 4.3.7, 4.3.12 and 4.3.16.
"""

import struct
import zlib
from io import BufferedIOBase
from typing import NamedTuple

from refsam.errors import CheckpointError

MAX_ENTRIES = 16384
_END = struct.Struct("<4sHHHHIIH")
_ENTRY = struct.Struct("<4sHHHHHHIIIHHHHHII")
_LOCAL = struct.Struct("<4sHHHHHIIIHH")
_NO_ZIP64 = 0xFFFFFFFF


class Entry(NamedTuple):
    """One file inside: where its local header starts, its size and checksum."""

    offset: int
    size: int
    crc: int


def entries(file: BufferedIOBase, size: int) -> dict[str, Entry]:
    """Name -> entry of the zip `file` of `size` bytes. Raises CheckpointError."""
    count, length, start = _end_record(file, size)
    file.seek(start)
    directory = file.read(length)
    found: dict[str, Entry] = {}
    position = 0
    for _ in range(count):
        name, entry, position = _read_entry(directory, position)
        if name in found:
            raise CheckpointError(f"the zip file holds {name} twice; it is damaged")
        found[name] = entry
    if sum(entry.size for entry in found.values()) > size:
        raise CheckpointError(f"the files inside the zip claim more than its {size} bytes: their data overlap")
    return found


def content(file: BufferedIOBase, name: str, entry: Entry) -> bytes:
    """The bytes of one entry, with their checksum compared."""
    file.seek(entry.offset)
    local = file.read(_LOCAL.size)
    if len(local) != _LOCAL.size or local[:4] != b"PK\x03\x04":
        raise CheckpointError(f"the zip entry {name} is not where the directory says; the file is damaged")
    *_, name_length, extra_length = _LOCAL.unpack(local)
    file.seek(name_length + extra_length, 1)
    raw = file.read(entry.size)
    if len(raw) != entry.size or zlib.crc32(raw) != entry.crc:
        raise CheckpointError(
            f"the zip entry {name} does not have its checksum; the file is damaged, get it again (or torch saved it after"
            " set_crc32_options(False), which writes other checksums: save it again without that)"
        )
    return raw


def _end_record(file: BufferedIOBase, size: int) -> tuple[int, int, int]:
    """(number of entries, bytes and start of the directory). Torch writes no comment, so the record is the last thing."""
    file.seek(max(size - _END.size, 0))
    raw = file.read(_END.size)
    if len(raw) != _END.size or raw[:4] != b"PK\x05\x06":
        raise CheckpointError("the zip file has no end: it is truncated, get it again")
    _, _, _, _, count, length, start, _ = _END.unpack(raw)
    if _NO_ZIP64 in (length, start) or count > MAX_ENTRIES:
        raise CheckpointError("the zip file is too large for a MobileSAM checkpoint (40 MB)")
    if start + length > size:
        raise CheckpointError("the zip file's directory lies outside the file; it is damaged")
    return count, length, start


def _read_entry(directory: bytes, position: int) -> tuple[str, Entry, int]:
    end = position + _ENTRY.size
    if len(directory) < end or directory[position : position + 4] != b"PK\x01\x02":
        raise CheckpointError("the zip file's directory is damaged")
    fields = _ENTRY.unpack_from(directory, position)
    flags, method, crc, packed, size = fields[3], fields[4], *fields[7:10]
    name_length, extra_length, comment_length, offset = *fields[10:13], fields[16]
    try:
        name = directory[end : end + name_length].decode("utf-8")
    except UnicodeDecodeError:
        raise CheckpointError("the zip file's directory is damaged") from None
    if method != 0 or flags & 1 or packed != size:
        raise CheckpointError(
            f"the zip entry {name} is compressed or encrypted; torch.save never does that, save it again with it"
        )
    return name, Entry(offset, size, crc), end + name_length + extra_length + comment_length
