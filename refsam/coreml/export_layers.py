"""The leaf modules as operations of a MIL program, beside `model/layers.py`: same names, same order, another machine.

An operation is named as the stage that it computes, without the part's own name ("layers_1_blocks_0_attn_qkv"), and a weight as
the tensor it is made of; these are the names that a conversion from torch gives, so tools that know one know the other.
"""

from functools import cache
from typing import Any, TypeAlias

import numpy as np

from refsam.errors import BackendUnavailable
from refsam.scope import Scope
from refsam.types import Array, Float

Var: TypeAlias = Any
"""A value of the program that is being built (`coremltools.converters.mil.mil.Var`)."""


@cache
def coremltools() -> Any:
    """The module. Raises BackendUnavailable where it is not installed."""
    try:
        import coremltools
    except ImportError:
        raise BackendUnavailable(
            "coremltools is not installed, and it writes the packages (nothing else needs it); try: pip install 'refsam[coreml]'"
        ) from None
    return coremltools


@cache
def builder() -> Any:
    """coremltools' MIL builder: each call appends an operation to the function that is open."""
    coremltools()
    from coremltools.converters.mil import Builder

    return Builder


def identifier(s: Scope, suffix: str = "") -> str:
    """This place's name in a program: dots become underscores, and the part ("image_encoder") is left out."""
    words = [*s.name.split(".")[1:], *([suffix] if suffix else [])]
    return "_".join(words)


def emit(s: Scope, kind: str, suffix: str = "", **inputs: Any) -> Var:
    """Append the operation `kind`, named after this place."""
    return getattr(builder(), kind)(**inputs, name=identifier(s, suffix) or kind)


def constant(s: Scope, suffix: str, value: Array) -> Var:
    """A float32 constant, named after this place."""
    return emit(s, "const", suffix, val=np.ascontiguousarray(value, np.float32))


def weight(s: Scope, tensor: str) -> Var:
    """A tensor of the checkpoint, unchanged."""
    return constant(s, tensor, s[tensor])


def linear(s: Scope, x: Var) -> Var:
    """`layers.linear`."""
    return emit(s, "linear", x=x, weight=weight(s, "weight"), bias=weight(s, "bias"))


def conv2d(s: Scope, x: Var, padding: int = 0) -> Var:
    """`layers.conv2d` of stride 1 without bias, as the neck has it."""
    return emit(s, "conv", x=x, weight=weight(s, "weight"), pad_type="custom", pad=[padding] * 4)


def conv_bn(s: Scope, x: Var, stride: int = 1) -> Var:
    """`layers.conv_bn`, or `depthwise_conv_bn` where the kernel has one input channel, BatchNorm folded into the kernel.

    A kernel of side 3 is padded by 1, as everywhere in TinyViT.
    """
    kernel, bias = fold_batch_norm(s)
    size, groups = kernel.shape[-1], x.shape[1] // kernel.shape[1]
    return emit(
        s, "conv", x=x, weight=constant(s, "c_weight", kernel), bias=constant(s, "c_bias", bias), strides=[stride, stride],
        pad_type="custom", pad=[size // 2] * 4, groups=groups,
    )  # fmt: skip


def fold_batch_norm(s: Scope) -> tuple[Float[Array, "D C k k"], Float[Array, " D"]]:
    """Kernel and bias of the convolution that equals `c` then `bn`, computed in float64."""
    kernel, bn = s["c.weight"].astype(np.float64), s / "bn"
    variance = bn["running_var"].astype(np.float64)
    scale = bn["weight"] / np.sqrt(variance + 1e-5)
    return kernel * scale[:, None, None, None], bn["bias"] - bn["running_mean"] * scale


def conv_transpose2d(s: Scope, x: Var) -> Var:
    """`layers.conv_transpose2d`."""
    return emit(s, "conv_transpose", x=x, weight=weight(s, "weight"), bias=weight(s, "bias"), strides=[2, 2], pad_type="valid")


def layer_norm(s: Scope, x: Var) -> Var:
    """`layers.layer_norm`."""
    return emit(
        s, "layer_norm", x=x, axes=[-1], gamma=weight(s, "weight"), beta=weight(s, "bias"), epsilon=np.float32(1e-5)
    )  # fmt: skip


def layer_norm_2d(s: Scope, x: Var) -> Var:
    """`layers.layer_norm_2d` as one layer_norm over the channels, moved last and back.

    Differs from a conversion of upstream's torch code, which goes step by step. In float16 the square there is infinite where a
    value is more than 255.9 from the mean, and the pixel becomes the bias. And coremltools makes a batch_norm of gamma * x + beta
    whose own epsilon of 1e-5 is left in, which scales the result by 1 - 5e-6.
    """
    last = emit(s, "transpose", "channels_last", x=x, perm=[0, 2, 3, 1])
    normed = emit(
        s, "layer_norm", "normed", x=last, axes=[-1], gamma=weight(s, "weight"), beta=weight(s, "bias"), epsilon=np.float32(1e-6)
    )
    return emit(s, "transpose", x=normed, perm=[0, 3, 1, 2])


def gelu(s: Scope, x: Var, suffix: str = "") -> Var:
    """`layers.gelu`."""
    return emit(s, "gelu", suffix, x=x, mode="EXACT")


def mlp(s: Scope, x: Var, depth: int) -> Var:
    """`layers.mlp`."""
    for layer in range(depth - 1):
        x = emit(s / "layers" / layer, "relu", "relu", x=linear(s / "layers" / layer, x))
    return linear(s / "layers" / (depth - 1), x)


def to_map(s: Scope, x: Var, side: int) -> Var:
    """`layers.to_map` of a batch of one."""
    channels_first = emit(s, "transpose", "to_map_channels", x=x, perm=[0, 2, 1])
    return emit(s, "reshape", "to_map", x=channels_first, shape=[1, -1, side, side])


def to_tokens(s: Scope, x: Var) -> Var:
    """`layers.to_tokens` of a batch of one."""
    flat = emit(s, "reshape", "to_tokens_flat", x=x, shape=[1, x.shape[1], -1])
    return emit(s, "transpose", "to_tokens", x=flat, perm=[0, 2, 1])


def attend(s: Scope, q: Var, k: Var, v: Var, bias: Var | None = None) -> Var:
    """`ops.attention`: (B, N, K, c) each in, tokens of all heads side by side out."""
    q, k, v = (emit(s, "transpose", f"{name}_heads", x=x, perm=[0, 2, 1, 3]) for name, x in (("q", q), ("k", k), ("v", v)))
    heads, width = v.shape[1], v.shape[3]
    product = emit(s, "matmul", "product", x=q, y=k, transpose_y=True)
    scores = emit(s, "mul", "scores", x=product, y=np.float32(q.shape[3] ** -0.5))
    if bias is not None:
        scores = emit(s, "add", "scores_bias", x=scores, y=bias)
    weights = emit(s, "softmax", "softmax", x=scores, axis=-1)
    summed = emit(s, "transpose", "merged", x=emit(s, "matmul", "weighted", x=weights, y=v), perm=[0, 2, 1, 3])
    return emit(s, "reshape", "merged_flat", x=summed, shape=[summed.shape[0], -1, heads * width])
