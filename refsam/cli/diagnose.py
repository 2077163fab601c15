"""`refsam diagnose`: dumps of a port, or one preprocessed tensor, and why they are not the reference's."""

import os
from collections.abc import Sequence
from pathlib import Path

from refsam.cli.common import DIFFERENCE, OK, JsonFlag, print_json
from refsam.cli.model import ModelOptions
from refsam.cli.verify import Factor, Html, verify
from refsam.cli.verify_port import CaseOptions, PortOptions, Precision, Task
from refsam.errors import InputError
from refsam.images import read_image
from refsam.loading import WEIGHTS_VARIABLE
from refsam.types import Array, UInt8
from refsam.verify import Case
from refsam.verify.comparison import K
from refsam.verify.groups import INPUT, OTHER, group_of
from refsam.verify.ports.dumps import PictureDumps, preprocessed_among
from refsam.verify.ports.port import renamed
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

    DUMPS is a folder of .npy, .npz, .safetensors or raw files, or one of them, such as a trace. What a port did to the picture is
    judged without weights: input_image, or a tensor in its shape of a name that is no stage's. For all else name the weights, by
    --weights or $REFSAM_WEIGHTS; by --weights, all is judged with them.
    """
    options = model or ModelOptions()
    asked = cases or CaseOptions()
    tasks = asked.tasks()
    if options.weights or (os.environ.get(WEIGHTS_VARIABLE) and (html is not None or needs_model(dumps, tasks))):
        return verify(
            str(dumps), cases=asked, precision=precision, k=k, how=PortOptions(kind="dumps"), model=options, html=html,
            as_json=as_json,
        )  # fmt: skip
    if html is not None:
        raise InputError("a page of a diagnosis needs a model: name its weights with --weights")
    pictures = {task.path for task in tasks}
    if len(pictures) != 1:
        raise InputError(f"a tensor is of one picture, and there are {len(pictures)}")
    image = tasks[0].path
    found = preprocessed(dumps, read_image(image), image.stem, precision, k)
    if as_json:
        print_json({"image": image, "dumps": dumps, **found.to_dict()})
    else:
        print(found)
    return OK if found else DIFFERENCE


def needs_model(dumps: Path, tasks: Sequence[Task]) -> bool:
    """Whether there is more in the dumps than one tensor that may be a preprocessed picture."""
    if len(tasks) != 1:
        return True
    shown, _ = renamed(PictureDumps(dumps).run(Case(read_image(tasks[0].path), name=tasks[0].name), ()))
    return any(group_of(name) not in (INPUT, OTHER) for name in shown) or preprocessed_among(shown) is None


def preprocessed(
    dumps: Path, picture: UInt8[Array, "H W 3"], name: str, precision: str | None = None, k: float = K
) -> Preprocessed:
    """Diagnose the tensor of preprocessing among the dumps, or the only one that there is. Raises InputError for others.

    Without a precision the one that the dumps have (see `DumpPort`).
    """
    port = PictureDumps(dumps, precision)
    shown = port.run(Case(picture, name=name), ())
    found = preprocessed_among(shown)
    if found is None:
        names = ", ".join(list(shown)[:5])
        raise InputError(f"{dumps} has {names}; to judge these, name the weights with --weights (without them: input_image)")
    stage = found if found in STAGES else None
    return diagnose_preprocessed(shown[found], picture, stage, precision=port.precision, k=k, notes=port.notes)
