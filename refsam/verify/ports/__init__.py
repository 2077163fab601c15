"""Ports: whatever computes MobileSAM some other way, opened so that the oracle can ask it (`open_port`)."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from refsam.errors import InputError
from refsam.model.sam import MobileSam
from refsam.verify.ports.backend import ModelPort
from refsam.verify.ports.function import FunctionPort
from refsam.verify.ports.port import Port
from refsam.verify.ports.registry import Kind, kind_of, kinds
from refsam.verify.precision import precision_of

__all__ = ["Kind", "Port", "kinds", "open_port"]


def open_port(
    spec: str | Path | Sequence[str | Path] | MobileSam | Callable[..., Any] | Port,
    *,
    model: MobileSam,
    precision: str | None = None,
    kind: str | None = None,
    **options: Any,
) -> Port:
    """A port from what names it.

    Args:
        spec: a path, or several that belong together (encoder and decoder); the name of a backend; "module:function"; a Python
            function (see `FunctionPort` for its parameters); a model; a port, which is handed back.
        model: the reference's weights: a port that brings no weights of its own has these.
        precision: what the port computes in; None: what the port itself says, else float32.
        kind: one of `kinds()`, where the words do not tell.
        options: those of the kind.

    Raises InputError where nothing like that can be opened; BackendUnavailable where something is not installed.
    """
    declared = None if precision is None else precision_of(precision).name
    if isinstance(spec, MobileSam):
        return ModelPort(spec, precision=declared or "float32")
    if callable(getattr(spec, "run", None)) and hasattr(spec, "precision"):
        return spec  # type: ignore[return-value]
    if callable(spec):
        return FunctionPort(spec, model.config.image_size, declared)
    words = (str(spec),) if isinstance(spec, str | Path) else tuple(map(str, spec))  # type: ignore[arg-type]
    if not words:
        raise InputError("there is no port; give a path, a backend's name or module:function")
    return kind_of(words, kind).opened(words, {"model": model, "precision": declared, **options})
