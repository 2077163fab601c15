"""The mistakes that ports really make, each as a change of the reference's pipeline.

A hypothesis is a small function from pipeline to pipeline; `diagnosis` looks which of them, alone or together, turn the
reference into the port.
"""

from refsam.verify.hypotheses import decoder, encoder, postprocessing, preprocessing, prompts
from refsam.verify.hypothesis import Hypothesis, registered


def known() -> tuple[Hypothesis, ...]:
    """All hypotheses: refsam's own, in the order in which ties are broken, then those that were registered."""
    own = (module.HYPOTHESES for module in (preprocessing, prompts, encoder, decoder, postprocessing))
    return (*(hypothesis for group in own for hypothesis in group), *registered())
