"""`refsam diagnose`: dumps of a port, or one preprocessed tensor, and why they are not the reference's."""

import os
from pathlib import Path

from refsam.cli.common import DIFFERENCE, OK, JsonFlag, print_json
from refsam.cli.model import ModelOptions
from refsam.cli.verify import Factor, Html, verify
from refsam.cli.verify_port import CaseOptions, PortOptions, Precision
from refsam.errors import InputError
from refsam.images import read_image
from refsam.loading import WEIGHTS_VARIABLE
from refsam.types import Array, UInt8
from refsam.verify import Case
from refsam.verify.comparison import K
from refsam.verify.ports.dumps import DumpPort
from refsam.verify.preprocessed import STAGES, Preprocessed, diagnose_preprocessed


def diagnose(
    dumps: Path,
    /,
    *,
    cases: CaseOptions | None = None,
    precision: Precision = None,
    k: Factor = K,
    model: ModelOptions | None = None,
    html: Html = None,
    as_json: JsonFlag = False,
) -> int:
    """Say where DUMPS of a port differ from the reference, and why. Exit code 1 where they do.

    DUMPS is a folder of .npy, .npz, .safetensors or raw files, or one of them, such as a trace. Without weights only what a port
    did to the picture can be judged: input_image, or a .npy of any name in its shape.
    """
    options = model or ModelOptions()
    asked = cases or CaseOptions()
    if options.weights or os.environ.get(WEIGHTS_VARIABLE):
        return verify(
            str(dumps), cases=asked, precision=precision, k=k, how=PortOptions(kind="dumps"), model=options, html=html,
            as_json=as_json,
        )  # fmt: skip
    if html is not None:
        raise InputError("a page of a diagnosis needs a model: name its weights with --weights")
    tasks = asked.tasks()
    if len(tasks) != 1:
        raise InputError(f"a tensor is of one picture, and there are {len(tasks)}")
    image = tasks[0].path
    found = preprocessed(dumps, read_image(image), image.stem, precision, k)
    if as_json:
        print_json({"image": image, "dumps": dumps, **found.to_dict()})
    else:
        print(found)
    return OK if found else DIFFERENCE


def preprocessed(
    dumps: Path, picture: UInt8[Array, "H W 3"], name: str, precision: str | None = None, k: float = K
) -> Preprocessed:
    """Diagnose the tensor of preprocessing among the dumps, or the only one that there is. Raises InputError for others.

    Without a precision the one that the dumps have (see `DumpPort`).
    """
    port = DumpPort(dumps, precision)
    shown = port.run(Case(picture, name=name), ())
    stage = next((stage for stage in STAGES if stage in shown), None)
    if stage is None and len(shown) != 1:
        names = ", ".join(list(shown)[:5])
        raise InputError(f"{dumps} has {names}; to judge these, name the weights with --weights (without them: input_image)")
    tensor = shown[stage or next(iter(shown))]
    return diagnose_preprocessed(tensor, picture, stage, precision=port.precision, k=k, notes=port.notes)
