"""What ports get wrong in the graph of the image encoder, and in the weights of both parts."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from refsam.model import tiny_vit
from refsam.model.layers import conv_bn, depthwise_conv_bn, grid_side, layer_norm, linear, to_map, to_tokens
from refsam.ops import Ops
from refsam.ops.activation import softmax
from refsam.ops.attention import attention_bias_index, merge_heads, split_heads
from refsam.ops.window import window_partition, window_reverse
from refsam.scope import Scope
from refsam.transforms import PIXEL_MEAN, PIXEL_STD
from refsam.types import Array
from refsam.verify.hooks import Rounding
from refsam.verify.hypothesis import Area, Hypothesis
from refsam.verify.pipeline import Pipeline, as_it_is, definition
from refsam.verify.precision import PRECISIONS

BOTH: tuple[Area, ...] = ("encoder", "decoder")
ENCODER: tuple[Area, ...] = ("encoder",)


def op(name: str, remedy: str, areas: tuple[Area, ...] = BOTH, **ops: Callable[..., Array]) -> Hypothesis:
    """A hypothesis about operations."""
    return Hypothesis(name, areas, remedy, lambda pipeline: pipeline.with_ops(**ops))


def block(name: str, remedy: str, function: Callable[..., Any]) -> Hypothesis:
    """A hypothesis about TinyViT's block."""
    return Hypothesis(name, ENCODER, remedy, lambda pipeline: pipeline.with_function("tiny_vit.tiny_vit_block", function))


def weights(name: str, remedy: str, change: Callable[[str, Array], Array], areas: tuple[Area, ...] = BOTH) -> Hypothesis:
    """A hypothesis about each tensor of the checkpoint."""

    def changed(tensors: Mapping[str, Array]) -> Mapping[str, Array]:
        return {key: change(key, tensor) for key, tensor in tensors.items()}

    def apply(pipeline: Pipeline) -> Pipeline:
        before = pipeline.weights
        return replace(pipeline, weights=lambda tensors: changed(before(tensors)))

    return Hypothesis(name, areas, remedy, apply)


# --- activations and norms --------------------------------------------------------------------------------------------------


def gelu_tanh(x: Array) -> Array:
    """The tanh approximation."""
    return 0.5 * x * (1 + np.tanh(np.float32(np.sqrt(2 / np.pi)) * (x + np.float32(0.044715) * x**3)))


def gelu_sigmoid(x: Array) -> Array:
    """x * sigmoid(1.702 x)."""
    return x / (1 + np.exp(np.float32(-1.702) * x))


def silu(x: Array) -> Array:
    """x * sigmoid(x)."""
    return x / (1 + np.exp(-x))


def batch_statistics(x: Array, mean: Array, variance: Array, weight: Array, bias: Array, eps: float = 1e-5) -> Array:  # noqa: ARG001
    """BatchNorm in training mode: by the picture's own statistics."""
    own = x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3))
    return Ops.batch_norm(x, *own, weight, bias, eps)


def without_norm(x: Array, weight: Array, bias: Array, eps: float = 1e-5) -> Array:  # noqa: ARG001
    """Scale and shift alone."""
    shape = (-1, 1, 1) if x.ndim == 4 else (-1,)
    return x * weight.reshape(shape) + bias.reshape(shape)


def affine_as_batch_norm(x: Array, weight: Array, bias: Array, eps: float = 1e-6) -> Array:
    """gamma * x + beta turned into a batch norm of mean 0, variance 1 and epsilon 1e-5, as coremltools does."""
    return Ops.layer_norm_2d(x, weight / np.float32(np.sqrt(1 + 1e-5)), bias, eps)


def unbiased_layer_norm(x: Array, weight: Array, bias: Array, eps: float = 1e-5) -> Array:
    """Variance divided by N - 1."""
    n = x.shape[-1]
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred * centred).sum(axis=-1, keepdims=True) / (n - 1)
    return centred / np.sqrt(variance + eps) * weight + bias


