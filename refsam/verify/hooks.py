"""A scope that does more at each stage than record it: rounds it, shows it, and lets a port's own value take its place."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from refsam.model.sam import MobileSam
from refsam.scope import Scope
from refsam.types import Array

Rounding = Callable[[Array], Array]


@dataclass(frozen=True)
class HookedScope(Scope):
    """A scope whose stages pass through hooks, in this order.

    Attributes:
        values: rounds a stage: sums that model functions make themselves reach memory there.
        seen: called with each stage's name and value.
        forced: stage name -> a port's array in the stage's shape, with which the run goes on in place of its own.
        replaced: whether model functions may be replaced as a whole by the operations (`Ops.replacement`); what replaces them
            then has to have the stages that are wanted.
    """

    values: Rounding | None = None
    seen: Callable[[str, Array], None] | None = None
    forced: Mapping[str, Array] | None = None
    replaced: bool = False

    def tap(self, x: Array) -> Array:
        """Pass `x` through the hooks, record it, and hand on what comes out."""
        if self.values is not None:
            x = self.values(x)
        if self.seen is not None:
            self.seen(self.name, x)
        if self.forced is not None and self.name in self.forced:
            x = self.forced[self.name].astype(x.dtype)
        return super().tap(x)

    @property
    def is_traced_inside(self) -> bool:
        """Every stage has a hook, so a function is not replaced by one that may have no stages."""
        return not self.replaced


def hooked(model: MobileSam, **hooks: Any) -> MobileSam:
    """The same model (sharing its weights) with these hooks in place of its own of the same name (see `HookedScope`)."""
    kept = {field.name: getattr(model.scope, field.name) for field in fields(model.scope)}
    return model.with_scope(HookedScope(**{**kept, **hooks}))
