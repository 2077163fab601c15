"""The options of `refsam verify` that say which port, and what is put to it."""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from refsam.checkpoint import file_sha256
from refsam.cli.prompts import Boxes, MaskFile, Points, Prompt, PromptFile, collect, read_prompts
from refsam.coreml.check_native import Units
from refsam.errors import InputError
from refsam.files import visible
from refsam.images import read_image
from refsam.model.sam import MobileSam
from refsam.verify import Case, Port, open_port
from refsam.verify.ports.app import Way
from refsam.verify.ports.dumps import check_several
from refsam.verify.ports.onnx import Layout
from refsam.verify.ports.registry import kind_of

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".gif", ".ppm")


@Parameter(name="*")
@dataclass(frozen=True)
class PortOptions:
    """How the port is opened; each kind has some of these."""

    kind: Annotated[str | None, Parameter(help="What PORT is, where that is unclear: backend, coreml, onnx, dumps ...")] = None
    native: Annotated[bool, Parameter(negative=(), help="coreml: Core ML itself runs the packages (a Mac).")] = False
    units: Annotated[Units | None, Parameter(help="coreml: what Core ML may compute on, with --native.")] = None
    image_pe: Annotated[Path | None, Parameter(name="--image-pe", help="coreml: the app's .bin of the image's encoding.")] = None
    inside: Annotated[bool, Parameter(negative=(), help="coreml: look at stages inside the packages too (not --native).")] = False
    layout: Annotated[Layout | None, Parameter(help="onnx: who calls the files (default: upstream).")] = None
    way: Annotated[Way | None, Parameter(help="app: as it ships (binary), as its sources read, or as it should be.")] = None

    def open(self, words: Sequence[str], model: MobileSam, precision: str | None) -> Port:
        """The port. Modules are also looked for in the current folder. Raises what `open_port` raises."""
        if "" not in sys.path:
            sys.path.insert(0, "")
        given = {name: value for name, value in asdict(self).items() if name != "kind" and value not in (None, False)}
        return open_port(list(words), model=model, precision=precision, kind=self.kind, **given)

    def check_several(self, words: tuple[str, ...], names: Sequence[str]) -> None:
        """Raises InputError where the port is dumps that cannot be all of these pictures'."""
        if len(names) > 1 and words and kind_of(words, self.kind).name == "dumps":
            check_several(Path(words[0]), names)


@Parameter(name="*")
@dataclass(frozen=True)
class CaseOptions:
    """Pictures and prompts."""

    image: Annotated[list[Path] | None, Parameter(negative=(), help="A picture. May be repeated.")] = None
    images: Annotated[Path | None, Parameter(help="A folder of pictures.")] = None
    point: Points | None = None
    box: Boxes | None = None
    mask: MaskFile = None
    prompts: PromptFile = None
    multimask: Annotated[bool, Parameter(name="--multimask", negative="--single", help="Three candidates, or one mask.")] = True

    def tasks(self) -> list["Task"]:
        """What is put to the port, one after the other. Raises InputError where there is nothing, or names repeat."""
        paths = self._paths()
        names = [path.stem for path in paths]
        repeated = next((name for name in names if names.count(name) > 1), None)
        if repeated:
            raise InputError(f"two pictures are named {repeated}; results go by the name without its ending")
        return [Task(path, self._prompt(path), self.multimask) for path in paths]

    def _paths(self) -> list[Path]:
        paths = list(self.image or [])
        if self.images is not None:
            if not self.images.is_dir():
                raise InputError(f"--images {self.images}: it has to be a folder; one picture is --image")
            found = [path for path in visible(self.images) if path.suffix.lower() in PICTURES]
            if not found:
                raise InputError(f"--images {self.images}: there are no pictures in it")
            paths += found
        if not paths:
            raise InputError("there is no picture; give --image FILE or --images FOLDER")
        return paths

    def _prompt(self, path: Path) -> "Prompt | None":
        """The prompt of one picture: of a file the entry of its name, or the only one; None for the middle of the picture."""
        if self.prompts is None and not (self.point or self.box or self.mask):
            return None
        found = collect(self.point or [], self.box or [], self.mask, None) if self.prompts is None else read_prompts(self.prompts)
        named = [prompt for prompt in found if prompt.name in (path.stem, path.name)] or found
        if len(named) != 1:
            where = f"{self.prompts} has {len(named)}" if self.prompts else f"there are {len(named)}"
            raise InputError(f"{path.name} is verified with one prompt, and {where} for it; name entries after pictures")
        return named[0]


@dataclass(frozen=True)
class Task:
    """One picture and prompt, not yet read; small, so that it can be sent to another process.

    Attributes:
        path: of the picture, whose name without its ending is the case's.
        prompt: None: one point in the middle.
        multimask: three candidates.
    """

    path: Path
    prompt: Prompt | None
    multimask: bool

    @property
    def name(self) -> str:
        """Of the picture."""
        return self.path.stem

    def content(self) -> dict[str, Any]:
        """What a result depends on: picture and mask by their bytes, the prompt, not what they are called."""
        prompt = None if self.prompt is None else {**asdict(self.prompt), "name": "", "mask": _sha256(self.prompt.mask)}
        return {"picture": _sha256(self.path), "prompt": prompt, "multimask": self.multimask}

    def read(self, model: MobileSam) -> Case:
        """The case. Raises InputError where the picture cannot be read or the prompt does not fit it."""
        picture = read_image(self.path)
        height, width = picture.shape[:2]
        prompt = self.prompt or replace(Prompt(), points=((width / 2, height / 2),), labels=(1,))
        kwargs: dict[str, Any] = prompt.predict_kwargs(model.config, (height, width))
        return Case(picture, {**kwargs, "multimask_output": self.multimask}, self.name)


def _sha256(path: Path | None) -> str:
    if path is None:
        return ""
    with path.open("rb") as file:
        return file_sha256(file)


Precision = Annotated[
    Literal["float32", "fp16", "bf16", "int8", "int8-fp16"] | None,
    Parameter(help="What the port computes in (default: what it says)."),
]
