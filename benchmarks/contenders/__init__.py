"""Who can take part: each contender is a class in a module of its own, built in a process of its own.

A contender's class has a method for each row that it can run: `encoder()`, `decoder(count)`, `set_image(picture)` and so on;
the part of a row's name after the slash is the argument. A method prepares, and returns the function that is timed.
Packages are imported in methods only, so that a process loads what its contender needs and no more.
"""

import importlib.util
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

UNSET = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "PYTHONDONTWRITEBYTECODE")
"""The first two choose an OpenBLAS kernel for compatibility, which halves its speed; with the last a checkout is compiled anew in
every process, as no installed package is. Unset in workers, and rows say so."""

COUNTS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "REFSAM_THREADS")
"""Thread counts of the host, unset in workers: each contender is told its number by its own means."""

TUNED_MALLOC = {
    "MALLOC_TOP_PAD_": str(1 << 28), "MALLOC_MMAP_THRESHOLD_": str(1 << 32), "MALLOC_TRIM_THRESHOLD_": str(1 << 33),
}  # fmt: skip
"""glibc gives large blocks back to the system at once and pays page faults to get them again; this keeps them."""


@dataclass(frozen=True)
class Contender:
    """One process of the run.

    Attributes:
        name: in rows and in `--contenders`.
        builder: "module:class"; the class is called with the settings of the run.
        packages: what has to be installed.
        environment: further variables of its process.
        settings: further settings of its own.
        by_default: whether it takes part without being named.
        takes_graphs: whether it runs the ONNX graphs of export.py.
    """

    name: str
    builder: str
    packages: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    by_default: bool = True
    takes_graphs: bool = False

    def missing(self) -> list[str]:
        """The packages that are not installed here."""
        return [name for name in self.packages if importlib.util.find_spec(name) is None]

    def build(self, settings: dict[str, Any]) -> Any:
        """The contender itself, in the process that calls."""
        module, _, name = self.builder.partition(":")
        return getattr(import_module(module), name)({**settings, **self.settings})


OURS = "fast"
"""The backend that the table of goals is about."""

UPSTREAM = ("torch", "mobile_sam", "standin")
"""`standin` stands for the checkout's tests folder, which has the torch peer."""


def known() -> dict[str, Contender]:
    """Name -> every contender of this version, installed or not; refsam's fast backend comes first."""
    return {contender.name: contender for contender in [*_refsam(), MACHINE, *_peers()]}


def _refsam() -> Iterator[Contender]:
    from refsam.backends import BACKENDS

    for name in sorted(BACKENDS, key=lambda name: name != OURS):
        builder = "benchmarks.contenders.refsam_numpy:Refsam"
        yield Contender(name, builder, settings={"backend": name}, by_default=name == OURS)
    for precision in ("fp32", "fp16"):
        builder = "benchmarks.contenders.coreml_packages:CoreMlPackages"
        yield Contender(f"coreml-{precision}", builder, ("coremltools",), settings={"precision": precision}, by_default=False)


MACHINE = Contender("machine", "benchmarks.contenders.machine:Machine")
"""What the machine itself can do: the rows that others are held against."""


def _peers() -> Iterator[Contender]:
    torch = "benchmarks.contenders.torch_upstream:Torch"
    yield Contender("torch", torch, UPSTREAM)
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        yield Contender("torch-malloc", torch, UPSTREAM, TUNED_MALLOC)
    yield Contender("torch-compile", torch, UPSTREAM, TUNED_MALLOC, {"compile": True}, by_default=False)
    yield Contender("onnxruntime", "benchmarks.contenders.onnx_runtime:OnnxRuntime", ("onnxruntime",), takes_graphs=True)
    yield Contender("openvino", "benchmarks.contenders.openvino_cpu:OpenVino", ("openvino",), takes_graphs=True)