# --- attention --------------------------------------------------------------------------------------------------------------


def attention_of(scale: Callable[[int, int], float] | None = None, bias_factor: float = 1.0) -> Callable[..., Array]:
    """Scaled dot-product attention with another scale (of head width and heads) or another bias."""

    def attention(q: Array, k: Array, v: Array, bias: Array | None = None) -> Array:
        factor = q.shape[-1] ** -0.5 if scale is None else scale(q.shape[-1], q.shape[1])
        scores = (q @ k.swapaxes(-1, -2)) * np.float32(factor)
        return softmax(scores if bias is None else scores + np.float32(bias_factor) * bias) @ v

    return attention


def softmax_over_queries(q: Array, k: Array, v: Array, bias: Array | None = None) -> Array:
    """The wrong axis."""
    scores = q @ k.swapaxes(-1, -2) * np.float32(q.shape[-1] ** -0.5)
    scores = scores if bias is None else scores + bias
    return softmax(scores.swapaxes(-1, -2)).swapaxes(-1, -2) @ v


def bias_transposed(name: str, tensor: Array) -> Array:
    """Relative biases numbered by |dx| before |dy|."""
    if not name.endswith("attention_biases"):
        return tensor
    side = int(tensor.shape[1] ** 0.5 + 0.5)
    return tensor.reshape(-1, side, side).swapaxes(1, 2).reshape(tensor.shape)


def windowed(s: Scope, x: Array, num_heads: int, window_size: int, masked: bool) -> Array:
    """Windowed attention that treats padding otherwise: its tokens are masked out, or stay zero after the LayerNorm."""
    batch, count, width = x.shape
    side = grid_side(count)
    windows = window_partition(x.reshape(batch, side, side, width), window_size)
    inside = window_partition(np.ones((batch, side, side, 1), x.dtype), window_size)
    normed = layer_norm(s / "norm", windows)
    qkv = split_heads(linear(s / "qkv", normed if masked else normed * inside), num_heads)
    q, k, v = np.split(qkv, 3, axis=-1)
    bias = s["attention_biases"][:, attention_bias_index(window_size)][None]
    if masked:
        bias = bias + np.where(inside[:, None, None, :, 0] > 0, 0, np.float32(-1e9))
    y = s.tap(linear(s / "proj", merge_heads(attention_of()(q, k, v, bias))))  # a bias for each window
    return window_reverse(y, window_size, side, side).reshape(batch, count, width)


def in_three_blocks(s: Scope, x: Array, num_heads: int, window_size: int) -> Array:
    """qkv laid out as all queries, all keys, all values."""
    batch, count, width = x.shape
    side = grid_side(count)
    windows = window_partition(x.reshape(batch, side, side, width), window_size)
    qkv = linear(s / "qkv", layer_norm(s / "norm", windows))
    q, k, v = (split_heads(part, num_heads) for part in np.split(qkv, 3, axis=-1))
    bias = s["attention_biases"][:, attention_bias_index(window_size)]
    y = s.tap(linear(s / "proj", merge_heads(s.ops.attention(q, k, v, bias))))
    return window_reverse(y, window_size, side, side).reshape(batch, count, width)


def columns_first(s: Scope, x: Array, num_heads: int, window_size: int) -> Array:
    """Windows (and the tokens in them) counted down the columns."""
    batch, count, width = x.shape
    side = grid_side(count)
    turned = x.reshape(batch, side, side, width).swapaxes(1, 2).reshape(x.shape)
    y = tiny_vit.windowed_attention(s, turned, num_heads, window_size)
    return y.reshape(batch, side, side, width).swapaxes(1, 2).reshape(x.shape)


