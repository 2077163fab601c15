"""Normalisations. All of them divide by sqrt(variance + eps) with the biased variance (division by N)."""

import numpy as np

from refsam.types import Array, Float


def layer_norm(
    x: Float[Array, "*N C"], weight: Float[Array, " C"], bias: Float[Array, " C"], eps: float = 1e-5
) -> Float[Array, "*N C"]:
    """Each token over its channels.  Upstream: torch.nn.LayerNorm."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = np.mean(centred * centred, axis=-1, keepdims=True)
    return centred / np.sqrt(variance + eps) * weight + bias


def layer_norm_2d(
    x: Float[Array, "B C H W"], weight: Float[Array, " C"], bias: Float[Array, " C"], eps: float = 1e-6
) -> Float[Array, "B C H W"]:
    """Each pixel over its channels.  Upstream: common.py LayerNorm2d; its eps is not that of `layer_norm`."""
    centred = x - x.mean(axis=1, keepdims=True)
    variance = np.mean(centred * centred, axis=1, keepdims=True)
    return centred / np.sqrt(variance + eps) * weight[:, None, None] + bias[:, None, None]


def batch_norm(
    x: Float[Array, "B C H W"],
    mean: Float[Array, " C"],
    variance: Float[Array, " C"],
    weight: Float[Array, " C"],
    bias: Float[Array, " C"],
    eps: float = 1e-5,
) -> Float[Array, "B C H W"]:
    """Each channel by the statistics of training, so one product and one sum.  Upstream: torch.nn.BatchNorm2d.eval()."""
    scale = weight / np.sqrt(variance + eps)
    shift = bias - mean * scale
    return x * scale[:, None, None] + shift[:, None, None]
