"""What the fixtures of the pytest plugin do; `_refsam_pytest.py` has the fixtures and options themselves."""

import json
import os
import pickle
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from refsam.cli.prompts import collect
from refsam.cli.results import make_folder
from refsam.errors import InputError, RefsamError
from refsam.files import atomic_write, check_writable
from refsam.images import read_image
from refsam.loading import WEIGHTS_VARIABLE, load
from refsam.model.sam import MobileSam
from refsam.types import Array
from refsam.verify import Case, Outcome, Port, Reference, open_port, verify
from refsam.verify.ports.port import arrays, precision_of_types, telling, type_name
from refsam.verify.reference import in_float64
from refsam.verify.report import Record, record, render_text, to_html, to_json
from refsam.verify.steps import all_stages, default_stages, matching
from refsam.verify.words import missing_in_words

REPORT_FILES = ("report.html", "report.json", "report.txt")
NO_WEIGHTS = (
    "the port is judged by the reference's weights, so they have to be named: --refsam-weights FILE, mobile_sam or demo;"
    f" refsam_weights in the ini file; or ${WEIGHTS_VARIABLE}"
)
NO_PORT = "there is no port: --refsam-port PATH, backend or module:function; or refsam_port in the ini file"
NO_IMAGE = "there is no picture to put to the port: --refsam-image FILE, or refsam_image in the ini file"


@contextmanager
def _plainly() -> Iterator[None]:
    """What is wrong with the options, in one line and without a traceback through pytest."""
    try:
        yield
    except RefsamError as error:
        pytest.fail(f"refsam: {error}", pytrace=False)


@dataclass(frozen=True)
class Settings:
    """The options. On the command line paths are relative to where it is given, in an ini file to that file."""

    port: tuple[str, ...] = ()
    weights: str = ""
    images: tuple[Path, ...] = ()
    points: tuple[str, ...] = ()
    box: str = ""
    stages: str = ""
    precision: str | None = None
    report: Path | None = None

    @classmethod
    def of(cls, given: Mapping[str, Any], ini: Mapping[str, Any], inipath: Path | None) -> "Settings":
        """From the command line and, where that is silent, the ini file."""
        folder = inipath.parent if inipath is not None else Path()

        def placed(word: str) -> str:
            return str(folder / word) if (folder / word).exists() else word

        def weights_file(name: str) -> str:  # a folder of a name that weights have, such as upstream's package, is not meant
            return str(folder / name) if (folder / name).is_file() else name

        def several(name: str) -> list[str]:
            return given[name] if given[name] else [placed(word) for word in ini[name]]

        report = given["report"] or (ini["report"] and folder / ini["report"])
        weights = given["weights"] or (weights_file(ini["weights"]) if ini["weights"] else os.environ.get(WEIGHTS_VARIABLE, ""))
        return cls(
            tuple(several("port")),
            weights,
            tuple(map(Path, several("image"))),
            tuple(given["point"] or ini["point"]),
            given["box"] or ini["box"],
            given["stages"] or ini["stages"],
            given["precision"] or ini["precision"] or None,
            Path(report) if report else None,
        )

    def pictures(self) -> tuple[Path, ...]:
        """Those of the options; pytest's own error where there are none."""
        if not self.images:
            raise pytest.UsageError(NO_IMAGE)
        return self.images


class Shown:
    """A port that has run already: the stages that a test hands over. Without a precision their types tell it."""

    def __init__(self, stages: Mapping[str, Any], name: str, precision: str | None = None) -> None:
        types = telling({str(stage): type_name(value) for stage, value in stages.items()})
        own, self.notes = ("", ()) if precision else precision_of_types(types)
        self.name, self.declared, self.precision = name, precision, precision or own or "float32"
        self.stages = arrays(stages)

    def run(self, case: Case, stages: Collection[str]) -> Mapping[str, Array]:  # noqa: ARG002 - as it was handed over
        """The stages."""
        return self.stages


