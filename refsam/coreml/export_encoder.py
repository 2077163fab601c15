"""The image encoder as a MIL program, beside `model/tiny_vit.py`: same functions, same order."""

import numpy as np

from refsam.config import Config
from refsam.coreml.export_layers import (
    Var,
    attend,
    constant,
    conv2d,
    conv_bn,
    emit,
    gelu,
    layer_norm,
    layer_norm_2d,
    linear,
    to_map,
    to_tokens,
)
from refsam.model.layers import grid_side
from refsam.ops.attention import attention_bias_index
from refsam.scope import Scope


def tiny_vit(s: Scope, x: Var, config: Config) -> Var:
    """(1, 3, S, S) -> (1, D, E, E)."""
    x = gelu(s / "patch_embed" / "seq" / 1, conv_bn(s / "patch_embed" / "seq" / 0, x, stride=2))
    x = conv_bn(s / "patch_embed" / "seq" / 2, x, stride=2)
    for block in range(config.depths[0]):
        x = mb_conv(s / "layers" / 0 / "blocks" / block, x)
    x = patch_merging(s / "layers" / 0 / "downsample", x, config.merge_stride(0))
    for layer in (1, 2, 3):
        x = basic_layer(s / "layers" / layer, x, layer, config)
    x = layer_norm_2d(s / "neck" / 1, conv2d(s / "neck" / 0, to_map(s / "neck", x, config.embedding_size)))
    return layer_norm_2d(s / "neck" / 3, conv2d(s / "neck" / 2, x, padding=1))


def mb_conv(s: Scope, x: Var) -> Var:
    """1x1, depthwise 3x3, 1x1; GELU after each, the last one after the residual sum."""
    y = gelu(s / "act1", conv_bn(s / "conv1", x))
    y = gelu(s / "act2", conv_bn(s / "conv2", y))
    return gelu(s / "act3", emit(s, "add", "sum", x=conv_bn(s / "conv3", y), y=x))


def patch_merging(s: Scope, x: Var, stride: int) -> Var:
    """1x1, depthwise 3x3 with the stride, 1x1; the result as tokens."""
    x = gelu(s / "conv1", conv_bn(s / "conv1", x), "act")
    x = gelu(s / "conv2", conv_bn(s / "conv2", x, stride), "act")
    return to_tokens(s, conv_bn(s / "conv3", x))


def basic_layer(s: Scope, x: Var, layer: int, config: Config) -> Var:
    """Transformer blocks, then patch merging except in the last layer."""
    side = grid_side(x.shape[1])
    for block in range(config.depths[layer]):
        x = tiny_vit_block(s / "blocks" / block, x, side, config.num_heads[layer], config.window_sizes[layer])
    if layer < 3:
        x = patch_merging(s / "downsample", to_map(s / "downsample", x, side), config.merge_stride(layer))
    return x


def tiny_vit_block(s: Scope, x: Var, side: int, num_heads: int, window_size: int) -> Var:
    """Window attention, depthwise 3x3, MLP; the convolution has no residual."""
    windows = window_partition(s / "attn", x, side, window_size)
    windows = attention(s / "attn", windows, num_heads, window_size)
    x = emit(s, "add", "attn_sum", x=x, y=window_reverse(s / "attn", windows, side, window_size))
    x = to_tokens(s / "local_conv", conv_bn(s / "local_conv", to_map(s / "local_conv", x, side)))
    y = gelu(s / "mlp" / "act", linear(s / "mlp" / "fc1", layer_norm(s / "mlp" / "norm", x)))
    return emit(s, "add", x=x, y=linear(s / "mlp" / "fc2", y))


def attention(s: Scope, x: Var, num_heads: int, window_size: int) -> Var:
    """LayerNorm, then attention with a learned bias for each relative position, which the program has spread out."""
    windows, tokens, width = x.shape
    qkv = linear(s / "qkv", layer_norm(s / "norm", x))
    by_head = emit(s, "reshape", "qkv_heads", x=qkv, shape=[windows, tokens, num_heads, 3 * width // num_heads])
    q, k, v = emit(s, "split", "split", x=by_head, num_splits=3, axis=3)
    bias = s["attention_biases"][:, attention_bias_index(window_size)]
    return linear(s / "proj", attend(s, q, k, v, constant(s, "ab", bias)))


def window_partition(s: Scope, x: Var, side: int, size: int) -> Var:
    """`ops.window_partition`; columns and channels of a row stay one axis, so that no tensor has more than four."""
    across, channels = -(-side // size), x.shape[2]
    x = emit(s, "reshape", "grid", x=x, shape=[1, side, side, channels])
    missing = across * size - side
    if missing:
        x = emit(s, "pad", "padded", x=x, pad=[0, missing, 0, missing, 0, 0], mode="constant", constant_val=np.float32(0))
    x = emit(s, "reshape", "rows", x=x, shape=[across, size, across, size * channels])
    x = emit(s, "transpose", "window_rows", x=x, perm=[0, 2, 1, 3])
    return emit(s, "reshape", "windows", x=x, shape=[across * across, size * size, channels])


def window_reverse(s: Scope, x: Var, side: int, size: int) -> Var:
    """`ops.window_reverse`, as tokens."""
    across, channels = -(-side // size), x.shape[2]
    x = emit(s, "reshape", "unwindowed_rows", x=x, shape=[across, across, size, size * channels])
    x = emit(s, "transpose", "unwindowed", x=x, perm=[0, 2, 1, 3])
    x = emit(s, "reshape", "unwindowed_grid", x=x, shape=[1, across * size, across * size, channels])
    if across * size > side:
        x = emit(s, "slice_by_index", "cut", x=x, begin=[0, 0, 0, 0], end=[1, side, side, channels])
    return emit(s, "reshape", "unwindowed_tokens", x=x, shape=[1, side * side, channels])
