"""The pages of docs/evidence: written, and held to what they promise."""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from verify.trials import LOCATED, NAMED

from refsam.files import atomic_write

MISS = re.compile(r"\|\s*\**(?:NO|NOTHING|NOT CAUGHT|MISSED)\b[^|]*(?=\|)")
"""A field that begins so says that a fault was not noticed, or not as planned. Where the oracle names another stage or another
mistake, "NO" stands at the end of a field: of those it promises shares."""


def write_pages(folder: Path, pages: Mapping[str, Callable[[], Iterable[str]]]) -> None:
    """Write all pages into `folder`, each whole or not at all. Ends Python with an error where one has a miss."""
    folder.mkdir(parents=True, exist_ok=True)
    missed = []
    for name, lines in pages.items():
        text = "\n".join(lines()) + "\n"
        with atomic_write(folder / name) as file:
            file.write(text.encode())
        print(folder / name)
        missed += [f"{folder / name}: {line}" for line in misses(name, text)]
    if missed:
        raise SystemExit("\n".join(missed))


def misses(name: str, text: str) -> list[str]:
    """The lines of a page that admit what the page promises not to happen."""
    rows = [line for line in text.splitlines() if line.startswith("|")]
    further = FURTHER.get(name, lambda fields: False)
    return [row for row in rows if MISS.search(row) or further([field.strip() for field in row.split("|")[1:-1]])]


def _beyond_its_bound(fields: list[str]) -> bool:
    """A kernel's greatest errors, as parts of its bound."""
    try:
        return not all(float(field) <= 1 for field in fields[1:])
    except ValueError:  # the head
        return False


def _alarmed(fields: list[str]) -> bool:
    """Model, way, runs, false alarms ..."""
    return fields[3].isdecimal() and int(fields[3]) > 0


def _too_few(fields: list[str]) -> bool:
    """Faults, planted, beyond the budget, located, nameable, named, unasked: shares of those that were beyond, and nameable."""
    if len(fields) != 7 or not fields[1].isdecimal():
        return False
    beyond, located, nameable, named = (0 if field == "none" else int(field.split()[0]) for field in fields[2:6])
    return located < math.ceil(LOCATED * beyond) or named < math.ceil(NAMED * nameable)


FURTHER: Mapping[str, Callable[[list[str]], bool]] = {
    "kernels.md": _beyond_its_bound,
    "oracle-clean.md": _alarmed,
    "oracle-faults.md": _too_few,
}
"""Page -> whether the fields of a row are a miss that is a number."""