def block_with(
    attention: Callable[..., Array] = tiny_vit.windowed_attention, residual: bool = True, local: str = "as upstream"
) -> Callable[..., Array]:
    """TinyViT's block with another attention, without its residual, or with another local convolution."""

    def run(s: Scope, x: Array, num_heads: int, window_size: int) -> Array:
        y = attention(s / "attn", x, num_heads, window_size)
        x = x + y if residual else y
        if local != "left out":
            convolved = to_tokens(depthwise_conv_bn(s / "local_conv", to_map(x)))
            x = x + convolved if local == "with residual" else convolved
        return s.tap(x + tiny_vit.transformer_mlp(s / "mlp", x))

    return run


def gelu_after_patches(s: Scope, x: Array) -> Array:
    """A second GELU, after the patch embedding."""
    x = s.ops.gelu(conv_bn(s / "seq" / 0, x, stride=2, padding=1))
    return s.tap(s.ops.gelu((s / "seq").tap(conv_bn(s / "seq" / 2, x, stride=2, padding=1))))


def prepares(name: str, mean: Array | float, std: Array | float) -> Hypothesis:
    """A hypothesis about an encoder that begins with a normalising of its own, and is given what is normalised."""
    mean, std = (np.reshape(np.asarray(x, np.float32), (-1, 1, 1)) for x in (mean, std))

    def patch_embed(s: Scope, x: Array) -> Array:
        return definition(tiny_vit.patch_embed)(s, (x - mean) / std)

    return Hypothesis(name, ENCODER, _PIXELS, lambda pipeline: pipeline.with_function("tiny_vit.patch_embed", patch_embed))


def transposed_kernels(name: str, tensor: Array) -> Array:  # noqa: ARG001 - all kernels alike
    """Kernels with x and y exchanged."""
    return tensor.swapaxes(-1, -2) if tensor.ndim == 4 else tensor


def flipped_kernels(name: str, tensor: Array) -> Array:  # noqa: ARG001 - all kernels alike
    """Kernels turned by 180 degrees: convolution for cross-correlation."""
    return tensor[..., ::-1, ::-1] if tensor.ndim == 4 else tensor


def rounded(rounding: Rounding) -> Callable[[str, Array], Array]:
    """Weights rounded, arithmetic as it is."""
    return lambda _name, tensor: rounding(tensor)


def doubled_bias(name: str, tensor: Array) -> Array:
    """Biases of linear layers and convolutions added twice."""
    return tensor * 2 if name.endswith(".bias") and not is_norm(name) else tensor


def no_bias(name: str, tensor: Array) -> Array:
    """Biases of linear layers and convolutions left out."""
    return tensor * 0 if name.endswith(".bias") and not is_norm(name) else tensor


def is_norm(name: str) -> bool:
    """Whether a tensor belongs to a LayerNorm or BatchNorm."""
    places = (".norm", ".bn.", "neck.1", "neck.3", "downscaling.1", "downscaling.4", "upscaling.1")
    return any(place in name for place in places)


_GELU = "GELU is exact: x/2 (1 + erf(x / sqrt 2))"
_EPS = "epsilon: 1e-5 in LayerNorm and BatchNorm, 1e-6 in LayerNorm2d (neck, mask prompt, mask upscaling)"
_BN = "put BatchNorm in eval mode: running statistics (model.eval() before exporting)"
_SCALE = "scores are scaled by 1 / sqrt(width of one head)"
_BIAS = "the bias of a pair of tokens is number |dy| * window + |dx|"
_WINDOW = "pad with zeros before the LayerNorm, and attend to padding like to other tokens"
_PIXELS = "normalise once: give this encoder bare pixels (port it as a function of image), or take the normalising out of it"
_BLOCK = "x + attention, then the depthwise convolution without residual, then x + MLP"

