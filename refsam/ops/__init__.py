"""The definition of every operation of the model, on plain arrays of any float dtype, and nothing that the model does not use.

Read in this order: linear, conv, norm, activation, attention, window, resize.
"""

from collections.abc import Callable
from typing import Any

from refsam.ops.activation import gelu, relu
from refsam.ops.attention import attention
from refsam.ops.conv import conv2d, conv_transpose2d, depthwise_conv2d
from refsam.ops.linear import linear
from refsam.ops.norm import batch_norm, layer_norm, layer_norm_2d


class Ops:
    """The operations as one object: a backend is a subclass that overrides those it does better, with the same signatures.

    It may also replace whole model functions, which is where fusing pays.
    """

    linear = staticmethod(linear)
    conv2d = staticmethod(conv2d)
    depthwise_conv2d = staticmethod(depthwise_conv2d)
    conv_transpose2d = staticmethod(conv_transpose2d)
    layer_norm = staticmethod(layer_norm)
    layer_norm_2d = staticmethod(layer_norm_2d)
    batch_norm = staticmethod(batch_norm)
    gelu = staticmethod(gelu)
    relu = staticmethod(relu)
    attention = staticmethod(attention)

    def replacement(self, name: str) -> Callable[..., Any] | None:  # noqa: ARG002 - the definition replaces nothing
        """What computes the model function of this name ("tiny_vit.mb_conv") in float32 in its place, with its arguments."""
        return None
