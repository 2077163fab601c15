"""The mistakes that ports really make, each as a change of the reference's pipeline.

A hypothesis is a small function from pipeline to pipeline; `diagnosis` looks which of them, alone or together, turn the
reference into the port.
"""

from refsam.errors import InputError
from refsam.verify.hypotheses import decoder, encoder, float16, postprocessing, preprocessing, prompts
from refsam.verify.hypothesis import AREAS, Hypothesis

_registered: dict[str, Hypothesis] = {}


def own() -> tuple[Hypothesis, ...]:
    """refsam's own, in the order in which ties are broken."""
    groups = (module.HYPOTHESES for module in (preprocessing, prompts, encoder, decoder, float16, postprocessing))
    return tuple(hypothesis for group in groups for hypothesis in group)


def register(hypothesis: Hypothesis) -> Hypothesis:
    """Add a hypothesis to those that every diagnosis tries. Raises InputError where the name is taken, or an area is none."""
    if hypothesis.name in {other.name for other in known()}:
        raise InputError(f"there is a hypothesis named {hypothesis.name!r} already; give it another name")
    if not hypothesis.areas or not {*hypothesis.areas} <= {*AREAS}:
        wanted = f"a tuple of some of {', '.join(AREAS)} is needed"
        raise InputError(f"the areas of {hypothesis.name!r} are {hypothesis.areas!r}; {wanted}")
    _registered[hypothesis.name] = hypothesis
    return hypothesis


def known() -> tuple[Hypothesis, ...]:
    """All hypotheses: refsam's own, then those that were registered, in order."""
    return (*own(), *_registered.values())
