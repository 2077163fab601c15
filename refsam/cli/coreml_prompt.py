"""What the commands around the app share: a picture, and points as the app takes them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from refsam.cli.prompts import collect
from refsam.config import Config
from refsam.coreml.app import Point
from refsam.images import read_image
from refsam.types import Array, UInt8

Packages = Annotated[
    Path | None, Parameter(help="The folder of ImageEncoder, PromptEncoder and MaskDecoder.mlpackage; else refsam's model.")
]


def picture_and_points(photo: Path, point: Sequence[str], config: Config) -> tuple[UInt8[Array, "H W 3"], list[Point]]:
    """The picture in a file and one prompt of points in it. Raises InputError where a point is outside, or there is none."""
    picture = read_image(photo)
    (prompt,) = collect(point, [], None, None)
    prompt.predict_kwargs(config, (picture.shape[0], picture.shape[1]))  # says what is wrong with it
    return picture, [Point(x, y, label) for (x, y), label in zip(prompt.points, prompt.labels, strict=True)]
