"""Results of `refsam verify` in a folder: one file for each picture, so that an interrupted run can go on, and the reports."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from refsam import __version__
from refsam.cli.results import check_places, check_suffix, make_folder
from refsam.cli.verify_port import Task
from refsam.errors import BackendUnavailable, InputError
from refsam.files import atomic_write
from refsam.verify.report import Record, to_html, to_json
from refsam.verify.report.pictures import Heatmap, MaskPicture, Pictures

REPORT_JSON, REPORT_HTML, PICTURES = "report.json", "report.html", "pictures"


@dataclass(frozen=True)
class Results:
    """A folder of results.

    Attributes:
        folder: it has report.json and report.html, and in `pictures` a file for each picture that is done.
        asked: all that the results depend on besides picture and prompt; what was done with other settings is not taken.
        resume: whether what is done is taken at all. That the port itself is the same is for the user to know.
    """

    folder: Path
    asked: Mapping[str, Any]
    resume: bool

    def prepare(self) -> None:
        """Make the folders. Raises InputError where that fails, or where results of an earlier run would be lost."""
        done = self.folder / PICTURES
        if not self.resume and done.is_dir() and any(done.iterdir()):
            raise InputError(f"{self.folder} has results of an earlier run; give --resume to go on with it, or another folder")
        make_folder(done)

    def done(self, task: Task) -> Record | None:
        """What an earlier run found of a picture, None where it has to be done."""
        try:
            kept = json.loads(self._file(task.name).read_bytes()) if self.resume else {}
            return _record(kept["record"]) if kept["key"] == self._key(task) else None
        except (OSError, ValueError, KeyError, TypeError):  # not there, or not what this version writes
            return None

    def keep(self, task: Task, record: Record) -> None:
        """Write down a picture's result, whole or not at all."""
        kept = {"key": self._key(task), "record": _plain(record)}
        with atomic_write(self._file(task.name)) as file:
            file.write(json.dumps(kept, sort_keys=True).encode())

    def finish(self, records: Sequence[Record]) -> Iterator[Path]:
        """Write the reports over all pictures; the page only where jinja2 is installed. Yields their paths."""
        yield write_json(self.folder / REPORT_JSON, records)
        if find_spec("jinja2") is not None:
            yield write_html(self.folder / REPORT_HTML, records)

    def _file(self, name: str) -> Path:
        return self.folder / PICTURES / f"{name}.json"

    def _key(self, task: Task) -> str:
        """A hash of the settings and of what is asked of the picture."""
        settings = {"refsam": __version__, **self.asked, "task": task.content()}
        return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()


def check_page(path: Path) -> None:
    """Before a run: raises InputError where a page cannot have this name or place, BackendUnavailable without jinja2."""
    check_suffix("html", path, (".html", ".htm"))
    check_places([path], [])
    if find_spec("jinja2") is None:
        raise BackendUnavailable("a page needs jinja2, which is not installed; try: pip install 'refsam[report]'")


def write_json(path: Path, records: Sequence[Record]) -> Path:
    """The JSON document of all records."""
    with atomic_write(path) as file:
        file.write((json.dumps(to_json(records), indent=1, sort_keys=True, allow_nan=False) + "\n").encode())
    return path


def write_html(path: Path, records: Sequence[Record]) -> Path:
    """The page of all records (see `check_page`)."""
    page = to_html(records)
    with atomic_write(path) as file:
        file.write(page.encode())
    return path


def _plain(record: Record) -> dict[str, Any]:
    maps = [heatmap._asdict() for heatmap in record.pictures.heatmaps]
    masks = [mask._asdict() for mask in record.pictures.masks]
    return {"entry": record.entry, "text": record.text, "photo": record.pictures.photo, "heatmaps": maps, "masks": masks}


def _record(plain: Mapping[str, Any]) -> Record:
    """The inverse of `_plain`. Raises KeyError or TypeError for anything else."""
    maps, masks = (Heatmap(**x) for x in plain["heatmaps"]), (MaskPicture(**x) for x in plain["masks"])
    return Record(plain["entry"], str(plain["text"]), Pictures(str(plain["photo"]), tuple(maps), tuple(masks)))
