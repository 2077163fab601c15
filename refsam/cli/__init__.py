"""The console. Each command is a module of its own, imported only when it runs: `refsam --help` loads none of them."""

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from cyclopts import App

import refsam
from refsam.cli import common

COMMANDS = (
    ("segment", "refsam.cli.segment:segment", "From a picture and points, boxes or masks to what they point at."),
    ("everything", "refsam.cli.everything:everything", "Masks of all that a grid of points finds in a picture."),
    ("embed", "refsam.cli.embed:embed", "Encode a picture once, for many runs of segment."),
    ("trace", "refsam.cli.trace:trace", "List and save the intermediate results of one prediction."),
    ("verify", "refsam.cli.verify:verify", "Hold a port against the reference: which stage differs, by how much, and why."),
    ("diagnose", "refsam.cli.diagnose:diagnose", "Dumps of a port, or one preprocessed tensor: what is wrong with them."),
    ("coreml", "refsam.cli.coreml:app", "Core ML packages, on any system: describe, run, judge operation by operation."),
    ("kernels", "refsam.cli.kernels:app", "Metal kernels, on a Mac's GPU or emulated: test, time, list; check and run any file."),
    ("weights", "refsam.cli.weights:app", "Download, convert, check and describe weights files."),
    ("bench", "refsam.cli.bench:bench", "Time refsam and its peers on the same weights."),
    ("info", "refsam.cli.info:info", "Versions, BLAS, backends and the weights that are found."),
)  # fmt: skip
"""(name, module:function or module:app, the line in `refsam --help`). An app's own name has to be the name here."""


def build(chosen: str = "") -> App:
    """The console with the command `chosen` loaded; of the others only the names and the lines of help."""
    app = App(
        name="refsam",
        help="MobileSAM in explicit NumPy. Exit codes: 0 ok, 1 a check found a difference, 2 usage or bad input, "
        "3 something is not installed.",
        version=refsam.__version__,
    )
    for name, target, line in COMMANDS:
        command = _load(target) if name == chosen else App(name=name, help=line)
        app.command(command) if isinstance(command, App) else app.command(command, name=name)
    return app


def _load(target: str) -> Any:
    module, _, attribute = target.partition(":")
    return getattr(import_module(module), attribute)


def main(tokens: Sequence[str] | None = None) -> int:
    """Run the console on `tokens`, by default this process's arguments, and return the exit code (see `common`)."""
    words = list(sys.argv[1:] if tokens is None else tokens)
    return common.run(lambda: build(words[0] if words else ""), words)
