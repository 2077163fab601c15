"""refsam itself as a port: any of its backends, or a model that was opened already."""

from collections.abc import Collection, Mapping

from refsam import backends
from refsam.model.sam import MobileSam
from refsam.tracing import Trace
from refsam.types import Array
from refsam.verify.ports.port import only
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


def open_backend(
    words: tuple[str, ...], *, model: MobileSam, precision: str | None = None, threads: int | None = None
) -> ModelPort:  # fmt: skip
    """The backend of this name on the reference's weights.

    Raises InputError for an unknown name, BackendUnavailable where something is not installed.
    """
    name = only(words, "backend")
    port = MobileSam(model.scope.weights, model.config, backends.create(name, threads), "float32", model.metadata)
    return ModelPort(port, f"refsam's backend {name}", precision or "float32")