HYPOTHESES = (
    op("tanh GELU", _GELU, gelu=gelu_tanh),
    op("sigmoid GELU", _GELU, gelu=gelu_sigmoid),
    op("SiLU for GELU", _GELU, gelu=silu),
    op("ReLU for GELU", _GELU, gelu=Ops.relu),
    op("GELU left out", _GELU, gelu=as_it_is),
    op("ReLU left out", "the two-way MLP, the hypernetworks and the IoU head have ReLU", ("decoder",), relu=as_it_is),
    op("BatchNorm in training mode", _BN, ENCODER, batch_norm=batch_statistics),
    op("BatchNorm epsilon 1e-3", _EPS, ENCODER, batch_norm=partial(Ops.batch_norm, eps=1e-3)),
    op("BatchNorm epsilon 0", _EPS, ENCODER, batch_norm=partial(Ops.batch_norm, eps=0.0)),
    op("LayerNorm epsilon 1e-6", _EPS, layer_norm=partial(Ops.layer_norm, eps=1e-6)),
    op("LayerNorm epsilon 1e-3", _EPS, layer_norm=partial(Ops.layer_norm, eps=1e-3)),
    op("LayerNorm2d epsilon 1e-5", _EPS, layer_norm_2d=partial(Ops.layer_norm_2d, eps=1e-5)),
    op("LayerNorm2d epsilon 1e-3", _EPS, layer_norm_2d=partial(Ops.layer_norm_2d, eps=1e-3)),
    op("LayerNorm2d's affine as a batch norm of epsilon 1e-5", "keep gamma * x + beta, or set the converted epsilon to 0",
       layer_norm_2d=affine_as_batch_norm),
    op("LayerNorm left out", "normalise before scale and shift", layer_norm=without_norm),
    op("LayerNorm2d left out", "normalise before scale and shift", layer_norm_2d=without_norm),
    op("LayerNorm by N - 1", "the variance is biased: divided by N", layer_norm=unbiased_layer_norm),
    op("scores not scaled", _SCALE, attention=attention_of(lambda _width, _heads: 1.0)),
    op("scores scaled twice", _SCALE, attention=attention_of(lambda width, _heads: 1.0 / width)),
    op("scores scaled by the whole width", _SCALE, attention=attention_of(lambda width, heads: (width * heads) ** -0.5)),
    op("softmax over the queries", "softmax runs over the keys, the last axis of the scores", attention=softmax_over_queries),
    op("attention bias left out", _BIAS, ENCODER, attention=attention_of(bias_factor=0.0)),
    weights("attention bias transposed", _BIAS, bias_transposed, ENCODER),
    block("window padding masked", _WINDOW, block_with(partial(windowed, masked=True))),
    block("window padding zero after LayerNorm", _WINDOW, block_with(partial(windowed, masked=False))),
    block("qkv in three blocks", "rows of qkv are (q, k, v) head by head", block_with(in_three_blocks)),
    block("windows down the columns", "windows and their tokens run along the rows first", block_with(columns_first)),
    block("local convolution with a residual", _BLOCK, block_with(local="with residual")),
    block("local convolution left out", _BLOCK, block_with(local="left out")),
    block("attention without residual", _BLOCK, block_with(residual=False)),
    Hypothesis("GELU after the patch embedding", ENCODER, "the second convolution of the patch embedding has none",
               lambda pipeline: pipeline.with_function("tiny_vit.patch_embed", gelu_after_patches)),
    weights("kernels transposed", "kernels are (out, in, y, x)", transposed_kernels),
    weights("kernels flipped", "convolutions are cross-correlations: kernels are not turned", flipped_kernels),
    weights("biases left out", "linear layers and convolutions have biases where the checkpoint has them", no_bias),
    weights("biases added twice", "add a bias once", doubled_bias),
    weights("weights rounded to fp16", "declare --precision fp16", rounded(PRECISIONS["fp16"].weights)),
    weights("weights rounded to bf16", "declare --precision bf16", rounded(PRECISIONS["bf16"].weights)),
    weights("weights rounded to int8", "declare --precision int8", rounded(PRECISIONS["int8"].weights)),
    prepares("encoder normalises its input", PIXEL_MEAN, PIXEL_STD),
    prepares("encoder normalises its input as if from 0 to 1", PIXEL_MEAN / 255, PIXEL_STD / 255),
    prepares("encoder divides its input by 255", 0, 255),
)  # fmt: skip
