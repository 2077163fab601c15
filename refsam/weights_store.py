"""The user's cache of weights: finding, downloading, converting and checking them."""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from refsam import checkpoint, files, resources
from refsam.checkpoint import Checkpoint
from refsam.config import infer
from refsam.errors import CheckpointError, InputError
from refsam.types import Progress

CACHE_VARIABLE = "REFSAM_CACHE"
MIRROR_VARIABLE = "REFSAM_MIRROR"


@dataclass(frozen=True)
class Source:
    """A weights file that can be downloaded, pinned by size and hash: an entry of weights/manifest.json.

    `tensors_sha256` (see `checkpoint.tensors_sha256`) is pinned only where somebody had the file; it proves conversions.
    """

    file: str
    bytes: int
    sha256: str
    urls: tuple[str, ...]
    licence: str
    origin: str
    tensors_sha256: str | None = None


def sources() -> dict[str, Source]:
    """Name -> source of all weights that `fetch` knows."""
    manifest: dict[str, Any] = json.loads(resources.path("weights", "manifest.json").read_text("utf-8"))
    names = {field.name for field in fields(Source)}
    return {
        name: Source(**{**{key: value for key, value in entry.items() if key in names}, "urls": tuple(entry["urls"])})
        for name, entry in manifest.items()
    }