@dataclass
class Session:
    """One run of pytest: the model once, each picture once, and what was found."""

    settings: Settings
    found: list[Record] = field(default_factory=list)
    written: str = ""

    @cached_property
    def model(self) -> MobileSam:
        """The weights that were named; never others."""
        with _plainly():
            if not self.settings.weights:
                raise InputError(NO_WEIGHTS)
            return load(self.settings.weights)

    @cached_property
    def port(self) -> Port:
        """The port that was named."""
        with _plainly():
            if not self.settings.port:
                raise InputError(NO_PORT)
            return open_port(self.settings.port, model=self.model, precision=self.settings.precision)

    def stages(self) -> list[str]:
        """The names that `refsam_stage` runs through."""
        if not self.settings.stages:
            return default_stages(self.model.config)[:-1]  # masks are compared by pixels, with the port as a whole
        with _plainly():
            return matching(all_stages(self.model), self.settings.stages)

    def case(self, path: Path) -> Case:
        """A picture with the prompt of the options, by default a point in its middle."""
        with _plainly():
            image = read_image(path)
            height, width = image.shape[:2]
            boxes = [self.settings.box] if self.settings.box else []
            points = self.settings.points or ([] if boxes else [f"{width / 2},{height / 2}"])
            (prompt,) = collect(points, boxes, None, None)
            return Case(image, prompt.predict_kwargs(self.model.config, (height, width)), path.stem)

    def reference(self, case: Case) -> Reference:
        """The truth of all stages that the options ask for, cached between runs."""
        with _plainly():
            return Reference(in_float64(self.model), case, self.stages()).load_or_measure(self.settings.precision or "float32")

    def outcome(self, case: Case) -> Outcome:
        """Of the port of the options."""
        with _plainly():
            return self._verified(self.port, case, self.settings.precision, self.settings.stages or None)

    def compare(self, case: Case, stages: Mapping[str, Any], name: str, precision: str | None) -> Outcome:
        """Of stages that a test hands over."""
        with _plainly():
            if not isinstance(stages, Mapping):
                raise InputError(f"refsam_compare was given a {type(stages).__name__}; arrays by stage name are needed, a dict")
            declared = precision or self.settings.precision
            return self._verified(Shown(stages, name, declared), case, declared, None)

    def _verified(self, port: Port, case: Case, precision: str | None, stages: str | None) -> Outcome:
        made = next(verify(port, self.model, [case], precision=precision, stages=stages))
        if made.verdict.report.missing:  # of a test that passes nobody reads the report
            warnings.warn(f"refsam: {missing_in_words(made.verdict.report.missing)}", stacklevel=2)
        if self.settings.report is not None:
            self._keep([record(made)])
        return made

    # --- the report ---------------------------------------------------------------------------------------------------------

    def prepare_report(self) -> None:
        """Make its folder; pytest's own error where it cannot be written there."""
        folder = self.settings.report
        if folder is None:
            return
        try:
            make_folder(folder)
            for name in REPORT_FILES:
                check_writable(folder / name)
        except RefsamError as error:
            raise pytest.UsageError(f"refsam: the report: {error}") from None

    def sent(self) -> bytes:
        """What a worker of pytest-xdist hands on."""
        return pickle.dumps(self.found)

    def receive(self, found: bytes) -> None:
        """What the controller gets of it."""
        self._keep(pickle.loads(found))

    def _keep(self, found: Iterable[Record]) -> None:
        """Once, however often the same port was put to the same picture: by several workers, or as the tests' order has it."""
        known = [made.text for made in self.found]
        self.found += [made for made in found if made.text not in known]

    def write(self) -> None:
        """The report in its three forms; nothing where no port was run."""
        folder = self.settings.report
        if folder is None or not self.found:
            return
        make_folder(folder)
        texts = "\n\n\n".join(render_text(made) for made in self.found)
        forms = (to_html(self.found), json.dumps(to_json(self.found), indent=2, allow_nan=False), f"{texts}\n")
        for name, text in zip(REPORT_FILES, forms, strict=True):
            with atomic_write(folder / name) as file:
                file.write(text.encode())
        self.written = str(folder / REPORT_FILES[0])
