"""Every tensor of a checkpoint: its name and the shape that a config gives it, in upstream's order. The one list of names."""

from collections.abc import Iterator

from refsam.config import Config

Shape = tuple[int, ...]
Entry = tuple[str, Shape]

UNUSED_PREFIXES = ("image_encoder.norm_head.", "image_encoder.head.")
"""TinyViT's classifier: in upstream's checkpoint, never used by SAM."""

UNUSED_SUFFIXES = (".num_batches_tracked", ".attention_bias_idxs")
"""Training counters of BatchNorm and an index table that follows from the window: whole numbers, not weights."""


def parameter_shapes(config: Config) -> dict[str, Shape]:
    """Name -> shape of all the tensors that the graph of `config` uses."""
    return dict([*_prefixed("image_encoder", _tiny_vit(config)), *_prefixed("prompt_encoder", _prompt_encoder(config)),
                 *_prefixed("mask_decoder", _mask_decoder(config))])  # fmt: skip


def is_unused(name: str) -> bool:
    """Whether upstream's checkpoint has this tensor although the graph never reads it."""
    return name.startswith(UNUSED_PREFIXES) or name.endswith(UNUSED_SUFFIXES)


def _prefixed(prefix: str, entries: Iterator[Entry]) -> Iterator[Entry]:
    return ((f"{prefix}.{name}" if name else prefix, shape) for name, shape in entries)


def _affine(width: int) -> Iterator[Entry]:
    yield "weight", (width,)
    yield "bias", (width,)


def _linear(inputs: int, outputs: int) -> Iterator[Entry]:
    yield "weight", (outputs, inputs)
    yield "bias", (outputs,)


def _conv(inputs: int, outputs: int, size: int, bias: bool = True) -> Iterator[Entry]:
    yield "weight", (outputs, inputs, size, size)
    if bias:
        yield "bias", (outputs,)


def _conv_bn(inputs: int, outputs: int, size: int) -> Iterator[Entry]:
    yield "c.weight", (outputs, inputs, size, size)
    for name in ("weight", "bias", "running_mean", "running_var"):
        yield f"bn.{name}", (outputs,)


