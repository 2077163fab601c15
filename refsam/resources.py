"""The one place that finds the top-level folders `weights/` and `kernels/`.

A wheel carries them inside the package (`refsam/_resources/`, see pyproject); a checkout and an editable install have
them beside it.
"""

from pathlib import Path

from refsam.errors import RefsamError

PACKAGE = Path(__file__).resolve().parent


def path(*parts: str) -> Path:
    """Where a file or folder of the project lies, e.g. `path("weights", "manifest.json")`.

    Raises RefsamError where this installation does not have it.
    """
    found = _root(PACKAGE).joinpath(*parts)
    if not found.exists():
        raise RefsamError(f"this installation lacks {'/'.join(parts)} (looked for {found}); install refsam again")
    return found


def _root(package: Path) -> Path:
    """The package's own folder wins: beside an installed package lie other people's packages."""
    inside = package / "_resources"
    return inside if inside.is_dir() else package.parent
