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


def before(way: Way, device: str) -> Before:
    """The preprocessing of this name; `device` runs kernels. Raises BackendUnavailable where it is not there."""
    if way != "kernel":
        return lambda image, side: preprocess(image, side, _SWITCHES[way])
    runner = Runner(open_device(device))
    return lambda image, side: calls.preprocess(runner, image, resized_size((image.shape[0], image.shape[1]), side), side)


def after(way: Way, device: str) -> After:
    """The postprocessing of this name; `device` runs kernels. Raises BackendUnavailable where it is not there."""
    if way != "kernel":
        switches = _SWITCHES[way]
        return lambda logits, size, side: mask_of(mask_values(logits, size, side, switches), switches)
    runner = Runner(open_device(device))
    return lambda logits, size, side: _upsampled(runner, logits, size, side)


def _upsampled(runner: Runner, logits: Float[Array, "L L"], size: Size, side: int) -> Bool[Array, "H W"]:
    """Two resizes as in the reference: to S with the padding cut off, then to the picture, as a mask."""
    whole = calls.bilinear(runner, logits[None], (side, side), resized_size(size, side))
    mask: Bool[Array, "H W"] = calls.bilinear(runner, whole, size, size, threshold=0.0)[0] > 0
    return mask