def _tiny_vit(config: Config) -> Iterator[Entry]:
    dims = config.embed_dims
    yield from _prefixed("patch_embed.seq.0", _conv_bn(3, dims[0] // 2, 3))
    yield from _prefixed("patch_embed.seq.2", _conv_bn(dims[0] // 2, dims[0], 3))
    for layer in range(4):
        for block in range(config.depths[layer]):
            entries = _mb_conv(config) if layer == 0 else _tiny_vit_block(config, layer)
            yield from _prefixed(f"layers.{layer}.blocks.{block}", entries)
        if layer < 3:
            yield from _prefixed(f"layers.{layer}.downsample", _patch_merging(dims[layer], dims[layer + 1]))
    yield from _prefixed("neck.0", _conv(dims[3], config.prompt_embed_dim, 1, bias=False))
    yield from _prefixed("neck.1", _affine(config.prompt_embed_dim))
    yield from _prefixed("neck.2", _conv(config.prompt_embed_dim, config.prompt_embed_dim, 3, bias=False))
    yield from _prefixed("neck.3", _affine(config.prompt_embed_dim))


def _mb_conv(config: Config) -> Iterator[Entry]:
    width, hidden = config.embed_dims[0], int(config.embed_dims[0] * config.mbconv_expand_ratio)
    yield from _prefixed("conv1", _conv_bn(width, hidden, 1))
    yield from _prefixed("conv2", _conv_bn(1, hidden, 3))
    yield from _prefixed("conv3", _conv_bn(hidden, width, 1))


def _patch_merging(inputs: int, outputs: int) -> Iterator[Entry]:
    yield from _prefixed("conv1", _conv_bn(inputs, outputs, 1))
    yield from _prefixed("conv2", _conv_bn(1, outputs, 3))
    yield from _prefixed("conv3", _conv_bn(outputs, outputs, 1))


def _tiny_vit_block(config: Config, layer: int) -> Iterator[Entry]:
    width, hidden = config.embed_dims[layer], int(config.embed_dims[layer] * config.mlp_ratio)
    yield "attn.attention_biases", (config.num_heads[layer], config.window_sizes[layer] ** 2)
    yield from _prefixed("attn.norm", _affine(width))
    yield from _prefixed("attn.qkv", _linear(width, 3 * width))
    yield from _prefixed("attn.proj", _linear(width, width))
    yield from _prefixed("mlp.norm", _affine(width))
    yield from _prefixed("mlp.fc1", _linear(width, hidden))
    yield from _prefixed("mlp.fc2", _linear(hidden, width))
    yield from _prefixed("local_conv", _conv_bn(1, width, 3))


def _prompt_encoder(config: Config) -> Iterator[Entry]:
    width, hidden = config.prompt_embed_dim, config.mask_in_chans
    yield "pe_layer.positional_encoding_gaussian_matrix", (2, width // 2)
    for point in range(4):
        yield f"point_embeddings.{point}.weight", (1, width)
    yield "not_a_point_embed.weight", (1, width)
    yield from _prefixed("mask_downscaling.0", _conv(1, hidden // 4, 2))
    yield from _prefixed("mask_downscaling.1", _affine(hidden // 4))
    yield from _prefixed("mask_downscaling.3", _conv(hidden // 4, hidden, 2))
    yield from _prefixed("mask_downscaling.4", _affine(hidden))
    yield from _prefixed("mask_downscaling.6", _conv(hidden, width, 1))
    yield "no_mask_embed.weight", (1, width)


def _mask_decoder(config: Config) -> Iterator[Entry]:
    width = config.prompt_embed_dim
    for layer in range(config.decoder_depth):
        yield from _prefixed(f"transformer.layers.{layer}", _two_way_block(config))
    yield from _prefixed("transformer.final_attn_token_to_image", _attention(width, width // config.attention_downsample_rate))
    yield from _prefixed("transformer.norm_final_attn", _affine(width))
    yield "iou_token.weight", (1, width)
    yield "mask_tokens.weight", (config.num_mask_tokens, width)
    yield from _prefixed("output_upscaling.0", _conv_transpose(width, width // 4))
    yield from _prefixed("output_upscaling.1", _affine(width // 4))
    yield from _prefixed("output_upscaling.3", _conv_transpose(width // 4, width // 8))
    for token in range(config.num_mask_tokens):
        yield from _prefixed(f"output_hypernetworks_mlps.{token}", _mlp(width, width, width // 8, 3))
    head = _mlp(width, config.iou_head_hidden_dim, config.num_mask_tokens, config.iou_head_depth)
    yield from _prefixed("iou_prediction_head", head)


def _two_way_block(config: Config) -> Iterator[Entry]:
    width = config.prompt_embed_dim
    inner = width // config.attention_downsample_rate
    yield from _prefixed("self_attn", _attention(width, width))
    yield from _prefixed("norm1", _affine(width))
    yield from _prefixed("cross_attn_token_to_image", _attention(width, inner))
    yield from _prefixed("norm2", _affine(width))
    yield from _prefixed("mlp.lin1", _linear(width, config.decoder_mlp_dim))
    yield from _prefixed("mlp.lin2", _linear(config.decoder_mlp_dim, width))
    yield from _prefixed("norm3", _affine(width))
    yield from _prefixed("norm4", _affine(width))
    yield from _prefixed("cross_attn_image_to_token", _attention(width, inner))


def _attention(width: int, inner: int) -> Iterator[Entry]:
    for name in ("q_proj", "k_proj", "v_proj"):
        yield from _prefixed(name, _linear(width, inner))
    yield from _prefixed("out_proj", _linear(inner, width))


def _conv_transpose(inputs: int, outputs: int) -> Iterator[Entry]:
    yield "weight", (inputs, outputs, 2, 2)
    yield "bias", (outputs,)


def _mlp(inputs: int, hidden: int, outputs: int, depth: int) -> Iterator[Entry]:
    widths = [inputs, *[hidden] * (depth - 1), outputs]
    for layer in range(depth):
        yield from _prefixed(f"layers.{layer}", _linear(widths[layer], widths[layer + 1]))
