"""`refsam coreml constants`: the files beside the packages that an app and its tests load."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from refsam.cli.common import OK, JsonFlag, print_json, printable
from refsam.cli.coreml_prompt import picture_and_points
from refsam.cli.model import ModelOptions, describe
from refsam.cli.prompts import Points
from refsam.coreml.constants import IMAGE_PE, golden_tensors, write_goldens, write_image_pe
from refsam.errors import InputError
from refsam.images import pixels_sha256

Photo = Annotated[Path | None, Parameter(help="Write golden tensors of this picture too; needs --point.")]


def constants(
    folder: Path,
    /,
    *,
    photo: Photo = None,
    point: Points | None = None,
    model: ModelOptions | None = None,
    as_json: JsonFlag = False,
) -> int:
    """Write the image's positional encoding into FOLDER as the .bin that the app loads; golden tensors for XCTest with --photo.

    Goldens are the inputs and outputs of the three packages by the reference: raw float32, goldens.json, goldens.safetensors.
    """
    options = model or ModelOptions()
    if photo is None and point:
        raise InputError("--point is for golden tensors, and they need a picture: --photo FILE")
    loaded = options.load()
    found = None if photo is None else picture_and_points(photo, point or [], loaded.config)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {folder}: {error.strerror}") from None
    files = [folder / IMAGE_PE]
    write_image_pe(files[0], loaded)
    if found is not None:
        metadata = {"weights_sha256": loaded.weights_sha256, "image_sha256": pixels_sha256(found[0]), "dtype": str(loaded.dtype)}
        files += write_goldens(folder, golden_tensors(loaded, *found), metadata)
    if as_json:
        print_json({**describe(loaded, options), "files": files})
    else:
        for path in files:
            print(f"wrote {printable(path)}")
    return OK
