"""Core ML itself in the place of refsam's interpreter, on a Mac, through coremltools."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from refsam.coreml.export import coremltools_module
from refsam.coreml.mil import load
from refsam.coreml.spec import Model
from refsam.coreml.types import Feature
from refsam.errors import BackendUnavailable
from refsam.types import Array

Units: TypeAlias = Literal["ALL", "CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE"]
"""What may compute: Core ML's own names."""


class NativeProgram:
    """A package that Core ML runs. It was never run by refsam's tests, which have no Mac: they run it with a double.

    Args:
        path: an .mlpackage.
        units: what may compute; Core ML decides in the end, and does not say.

    Raises BackendUnavailable elsewhere than on a Mac, or without coremltools; PackageError where the package is damaged.
    """

    def __init__(self, path: Path, units: Units = "ALL") -> None:
        if sys.platform != "darwin":
            raise BackendUnavailable("Core ML itself runs on a Mac only; without --native refsam's interpreter runs the packages")
        ct = coremltools_module()
        self._description: Model = load(path).model  # it has the order of inputs and outputs
        self._model: Any = ct.models.MLModel(str(path), compute_units=ct.ComputeUnit[units])

    @property
    def inputs(self) -> tuple[Feature, ...]:
        """In the order of the conversion."""
        return self._description.inputs

    @property
    def outputs(self) -> tuple[Feature, ...]:
        """In the order of the conversion."""
        return self._description.outputs

    def run(self, inputs: Mapping[str, Array], precision: str | None = None) -> dict[str, Array]:  # noqa: ARG002 - Core ML's choice
        """Predict. Whatever the package says of precision, Core ML may compute in a higher one."""
        return {name: np.asarray(value) for name, value in self._model.predict(dict(inputs)).items()}
