"""Convolutions over the last two axes, as matrix products and shifted sums. Kernels are not flipped (cross-correlation)."""

import numpy as np

from refsam.types import Array, Float


def conv2d(
    x: Float[Array, "B C H W"],
    weight: Float[Array, "D C k k"],
    bias: Float[Array, " D"] | None = None,
    stride: int = 1,
    padding: int = 0,
) -> Float[Array, "B D Ho Wo"]:
    """Dense convolution: every k x k patch becomes a column, and one matrix product does the rest.  Upstream: torch.nn.Conv2d."""
    size = weight.shape[-1]
    padded = _pad(x, padding)
    patches = padded[..., ::stride, ::stride] if size == 1 else _patches(padded, size, stride)
    height, width = patches.shape[-2:]
    columns = patches.reshape(len(x), weight[0].size, height * width)
    y = (weight.reshape(len(weight), -1) @ columns).reshape(len(x), len(weight), height, width)
    return y if bias is None else y + bias[:, None, None]


def depthwise_conv2d(x: Float[Array, "B C H W"], weight: Float[Array, "C 1 3 3"], stride: int = 1) -> Float[Array, "B C Ho Wo"]:
    """3x3 convolution of each channel with its own kernel, zero padding 1: nine shifted products.

    Upstream: torch.nn.Conv2d(groups=C, padding=1, bias=False).
    """
    height, width = ((n - 1) // stride + 1 for n in x.shape[-2:])
    padded = _pad(x, 1)
    y = np.zeros((*x.shape[:2], height, width), x.dtype)
    for dy in range(3):
        for dx in range(3):
            shifted = padded[..., dy : dy + stride * height : stride, dx : dx + stride * width : stride]
            y += shifted[..., :height, :width] * weight[:, 0, dy, dx, None, None]
    return y


def conv_transpose2d(
    x: Float[Array, "B C H W"], weight: Float[Array, "C D 2 2"], bias: Float[Array, " D"]
) -> Float[Array, "B D 2*H 2*W"]:
    """Each pixel becomes a 2x2 patch of its own (stride 2: patches do not overlap).  Upstream: torch.nn.ConvTranspose2d."""
    batch, channels, height, width = x.shape
    outputs = weight.shape[1]
    patches = weight.reshape(channels, -1).T @ x.reshape(batch, channels, height * width)  # (B, D*2*2, H*W)
    patches = patches.reshape(batch, outputs, 2, 2, height, width).transpose(0, 1, 4, 2, 5, 3)
    return patches.reshape(batch, outputs, 2 * height, 2 * width) + bias[:, None, None]


def _pad(x: Float[Array, "B C H W"], padding: int) -> Float[Array, "B C Hp Wp"]:
    return np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding))) if padding else x


def _patches(x: Float[Array, "B C H W"], size: int, stride: int) -> Float[Array, "B C k k Ho Wo"]:
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(2, 3))[:, :, ::stride, ::stride]
    return windows.transpose(0, 1, 4, 5, 2, 3)
