"""From a name or a file to a model."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from refsam import backends, checkpoint, files
from refsam.arguments import whole_number
from refsam.errors import CheckpointError, InputError
from refsam.model.sam import MobileSam

WEIGHTS_VARIABLE = "REFSAM_WEIGHTS"
DEFAULT_BACKEND = "fast"


def load(
    weights: str | os.PathLike[str] | None = None,
    *,
    backend: str = DEFAULT_BACKEND,
    dtype: str = "float32",
    threads: int | None = None,
) -> MobileSam:
    """The model with these weights.

    Args:
        weights: a path (.safetensors or .pt); "mobile_sam", which `refsam weights fetch` downloads; "demo", the small model in
            this package; None: $REFSAM_WEIGHTS, else the downloaded mobile_sam, else demo with one line on stderr saying so.
        backend: "fast", tiled and threaded NumPy; "processes", the same on helper processes; "reference", the definition;
            "metal", kernels on a Mac's GPU; "emulator", the same kernels on a Linux CPU, slowly (`refsam info` lists those here).
        dtype: "float32" or "float64"; in float64 every backend computes by the definition.
        threads: how many threads, or processes, a backend may use; None: $REFSAM_THREADS, else the CPUs that there are. The
            reference uses one.

    Raises InputError for an unknown name or backend, or threads that are no number of them; CheckpointError where the file cannot
    be used; BackendUnavailable where the backend cannot run here.
    """
    if threads is not None:
        threads = whole_number("threads", threads, 1)
    ops = backends.create(backend, threads)
    opened = checkpoint.load(weights_path(weights))
    metadata = {**opened.metadata, "weights_sha256": opened.sha256, "weights_path": str(opened.path)}
    return MobileSam(opened.tensors, opened.config, ops, dtype, metadata)


def weights_path(weights: str | os.PathLike[str] | None) -> Path:
    """The file that `weights` names (see `load`). Raises CheckpointError where there is none."""
    from refsam import weights_store  # here, because `import refsam` need not know about downloads

    chosen = os.fspath(weights) if weights is not None else os.environ.get(WEIGHTS_VARIABLE) or _default_name()
    path = weights_store.locate(chosen)
    reason = files.why_not_there(path)
    if reason:
        raise CheckpointError(f"no weights file {path}: {reason}; give a path, 'mobile_sam' or 'demo'")
    return path


def _default_name() -> str:
    from refsam import weights_store

    if weights_store.find("mobile_sam") is not None:
        return "mobile_sam"
    print("refsam: using the small demo model; for MobileSAM itself run: refsam weights fetch", file=sys.stderr)
    return "demo"


def build_sam_vit_t(checkpoint: str | os.PathLike[str] | None = None) -> MobileSam:
    """MobileSAM from a checkpoint, the downloaded one where none is named.  Upstream: build_sam.py build_sam_vit_t.

    Differs: without a checkpoint upstream gives a model with random weights.
    """
    return load("mobile_sam" if checkpoint is None else checkpoint)


def _not_ours(name: str) -> Callable[..., MobileSam]:
    def build(checkpoint: str | os.PathLike[str] | None = None) -> MobileSam:
        raise InputError(f"refsam has no image encoder of kind {name!r}, only MobileSAM's 'vit_t' ({checkpoint} was asked for)")

    return build


sam_model_registry: dict[str, Callable[..., MobileSam]] = {
    "vit_t": build_sam_vit_t,
    **{name: _not_ours(name) for name in ("default", "vit_h", "vit_l", "vit_b")},
}
"""Upstream's table of constructors: `sam_model_registry["vit_t"](checkpoint="mobile_sam.pt")`."""
