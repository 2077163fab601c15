"""What stands before and after the packages in a check: the reference, refsam's Metal kernels, or the app's."""

from collections.abc import Callable
from typing import Literal, TypeAlias

from refsam.coreml.app_postprocessing import mask_of, mask_values
from refsam.coreml.app_preprocessing import preprocess
from refsam.coreml.app_switches import BINARY, REFERENCE, SOURCE, Switches
from refsam.metal import calls
from refsam.metal.device import open_device
from refsam.metal.runner import Runner
from refsam.transforms import resized_size
from refsam.types import Array, Bool, Float, Size, UInt8

Way: TypeAlias = Literal["kernel", "reference", "binary", "source"]
"""kernels/*.metal; NumPy; the app as it ships; the app as its sources read."""

Before: TypeAlias = Callable[[UInt8[Array, "H W 3"], int], Float[Array, "1 3 S S"]]
"""(picture, S) -> the encoder's input."""

After: TypeAlias = Callable[[Float[Array, "L L"], Size, int], Bool[Array, "H W"]]
"""(logits, the picture's size, S) -> mask."""

_SWITCHES: dict[Way, Switches] = {"reference": REFERENCE, "binary": BINARY, "source": SOURCE}


def around(first: Way, last: Way, device: str) -> tuple[Before, After]:
    """The preprocessing and the postprocessing of these names; one `device` runs the kernels of both.

    Raises BackendUnavailable where it is needed and not there.
    """
    if "kernel" not in (first, last):
        return _before(first), _after(last)
    runner = Runner(open_device(device))
    return _before(first, runner), _after(last, runner)


def _before(way: Way, runner: Runner | None = None) -> Before:
    if way == "kernel" and runner is not None:
        return lambda image, side: calls.preprocess(runner, image, resized_size((image.shape[0], image.shape[1]), side), side)
    return lambda image, side: preprocess(image, side, _SWITCHES[way])


def _after(way: Way, runner: Runner | None = None) -> After:
    if way == "kernel" and runner is not None:
        return lambda logits, size, side: _upsampled(runner, logits, size, side)
    switches = _SWITCHES[way]
    return lambda logits, size, side: mask_of(mask_values(logits, size, side, switches), switches)


def _upsampled(runner: Runner, logits: Float[Array, "L L"], size: Size, side: int) -> Bool[Array, "H W"]:
    """Two resizes as in the reference: to S with the padding cut off, then to the picture, as a mask."""
    whole = calls.bilinear(runner, logits[None], (side, side), resized_size(size, side))
    mask: Bool[Array, "H W"] = calls.bilinear(runner, whole, size, size, threshold=0.0)[0] > 0
    return mask
