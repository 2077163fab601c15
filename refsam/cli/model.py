"""The options that choose weights and how to compute with them, the same for every command that runs the model."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from refsam.errors import InputError
from refsam.loading import DEFAULT_BACKEND, WEIGHTS_VARIABLE, load
from refsam.model.sam import MobileSam
from refsam.weights_store import locate


@Parameter(name="*")
@dataclass(frozen=True)
class ModelOptions:
    """Which model, and how it computes."""

    weights: Annotated[
        str | None, Parameter(help="A file, mobile_sam or demo (default: $REFSAM_WEIGHTS, else what there is).")
    ] = None
    backend: Annotated[str, Parameter(help="What computes; see refsam info.")] = DEFAULT_BACKEND
    dtype: Annotated[Literal["float32", "float64"], Parameter(help="Of all computation.")] = "float32"
    threads: Annotated[
        int | None, Parameter(help="How many threads compute (default: $REFSAM_THREADS, else the CPUs that there are).")
    ] = None

    def inputs(self) -> list[Path]:
        """The weights file, where one is named: no output may replace it. Raises CheckpointError where it has to be fetched."""
        chosen = self.weights or os.environ.get(WEIGHTS_VARIABLE)
        return [locate(chosen)] if chosen else []

    def load(self, named: bool = False) -> MobileSam:
        """The model. Raises what `refsam.load` raises, and InputError where weights have to be `named` and are not."""
        if named:
            self.check_named()
        return load(self.weights, backend=self.backend, dtype=self.dtype, threads=self.threads)

    def check_named(self) -> None:
        """Raises InputError where no weights are named."""
        if not (self.weights or os.environ.get(WEIGHTS_VARIABLE)):
            raise InputError(
                "ports are judged by these weights, so they have to be named: --weights FILE, mobile_sam or demo"
                f" (or ${WEIGHTS_VARIABLE})"
            )


def describe(model: MobileSam, options: ModelOptions) -> dict[str, Any]:
    """For `--json`: what computed."""
    return {
        "weights": model.metadata.get("weights_path", ""),
        "weights_sha256": model.weights_sha256,
        "backend": options.backend,
        "dtype": options.dtype,
    }
