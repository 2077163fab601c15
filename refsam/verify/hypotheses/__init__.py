"""The mistakes that ports really make, each as a change of the reference's pipeline.

A hypothesis is a small function from pipeline to pipeline; `diagnosis` looks which of them, alone or together, turn the
reference into the port.
"""

from refsam.verify.hypotheses import decoder, encoder, float16, postprocessing, preprocessing, prompts
from refsam.verify.hypothesis import Hypothesis, registered


def own() -> tuple[Hypothesis, ...]:
    """refsam's own, in the order in which ties are broken."""
    groups = (module.HYPOTHESES for module in (preprocessing, prompts, encoder, decoder, float16, postprocessing))
    return tuple(hypothesis for group in groups for hypothesis in group)


def known() -> tuple[Hypothesis, ...]:
    """All hypotheses: refsam's own, then those that were registered."""
    return (*own(), *registered())
