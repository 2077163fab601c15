"""The kinds of port that are known: refsam's own, and those that other packages add by an entry point."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from refsam import backends
from refsam.errors import InputError
from refsam.verify.ports.app import open_app
from refsam.verify.ports.backend import open_backend
from refsam.verify.ports.coreml import is_coreml, open_coreml
from refsam.verify.ports.dumps import is_dumps, open_dumps
from refsam.verify.ports.function import open_function
from refsam.verify.ports.onnx import is_onnx, open_onnx
from refsam.verify.ports.port import Port

GROUP = "refsam.ports"
"""The group of entry points. One names a `Kind`: `[project.entry-points."refsam.ports"]`, `tflite = "my_package:TFLITE"`."""


@dataclass(frozen=True)
class Kind:
    """One kind of port.

    Attributes:
        name: what `kind=` and `--kind` say.
        what: what it takes, in a few words.
        recognises: whether these words (paths, names) are a port of this kind; it may look at files, and must not raise.
        open: (words, *, model, precision, further options by name) -> the port.
    """

    name: str
    what: str
    recognises: Callable[[tuple[str, ...]], bool]
    open: Callable[..., Port]

    def opened(self, words: tuple[str, ...], options: Mapping[str, Any]) -> Port:
        """Raises InputError for an option that this kind has not, and whatever `open` raises."""
        parameters = inspect.signature(self.open).parameters.values()
        known = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
        own = [name for name in known if name not in ("model", "precision")]
        for name in options:
            if name not in known and not any(p.kind is p.VAR_KEYWORD for p in parameters):
                have = f"it has: {', '.join(own)}" if own else "it has none"
                raise InputError(f"a port of kind {self.name} has no option {name!r}; {have}")
        return self.open(words, **options)


def _is_function(words: tuple[str, ...]) -> bool:
    module, colon, name = words[0].partition(":")
    parts = (*module.split("."), *name.split("."))
    return len(words) == 1 and bool(colon) and all(part.isidentifier() for part in parts)


def _is_backend(words: tuple[str, ...]) -> bool:
    return len(words) == 1 and words[0] in backends.BACKENDS and not Path(words[0]).exists()


def _is_app(words: tuple[str, ...]) -> bool:
    return words == ("app",) and not Path("app").exists()


OWN = (
    Kind("backend", f"one of refsam's: {', '.join(sorted(backends.BACKENDS))}", _is_backend, open_backend),
    Kind("app", "app: the iOS app's path on refsam's model; or, with kind app, a folder of its packages", _is_app, open_app),
    Kind("coreml", "a folder of ImageEncoder, PromptEncoder and MaskDecoder.mlpackage, or the three", is_coreml, open_coreml),
    Kind("onnx", "encoder.onnx, decoder.onnx, both, or their folder", is_onnx, open_onnx),
    Kind(
        "dumps", "a folder of .npy, .npz, .safetensors or raw files with a manifest.json, or one such file", is_dumps, open_dumps
    ),
    Kind("function", "a Python function, module:function", _is_function, open_function),
)
"""The first that recognises the words is taken."""


@cache
def kinds() -> dict[str, Kind]:
    """Name -> kind; refsam's own first. Raises InputError where an entry point cannot be used, and says which."""
    found = {kind.name: kind for kind in OWN}
    for point in entry_points(group=GROUP):
        kind = _load(point)
        if kind.name in found:
            raise InputError(f"entry point {point.value}: there is a kind of port named {kind.name} already")
        found[kind.name] = kind
    return found


def _load(point: Any) -> Kind:
    try:
        kind = point.load()
    except Exception as error:
        raise InputError(f"the kind of port {point.name} ({point.value}) cannot be loaded: {error}") from error
    if not isinstance(kind, Kind):
        raise InputError(f"the entry point {point.name} ({point.value}) is no refsam.verify.ports.Kind")
    return kind


def kind_of(words: tuple[str, ...], chosen: str | None) -> Kind:
    """The kind that is named, else the first that recognises the words. Raises InputError listing those that there are."""
    known = kinds()
    if chosen is not None:
        if chosen not in known:
            raise InputError(f"the kind of port is {chosen!r}; {_listed(known.values())}")
        return known[chosen]
    for kind in known.values():
        if kind.recognises(words):
            return kind
    missing = next((word for word in words if not Path(word).exists()), None)
    reason = f"there is no file {missing}, and " if missing else ""
    raise InputError(f"{' '.join(words)} is no port: {reason}it is none of the kinds that are known; {_listed(known.values())}")


def _listed(known: Iterable[Kind]) -> str:
    return "there are: " + "; ".join(f"{kind.name} ({kind.what})" for kind in known)
