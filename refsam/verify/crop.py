"""A corner of the image encoder's maps: enough to tell what was done to a weight, and much cheaper to compute than all of them.

Windows and convolutions look at their neighbours only, so a step computed on the upper left corner of its input is right but for
the last rows and columns of its result.
"""

from dataclasses import dataclass

import numpy as np

from refsam.config import Config
from refsam.types import Array
from refsam.verify.steps import Step

_ENOUGH = 24  # tokens on a side of a corner, at least; in whole windows
_EDGE = 2
"""Rows and columns at the right and lower edge of a result that miss neighbours: of two convolutions with a stride at most."""


@dataclass(frozen=True)
class Crop:
    """The corner of one step's maps.

    Attributes:
        before: tokens on a side of the whole input.
        taken: those that are kept.
        window: tokens on a side of a window of this step's attention; 0 where it has none.
    """

    before: int
    taken: int
    window: int = 0

    def of_input(self, x: Array) -> Array:
        """The step's input, a map (1, C, H, W) or tokens (1, N, C)."""
        return _cut(x, self.taken)

    def of_stage(self, x: Array) -> Array:
        """A stage within the step or its result: windows (n, w * w, C), a map, or tokens, at the input's resolution or a
        coarser one."""
        if self.window and x.ndim == 3 and x.shape[1] == self.window**2 and x.shape[0] > 1:
            across = -(-self.before // self.window)
            kept = self.taken // self.window
            return x.reshape(across, across, *x.shape[1:])[:kept, :kept].reshape(-1, *x.shape[1:])
        return _cut(x, self.taken * _side(x) // self.before)

    def inner(self, x: Array) -> Array:
        """What is right of a stage computed on the corner."""
        if self.window and x.ndim == 3 and x.shape[1] == self.window**2 and x.shape[0] > 1:
            return x
        return _cut(x, _side(x) - _EDGE)


def crop_of(step: Step, config: Config, x: Array) -> Crop | None:
    """The corner of this step's maps that is worth computing, given its input; None where all is little more."""
    side = _side(x)
    window = 0
    if ".blocks." in step.stage and not step.stage.startswith("image_encoder.layers.0."):
        window = config.window_sizes[int(step.stage.split(".")[2])]
    enough = 4 * _ENOUGH if step.after == "input_image" else _ENOUGH
    taken = -(-enough // window) * window if window else enough
    return Crop(side, taken, window) if 2 * taken <= side else None


def _side(x: Array) -> int:
    return x.shape[-1] if x.ndim == 4 else int(x.shape[1] ** 0.5 + 0.5)


def _cut(x: Array, side: int) -> Array:
    """The upper left corner of a map (1, C, H, W) or of tokens (1, N, C) in reading order."""
    if x.ndim == 4:
        return np.ascontiguousarray(x[..., :side, :side])
    grid = _side(x)
    return x.reshape(len(x), grid, grid, -1)[:, :side, :side].reshape(len(x), side * side, -1)
