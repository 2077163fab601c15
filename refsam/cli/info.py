"""`refsam info`: what is installed, which weights there are, and what would compute."""

import os
import platform
import sys
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

import refsam
from refsam import backends, checkpoint, loading, weights_store
from refsam.cli.common import OK, JsonFlag, one_line, print_json
from refsam.errors import BackendUnavailable, RefsamError
from refsam.threads import thread_count

PACKAGES = ("numpy", "pillow", "safetensors", "jaxtyping", "threadpoolctl", "cyclopts", "rich")


def info(*, as_json: JsonFlag = False) -> int:
    """Versions, BLAS and threads, backends, and the weights that are found, with their hashes."""
    missing = _unavailable()
    document = {
        "refsam": refsam.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "packages": {name: _version(name) for name in PACKAGES},
        "blas": _blas(),
        "backends": sorted(set(backends.BACKENDS) - set(missing)),
        "unavailable_backends": missing,
        "default_backend": loading.DEFAULT_BACKEND,
        "threads": thread_count(),
        "cache": weights_store.cache_folder(),
        "weights": {name: _weights(name) for name in _names()},
    }
    if as_json:
        print_json(document)
    else:
        _print(document)
    return OK


def _unavailable() -> dict[str, str]:
    """Backend -> why it cannot compute here."""
    from refsam.emulator.toolchain import toolchain
    from refsam.metal.device import open_device

    reasons = {}
    for name, needed in (("emulator", toolchain), ("metal", partial(open_device, "metal"))):
        try:
            needed()
        except BackendUnavailable as error:
            reasons[name] = str(error)
    return reasons


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _blas() -> list[dict[str, Any]]:
    """The BLAS libraries in this process. None listed means one that threadpoolctl does not know, such as Accelerate."""
    from threadpoolctl import threadpool_info

    np.ones((2, 2)) @ np.ones((2, 2))
    keys = ("internal_api", "version", "num_threads", "architecture")
    return [{key: found.get(key) for key in keys} for found in threadpool_info() if found.get("user_api") == "blas"]


def _names() -> list[str]:
    """The weights that there could be: a chosen file, the downloads, the demo."""
    chosen = os.environ.get(loading.WEIGHTS_VARIABLE)
    return [*([chosen] if chosen else []), *weights_store.sources(), "demo"]


def _weights(name: str) -> dict[str, Any]:
    """Where they are and what they are, or why they cannot be used."""
    path: Path | None = None
    try:
        path = loading.weights_path(name)
        opened = checkpoint.load(path)
    except RefsamError as error:
        return {"path": path, "problem": str(error)}
    return {"path": path, "sha256": opened.sha256, "format": opened.format, "config": vars(opened.config)}


def _print(document: dict[str, Any]) -> None:
    packages = ", ".join(f"{name} {version or 'missing'}" for name, version in document["packages"].items())
    blas = ", ".join(f"{b['internal_api']} {b['version']} ({b['num_threads']} threads)" for b in document["blas"])
    rows = {
        "refsam": f"{document['refsam']}, Python {document['python']} ({sys.executable})",
        "platform": f"{document['platform']}, {document['cpus']} CPUs",
        "packages": packages,
        "blas": blas or "one that threadpoolctl does not know",
        "backends": ", ".join(document["backends"]),
        **{f"no {name}": reason for name, reason in document["unavailable_backends"].items()},
        "default": f"{document['default_backend']}, {document['threads']} threads",
        "cache": document["cache"],
    }
    for name, found in document["weights"].items():
        size = f"{found['config']['image_size']} px, sha256 {found['sha256'][:16]}..." if "sha256" in found else found["problem"]
        rows[f"weights {name}"] = f"{found['path']} ({size})" if "sha256" in found else size
    lines = {one_line(name): one_line(str(text)) for name, text in rows.items()}  # a file's error names its own tensors
    width = max(map(len, lines))
    for name, text in lines.items():
        print(f"{name:<{width}}  {text}")
