"""`refsam coreml export`: the three packages of a MobileSAM app, from refsam's weights and without torch."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from refsam.cli.common import OK, JsonFlag, print_json, printable, progress
from refsam.cli.model import ModelOptions, describe
from refsam.coreml import export as exporting

PrecisionOption = Annotated[exporting.Precision, Parameter(help="Of weights and computation; inputs and outputs are float32.")]
TargetOption = Annotated[exporting.Target, Parameter(help="The oldest system that has to run them.")]
NamesOption = Annotated[exporting.Naming, Parameter(help="Names of inputs and outputs: the article's, or the app's.")]
PartOption = Annotated[list[exporting.Part] | None, Parameter(name="--part", negative=(), help="Only this one; repeatable.")]


def export(
    folder: Path,
    /,
    *,
    precision: PrecisionOption = "fp16",
    target: TargetOption = "iOS15",
    names: NamesOption = "article",
    part: PartOption = None,
    model: ModelOptions | None = None,
    as_json: JsonFlag = False,
) -> int:
    """Write ImageEncoder, PromptEncoder and MaskDecoder.mlpackage into FOLDER.

    They take 1 to 100 points; the same weights and options give the same bytes. Needs coremltools: pip install 'refsam[coreml]'.
    """
    options = model or ModelOptions()
    exporting.coremltools_module()  # before the weights are read: where it is missing, nothing else matters
    loaded = options.load()
    parts = tuple(part) if part else tuple(exporting.PACKAGES)
    with progress("export", unit="packages") as advance:
        paths = exporting.export(loaded, folder, precision=precision, target=target, names=names, parts=parts, progress=advance)
    if as_json:
        choices = {"precision": precision, "target": target, "names": names}
        print_json({**describe(loaded, options), **choices, "files": paths})
    else:
        for path in paths:
            print(f"wrote {printable(path)}")
    return OK
