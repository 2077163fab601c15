"""Tests that need packages: which of these are here, and which have to be.  Run: python tests/required.py

Where a package is missing its tests are deselected, so that the suite passes everywhere. $REFSAM_TESTS_REQUIRE (markers with
commas between them) says which may not be: CI sets it to what this script prints, what the extra "test" installs.
"""

import importlib.util
import sys
from collections.abc import Collection, Mapping
from importlib.metadata import requires

from packaging.requirements import Requirement

NEEDS = {"peer": ("torch", "mobile_sam"), "coremltools": ("coremltools",), "onnxruntime": ("onnxruntime",)}
"""Marker -> packages that its tests import."""

VARIABLE = "REFSAM_TESTS_REQUIRE"


def missing() -> list[str]:
    """The markers whose packages are not installed."""
    return [marker for marker, names in NEEDS.items() if not all(importlib.util.find_spec(name) for name in names)]


def complaint(required: str, missing: Collection[str]) -> str:
    """Why a run that requires these (the variable's value) cannot be made; empty where it can."""
    asked = [name.strip() for name in required.split(",") if name.strip()]
    unknown = [name for name in asked if name not in NEEDS]
    if unknown:
        return f"{VARIABLE} names {', '.join(unknown)}; there are {', '.join(NEEDS)}"
    gone = [f"{name} ({' and '.join(NEEDS[name])})" for name in asked if name in missing]
    return f"{VARIABLE} requires what is not installed: {', '.join(gone)}; install it, or take it out" if gone else ""


def installed_by(extra: str, environment: Mapping[str, str] | None = None) -> list[str]:
    """The markers whose packages an extra of refsam installs on this platform, or on one with these values of pip's variables."""
    found = [Requirement(text) for text in requires("refsam") or []]
    of_extra = {r.name for r in found if r.marker is not None and r.marker.evaluate({**(environment or {}), "extra": extra})}
    return [marker for marker, names in NEEDS.items() if of_extra.issuperset(names)]


if __name__ == "__main__":
    sys.stdout.write(",".join(installed_by("test")))
