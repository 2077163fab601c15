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
from refsam.files import can_name_a_file, visible
from refsam.images import read_image
from refsam.model.sam import MobileSam
from refsam.printing import printable
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
        repeated = _repeated([path.stem for path in paths])
        if repeated is not None:
            raise InputError(f"two pictures are named {repeated}; results go by the name without its ending")
        found = [Task(name, path, prompt, self.multimask) for path in paths for name, prompt in self._prompts(path, paths)]
        repeated = _repeated([task.name for task in found])
        if repeated is not None:
            raise InputError(f"two results would be named {repeated}, after picture and prompt; name one of them otherwise")
        return found

    def left_out(self) -> str:
        """That entries of --prompts are asked of no picture, since others are named after pictures; "" where none is."""
        entries, paths = [] if self.prompts is None else read_prompts(self.prompts), self._paths()
        left = [entry.name or "without a name" for entry in entries if not any(_is_of(entry, path) for path in paths)]
        if len(left) in (0, len(entries)):
            return ""
        return f"{len(left)} of {len(entries)} entries of {self.prompts} are named after no picture here and not asked: {left[0]}"

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

    def _prompts(self, path: Path, paths: Sequence[Path]) -> list[tuple[str, "Prompt | None"]]:
        """The prompts of one picture by what they are called: of a file the entries of its name, where that has entries of any
        picture's name, else all; none for the middle of the picture."""
        if self.prompts is None and not (self.point or self.box or self.mask):
            return [(path.stem, None)]
        found = collect(self.point or [], self.box or [], self.mask, None) if self.prompts is None else read_prompts(self.prompts)
        if any(_is_of(prompt, other) for prompt in found for other in paths):
            found = [prompt for prompt in found if _is_of(prompt, path)]
        if not found:
            raise InputError(f"{self.prompts} has no entry named {path.stem}, and others are named after pictures")
        if len(found) == 1:
            return [(path.stem, found[0])]
        return [(f"{path.stem}-{_called(prompt, number, path)}", prompt) for number, prompt in enumerate(found, 1)]


def _is_of(prompt: Prompt, path: Path) -> bool:
    return prompt.name in (path.stem, path.name)


def _called(prompt: Prompt, number: int, path: Path) -> str:
    """What one of several prompts of a picture is called: by its name, if that is not the picture's, else by its number.

    Raises InputError where that cannot be in a file's name.
    """
    if not prompt.name or _is_of(prompt, path):
        return str(number)
    if Path(prompt.name).name != prompt.name or not can_name_a_file(prompt.name):
        raise InputError(f"the prompt's name {printable(prompt.name)!r} is part of a result's file name, and cannot be in one")
    return prompt.name


def _repeated(names: Sequence[str]) -> str | None:
    return next((name for name in names if names.count(name) > 1), None)


@dataclass(frozen=True)
class Task:
    """One picture and prompt, not yet read; small, so that it can be sent to another process.

    Attributes:
        name: the case's: the picture's without its ending, with the prompt's where it has several.
        path: of the picture.
        prompt: None: one point in the middle.
        multimask: three candidates.
    """

    name: str
    path: Path
    prompt: Prompt | None
    multimask: bool

    @property
    def title(self) -> str:
        """For an error: the picture's path and, of several prompts, which."""
        return str(self.path) if self.name == self.path.stem else f"{self.path}, prompt {self.name}"

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
