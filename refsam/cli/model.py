"""The options that choose weights and how to compute with them, the same for every command that runs the model."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from refsam.loading import load
from refsam.model.sam import MobileSam


@Parameter(name="*")
@dataclass(frozen=True)
class ModelOptions:
    """Which model, and how it computes."""

    weights: Annotated[
        str | None, Parameter(help="A file, mobile_sam or demo (default: $REFSAM_WEIGHTS, else what there is).")
    ] = None
    backend: Annotated[str | None, Parameter(help="What computes; see refsam info.")] = None
    dtype: Annotated[Literal["float32", "float64"], Parameter(help="Of all computation.")] = "float32"
    threads: Annotated[int | None, Parameter(help="How many threads a backend may use.")] = None

    def load(self) -> MobileSam:
        """The model. Raises what `refsam.load` raises."""
        chosen: dict[str, Any] = {} if self.backend is None else {"backend": self.backend}
        return load(self.weights, dtype=self.dtype, threads=self.threads, **chosen)


def describe(model: MobileSam, options: ModelOptions) -> dict[str, Any]:
    """For `--json`: what computed."""
    return {
        "weights": model.metadata.get("weights_path", ""),
        "weights_sha256": model.weights_sha256,
        "backend": options.backend or "default",
        "dtype": options.dtype,
    }