def cache_folder() -> Path:
    """$REFSAM_CACHE, else `refsam` in the folder that the platform has for caches (it need not exist yet)."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        try:
            return Path(chosen).expanduser()
        except RuntimeError:
            raise InputError(f"{CACHE_VARIABLE} is {chosen!r}, but there is no such home folder; set it to a folder") from None
    if sys.platform == "win32":
        return _folder("LOCALAPPDATA", "AppData/Local") / "refsam" / "Cache"
    if sys.platform == "darwin":
        return _folder("", "Library/Caches") / "refsam"
    return _folder("XDG_CACHE_HOME", ".cache") / "refsam"


def _folder(variable: str, below_home: str) -> Path:
    """The folder that `variable` names; a relative one does not count (XDG Base Directory Specification)."""
    named = Path(os.environ.get(variable, ""))
    if named.is_absolute():
        return named
    try:
        return Path.home() / below_home
    except RuntimeError:
        raise InputError(f"there is no home folder for the weights; set {CACHE_VARIABLE} to a folder") from None


def find(name: str = "mobile_sam") -> Path | None:
    """The downloaded and converted weights `name`, None where they are not there yet. Raises InputError for an unknown name."""
    place = _place(name)
    return place if files.is_file(place) else None


def _place(name: str) -> Path:
    """Where the converted weights lie; the hash in the name keeps those of an older pin apart."""
    return cache_folder() / f"{name}-{_source(name).sha256[:12]}.safetensors"


def _source(name: str) -> Source:
    known = sources()
    if name not in known:
        raise InputError(f"there are no weights {name!r} to download; known: {', '.join(known)}")
    return known[name]


def fetch(
    name: str = "mobile_sam",
    *,
    mirror: str | None = None,
    progress: Progress | None = None,
    force: bool = False,
    timeout: float = 30.0,
) -> Path:
    """Download the weights `name`, check them against the pinned hash, convert them to .safetensors in the cache.

    Args:
        name: a key of `sources()`.
        mirror: the address of a folder that has the same file; default $REFSAM_MIRROR, else the pinned addresses.
        progress: called with (bytes so far, bytes in all).
        force: download although it is in the cache already.
        timeout: seconds without any answer after which an attempt counts as failed.

    Returns the .safetensors file. An interrupted download goes on where it stopped; two at once wait for each other.
    Raises InputError where it cannot be downloaded or does not have the pinned hash, CheckpointError where it is not MobileSAM.
    """
    source, place = _source(name), _place(name)
    if files.is_file(place) and not force:
        return place
    _make_folder(place.parent)
    with files.lock(place.with_suffix(".lock")):
        if files.is_file(place) and not force:  # another process was faster
            return place
        partial = place.with_name(f"{source.file}-{source.sha256[:12]}.part")
        # The network code is loaded only by those who download.
        from refsam.download import download

        url = download(_urls(source, mirror), partial, source.bytes, source.sha256, progress=progress, timeout=timeout)
        _convert(partial, place, "float32", {"licence": source.licence, "origin": source.origin, "source_url": url})
        partial.unlink(missing_ok=True)
    return place


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the cache folder {folder}: {error.strerror}; set {CACHE_VARIABLE} to another") from error


def _urls(source: Source, mirror: str | None) -> list[str]:
    mirror = mirror or os.environ.get(MIRROR_VARIABLE)
    if not mirror:
        return list(source.urls)
    if not mirror.startswith(("http://", "https://")):
        raise InputError(f"the mirror {mirror!r} is not an address that starts with http:// or https://")
    return [mirror if mirror.endswith("/" + source.file) else f"{mirror.rstrip('/')}/{source.file}"]


def convert(source: str | os.PathLike[str], target: str | os.PathLike[str], dtype: str = "float32") -> Checkpoint:
    """Write the checkpoint `source` (any format that `checkpoint.read` opens) as .safetensors to `target`.

    Args:
        source: a weights file.
        target: the file to write; it is whole or not there.
        dtype: "float32" or "float16" (half the size, values rounded to 11 bits).

    Returns the checkpoint that was read. Raises CheckpointError, and InputError where `target` cannot be written.
    """
    return _convert(Path(source), Path(target), dtype, {})


def _convert(source: Path, target: Path, dtype: str, notes: dict[str, str]) -> Checkpoint:
    opened = checkpoint.load(source)
    origin = {} if "source_sha256" in opened.metadata else {"source_sha256": opened.sha256}
    metadata = {**opened.metadata, **origin, **notes}
    checkpoint.save(target, opened.tensors, opened.config, metadata, dtype)
    return opened


@dataclass(frozen=True)
class Verification:
    """What `verify` found.

    Attributes:
        opened: the checkpoint; that it opens says that all tensors are there and finite.
        name: the pinned weights that this file is: it, or the values of its tensors, have the pinned hash.
        says: the pinned weights that it says it was converted from, where that is not proven. Anyone can write that.
        intact: None where the file has no record of its own tensors, else whether they still have the hash recorded.
    """

    opened: Checkpoint
    name: str | None
    says: str | None
    intact: bool | None


def verify(path: str | os.PathLike[str]) -> Verification:
    """Open `path` strictly and compare it with the pinned hashes and with its own record. Raises CheckpointError."""
    opened = checkpoint.load(path)
    tensors_sha256 = checkpoint.tensors_sha256(opened.tensors)
    plain = _is_inferred(opened)
    name = _pinned(lambda source: opened.sha256 == source.sha256 or (plain and tensors_sha256 == source.tensors_sha256))
    says = None if name else _pinned(lambda source: opened.metadata.get("source_sha256") == source.sha256)
    recorded = opened.metadata.get("tensors_sha256")
    return Verification(opened, name, says, None if recorded is None else tensors_sha256 == recorded)


def _is_inferred(opened: Checkpoint) -> bool:
    """Whether its config is what its shapes tell: one of its own could make other masks of the same tensors."""
    try:
        return opened.config == infer({name: tensor.shape for name, tensor in opened.tensors.items()})
    except CheckpointError:  # MobileSAM's image size or decoder heads, of which shapes say nothing, do not fit these
        return False


def _pinned(test: Callable[[Source], bool]) -> str | None:
    """The name of the first source that passes."""
    return next((name for name, source in sources().items() if test(source)), None)


def locate(name_or_path: str) -> Path:
    """The file that a name ("demo", or downloaded weights) or a path means. Raises CheckpointError where there is none."""
    if name_or_path == "demo":
        return resources.path("weights", "demo.safetensors")
    if name_or_path not in sources():
        return Path(name_or_path)
    found = find(name_or_path)
    if found is None:
        raise CheckpointError(f"the weights {name_or_path!r} are not downloaded yet; run: refsam weights fetch {name_or_path}")
    return found
