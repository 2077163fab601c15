"""refsam itself as a port: any of its backends, or a model that was opened already."""

from collections.abc import Collection, Mapping
from typing import Any

from refsam import backends
from refsam.model.sam import MobileSam
from refsam.tracing import Trace
from refsam.types import Array
from refsam.verify.reference import Case


class _Unintrusive(Trace):
    """A trace that does not make a backend fall back to the definition for the sake of a stage: that would verify nothing."""

    def may_want_below(self, name: str) -> bool:  # noqa: ARG002 - whatever it is
        return False


class ModelPort:
    """A `MobileSam` as a port. It shows the stages that its backend has; what the backend computes as a whole has none inside.

    Args:
        model: any, of any backend.
        name: for people.
        precision: what it computes in.
    """

    def __init__(self, model: MobileSam, name: str = "refsam", precision: str = "float32") -> None:
        self.model, self.name, self.precision = model, name, precision
        self.notes: tuple[str, ...] = ()

    def run(self, case: Case, stages: Collection[str]) -> Mapping[str, Array]:
        """Predict, and keep the stages."""
        return case.run(self.model, _Unintrusive(",".join(stages)))


def open_backend(spec: Any, *, model: MobileSam, precision: str | None = None, threads: int | None = None) -> ModelPort:
    """The backend of this name on the reference's weights, or a model as it is.

    Raises InputError for an unknown name, BackendUnavailable where something is not installed.
    """
    if isinstance(spec, MobileSam):
        return ModelPort(spec, precision=precision or "float32")
    ops = backends.create(spec, threads)
    port = MobileSam(model.scope.weights, model.config, ops, "float32", model.metadata)
    return ModelPort(port, f"refsam's backend {spec}", precision or "float32")
