"""The console. Each command is a module of its own, imported only when it runs: `refsam --help` loads none of them."""

from collections.abc import Sequence

from cyclopts import App

import refsam
from refsam.cli import common

COMMANDS = (
    ("segment", "refsam.cli.segment:segment", "From a picture and points, boxes or masks to what they point at."),
    ("embed", "refsam.cli.embed:embed", "Encode a picture once, for many runs of segment."),
    ("trace", "refsam.cli.trace:trace", "List and save the intermediate results of one prediction."),
    ("weights", "refsam.cli.weights:app", "Download, convert, check and describe weights files."),
    ("info", "refsam.cli.info:info", "Versions, BLAS, backends and the weights that are found."),
)  # fmt: skip
"""(name, module:function or module:app, the line in `refsam --help`). An app's own name has to be the name here."""

app = App(
    name="refsam",
    help="MobileSAM in explicit NumPy. Exit codes: 0 ok, 1 a check found a difference, 2 usage or bad input, "
    "3 something is not installed.",
    version=refsam.__version__,
)
for _name, _target, _help in COMMANDS:
    app.command(_target, name=_name, help=_help)


def main(tokens: Sequence[str] | None = None) -> int:
    """Run the console on `tokens`, by default this process's arguments, and return the exit code (see `common`)."""
    return common.run(app, tokens)
