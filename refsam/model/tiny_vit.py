"""The image encoder: TinyViT with SAM's neck.

Picture (3, S, S) -> patch embedding (S/4) -> one layer of convolutions -> three layers of windowed attention (S/8, S/16, S/16)
-> neck -> image embedding (D, S/16, S/16). Sizes below are MobileSAM's, S = 1024.
Upstream: tiny_vit_sam.py.  Papers: TinyViT arXiv 2207.10666, MobileSAM arXiv 2306.14289.
"""

from refsam.config import Config
from refsam.model.layers import (
    conv2d,
    conv_bn,
    depthwise_conv_bn,
    gelu,
    grid_side,
    layer_norm,
    layer_norm_2d,
    linear,
    to_map,
    to_tokens,
)
from refsam.ops.attention import attention_bias_index, merge_heads, split_heads
from refsam.ops.window import window_partition, window_reverse
from refsam.scope import Scope, replaceable
from refsam.types import Array, Float


@replaceable
def tiny_vit(s: Scope, x: Float[Array, "B 3 S S"], config: Config) -> Float[Array, "B D E E"]:
    """From the normalised and padded picture to its embedding.  Upstream: TinyViT.forward_features."""
    x = patch_embed(s / "patch_embed", x)
    x = conv_layer(s / "layers" / 0, x, config)
    for layer in (1, 2, 3):
        x = basic_layer(s / "layers" / layer, x, layer, config)
    return s.tap(neck(s / "neck", to_map(x)))


@replaceable
def patch_embed(s: Scope, x: Float[Array, "B 3 S S"]) -> Float[Array, "B C S/4 S/4"]:
    """Two 3x3 convolutions of stride 2, a GELU between them and none after.  (3, 1024, 1024) -> (64, 256, 256).

    Upstream: PatchEmbed.
    """
    x = gelu(s / "seq" / 1, conv_bn(s / "seq" / 0, x, stride=2, padding=1))
    return s.tap((s / "seq").tap(conv_bn(s / "seq" / 2, x, stride=2, padding=1)))


@replaceable
def conv_layer(s: Scope, x: Float[Array, "B C H W"], config: Config) -> Float[Array, "B N D"]:
    """Inverted bottlenecks, then patch merging.  (64, 256, 256) -> (16384, 128).  Upstream: ConvLayer."""
    for block in range(config.depths[0]):
        x = mb_conv(s / "blocks" / block, x)
    return s.tap(patch_merging(s / "downsample", x, config.merge_stride(0)))


@replaceable
def mb_conv(s: Scope, x: Float[Array, "B C H W"]) -> Float[Array, "B C H W"]:
    """1x1 to four times the width, depthwise 3x3, 1x1 back; GELU after each, the last one after the residual sum.

    Upstream: MBConv.
    """
    y = gelu(s / "act1", conv_bn(s / "conv1", x))
    y = gelu(s / "act2", depthwise_conv_bn(s / "conv2", y))
    return s.tap(gelu(s / "act3", conv_bn(s / "conv3", y) + x))


@replaceable
def patch_merging(s: Scope, x: Float[Array, "B C H W"], stride: int) -> Float[Array, "B N D"]:
    """1x1, depthwise 3x3 with the stride, 1x1; the result as tokens in reading order.

    The stride is 1 before the last layer, so that the embedding stays at S/16 (see Config.merge_stride).
    Upstream: PatchMerging; its `act` runs twice, so it is no stage.
    """
    x = s.ops.gelu(conv_bn(s / "conv1", x))
    x = s.ops.gelu(depthwise_conv_bn(s / "conv2", x, stride))
    return s.tap(to_tokens(conv_bn(s / "conv3", x)))


@replaceable
def basic_layer(s: Scope, x: Float[Array, "B N C"], layer: int, config: Config) -> Float[Array, "B T D"]:
    """Transformer blocks, then patch merging except in the last layer.  Upstream: BasicLayer."""
    for block in range(config.depths[layer]):
        x = tiny_vit_block(s / "blocks" / block, x, config.num_heads[layer], config.window_sizes[layer])
    if layer < 3:
        x = patch_merging(s / "downsample", to_map(x), config.merge_stride(layer))
    return s.tap(x)


@replaceable
def tiny_vit_block(s: Scope, x: Float[Array, "B N C"], num_heads: int, window_size: int) -> Float[Array, "B N C"]:
    """Window attention, depthwise 3x3, MLP; the convolution has no residual.  Upstream: TinyViTBlock."""
    x = x + windowed_attention(s / "attn", x, num_heads, window_size)
    x = to_tokens(depthwise_conv_bn(s / "local_conv", to_map(x)))
    return s.tap(x + transformer_mlp(s / "mlp", x))


def windowed_attention(s: Scope, x: Float[Array, "B N C"], num_heads: int, window_size: int) -> Float[Array, "B N C"]:
    """Attention within windows. A grid that windows do not divide is padded with zeros *before* the LayerNorm in `attention`,
    which turns them into its bias: padding tokens are attended like others.  Upstream: TinyViTBlock.forward.
    """
    batch, tokens, width = x.shape
    side = grid_side(tokens)
    windows = window_partition(x.reshape(batch, side, side, width), window_size)
    windows = attention(s, windows, num_heads, window_size)
    return window_reverse(windows, window_size, side, side).reshape(batch, tokens, width)


def attention(s: Scope, x: Float[Array, "B N C"], num_heads: int, window_size: int) -> Float[Array, "B N C"]:
    """Multi-head attention with a learned bias for each relative position; it begins with a LayerNorm.  Upstream: Attention.

    The rows of `qkv` are laid out head by head: (q, k, v) of the first head, (q, k, v) of the second ...
    """
    qkv = split_heads(linear(s / "qkv", layer_norm(s / "norm", x)), num_heads)
    width = qkv.shape[-1] // 3
    q, k, v = qkv[..., :width], qkv[..., width : 2 * width], qkv[..., 2 * width :]
    bias = s["attention_biases"][:, attention_bias_index(window_size)]
    return s.tap(linear(s / "proj", merge_heads(s.ops.attention(q, k, v, bias))))


def transformer_mlp(s: Scope, x: Float[Array, "B N C"]) -> Float[Array, "B N C"]:
    """LayerNorm, widen four times, GELU, narrow.  Upstream: Mlp."""
    x = gelu(s / "act", linear(s / "fc1", layer_norm(s / "norm", x)))
    return s.tap(linear(s / "fc2", x))


@replaceable
def neck(s: Scope, x: Float[Array, "B C E E"]) -> Float[Array, "B D E E"]:
    """1x1 and 3x3 convolutions, each with a LayerNorm over channels.  (320, 64, 64) -> (256, 64, 64).  Upstream: TinyViT.neck."""
    x = layer_norm_2d(s / 1, conv2d(s / 0, x))
    return s.tap(layer_norm_2d(s / 3, conv2d(s / 2, x, padding=1)))
