"""The numbers that fix the graph: MobileSAM's own, or those of a relative with the same graph."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from refsam.errors import CheckpointError

STRIDE_ONE_WIDTHS = (320, 448, 576)
"""Upstream merges patches with stride 1 where the output has one of these widths.  Upstream: tiny_vit_sam.py PatchMerging."""

# The largest value that a weights file may ask for, so that a hostile one cannot order absurd work.
LIMITS = {
    "image_size": 2048,
    "embed_dims": 1024,
    "depths": 32,
    "num_heads": 64,
    "window_sizes": 64,
    "prompt_embed_dim": 1024,
    "mask_in_chans": 256,
    "decoder_depth": 16,
    "decoder_num_heads": 64,
    "decoder_mlp_dim": 8192,
    "attention_downsample_rate": 16,
    "num_multimask_outputs": 16,
    "iou_head_depth": 16,
    "iou_head_hidden_dim": 2048,
    "mlp_ratio": 16,
    "mbconv_expand_ratio": 16,
}

Quad = tuple[int, int, int, int]


def _check_number(name: str, value: Any) -> None:
    values = value if name in ("embed_dims", "depths", "num_heads", "window_sizes") else (value,)
    kinds, needed = ((int, float), "an int or a float") if name in ("mlp_ratio", "mbconv_expand_ratio") else ((int,), "an int")
    if not isinstance(values, tuple) or (values is value and len(values) != 4):
        raise CheckpointError(f"config {name} is {value!r} ({type(value).__name__}); a tuple of four whole numbers is needed")
    for number in values:
        if isinstance(number, bool) or not isinstance(number, kinds):  # NumPy's whole numbers are no ints, and not JSON's
            raise CheckpointError(f"config {name} is {value!r} ({type(number).__name__}); {needed} is needed")
        if not 0 < number <= LIMITS[name]:
            raise CheckpointError(f"config {name} is {value!r}; it has to be positive and at most {LIMITS[name]}")


MAX_ELEMENTS = 1 << 27
"""Of one intermediate tensor: each number of a config may be within its limit and their product still absurd. MobileSAM's largest
has 19 million."""


def _largest_tensor(config: "Config") -> tuple[str, int]:
    """What takes the most elements, and how many."""
    sides = (config.image_size // 4, config.image_size // 8, config.image_size // 16, config.image_size // 16)
    sizes = {"patch embedding": sides[0] ** 2 * 9 * config.embed_dims[0] // 2}
    for layer, side in enumerate(sides):
        ratio = config.mbconv_expand_ratio if layer == 0 else config.mlp_ratio
        sizes[f"layer {layer}'s widest map"] = int(side**2 * config.embed_dims[layer] * max(ratio, 3))
        if layer:
            window = config.window_sizes[layer]
            windows = (-(-side // window)) ** 2
            sizes[f"layer {layer}'s attention"] = windows * config.num_heads[layer] * window**4
    sizes["neck"] = config.embedding_size**2 * 9 * config.prompt_embed_dim
    sizes["mask upscaling"] = config.mask_size**2 * config.prompt_embed_dim // 4
    name = max(sizes, key=sizes.__getitem__)
    return name, sizes[name]


def _check_fit(config: "Config") -> None:
    name, elements = _largest_tensor(config)
    if elements > MAX_ELEMENTS:
        raise CheckpointError(f"config asks for {elements} numbers at once ({name}); at most {MAX_ELEMENTS} are allowed")
    if config.image_size % 16:
        raise CheckpointError(f"config image_size is {config.image_size}; it has to be a multiple of 16")
    if [config.merge_stride(layer) for layer in range(3)] != [2, 2, 1]:
        raise CheckpointError(
            f"config embed_dims is {config.embed_dims}; the last, and only the last, has to be one of {STRIDE_ONE_WIDTHS}"
            " (upstream's rule for a stride of 1), so that the embedding is a sixteenth of the image"
        )
    for dim, heads in list(zip(config.embed_dims, config.num_heads, strict=True))[1:]:
        if dim % heads:
            raise CheckpointError(f"config num_heads {heads} does not divide the width {dim}")
    hidden = [config.embed_dims[0] // 2, int(config.embed_dims[0] * config.mbconv_expand_ratio)]
    if min(*hidden, *(int(width * config.mlp_ratio) for width in config.embed_dims[1:])) < 1:
        raise CheckpointError(
            f"config embed_dims {config.embed_dims}, mlp_ratio {config.mlp_ratio} and mbconv_expand_ratio"
            f" {config.mbconv_expand_ratio} leave a layer without channels"
        )
    inner, rest = divmod(config.prompt_embed_dim, config.attention_downsample_rate)
    if rest or inner % config.decoder_num_heads or config.prompt_embed_dim % config.decoder_num_heads:
        raise CheckpointError(f"config decoder_num_heads {config.decoder_num_heads} does not divide the decoder's width {inner}")
    if config.prompt_embed_dim % 8 or config.mask_in_chans % 4:
        raise CheckpointError("config prompt_embed_dim has to be a multiple of 8 and mask_in_chans one of 4")


@dataclass(frozen=True)
class Config:
    """The architecture, in the words of upstream's constructors. The defaults are MobileSAM (`vit_t`).

    Upstream: build_sam.py build_sam_vit_t.  Raises CheckpointError where a number is out of bounds or they do not fit together.
    """

    image_size: int = 1024
    embed_dims: Quad = (64, 128, 160, 320)
    depths: Quad = (2, 2, 6, 2)
    num_heads: Quad = (2, 4, 5, 10)
    window_sizes: Quad = (7, 7, 14, 7)
    mlp_ratio: int | float = 4.0
    mbconv_expand_ratio: int | float = 4.0
    prompt_embed_dim: int = 256
    mask_in_chans: int = 16
    decoder_depth: int = 2
    decoder_num_heads: int = 8
    decoder_mlp_dim: int = 2048
    attention_downsample_rate: int = 2
    num_multimask_outputs: int = 3
    iou_head_depth: int = 3
    iou_head_hidden_dim: int = 256

    def __post_init__(self) -> None:
        for field in fields(self):
            _check_number(field.name, getattr(self, field.name))
        _check_fit(self)

    @property
    def embedding_size(self) -> int:
        """Side of the image embedding (64)."""
        return self.image_size // 16

    @property
    def mask_size(self) -> int:
        """Side of the low-resolution mask logits and of a mask prompt (256)."""
        return self.image_size // 4

    @property
    def num_mask_tokens(self) -> int:
        """One mask token for an unambiguous prompt, the others for an ambiguous one."""
        return self.num_multimask_outputs + 1

    def merge_stride(self, layer: int) -> int:
        """Stride of the patch merging at the end of `layer` (0, 1 or 2)."""
        return 1 if self.embed_dims[layer + 1] in STRIDE_ONE_WIDTHS else 2

    def to_json(self) -> str:
        """The text that our exports keep under the metadata key `config`."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Config":
        """The inverse of `to_json`; a missing number has MobileSAM's value. Raises CheckpointError."""
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise CheckpointError(f"the config in the file's metadata is not JSON: {error}") from None
        if not isinstance(values, dict):
            raise CheckpointError(f"the config in the file's metadata is a {type(values).__name__}, not an object")
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise CheckpointError(f"the config in the file's metadata has unknown keys: {', '.join(unknown[:5])}")
        arguments: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        return cls(**arguments)


MOBILE_SAM = Config()


def infer(shapes: Mapping[str, tuple[int, ...]]) -> Config:
    """The config that these tensors (of a whole checkpoint) have, as far as shapes tell it.

    Image size, decoder heads and merge strides leave no mark on a shape: they are MobileSAM's.
    Raises CheckpointError where a tensor that tells a number is missing.
    """
    blocks = [_count(shapes, f"image_encoder.layers.{layer}.blocks") for layer in range(4)]
    attention = [_attention_shape(shapes, layer) for layer in (1, 2, 3)]
    width = _dim(shapes, "image_encoder.patch_embed.seq.2.c.weight", 0)
    token = "mask_decoder.transformer.layers.0."
    prompt_width = _dim(shapes, "prompt_encoder.no_mask_embed.weight", 1)
    return Config(
        embed_dims=(width, *(_dim(shapes, f"image_encoder.layers.{n}.downsample.conv3.c.weight", 0) for n in (0, 1, 2))),  # type: ignore[arg-type]
        depths=tuple(blocks),  # type: ignore[arg-type]
        num_heads=(MOBILE_SAM.num_heads[0], *(heads for heads, _ in attention)),  # type: ignore[arg-type]
        window_sizes=(MOBILE_SAM.window_sizes[0], *(window for _, window in attention)),  # type: ignore[arg-type]
        mlp_ratio=_ratio(shapes, [f"image_encoder.layers.{n}.blocks.0.mlp.fc1.weight" for n in (1, 2, 3)]),
        mbconv_expand_ratio=_ratio(shapes, ["image_encoder.layers.0.blocks.0.conv1.c.weight"]),
        prompt_embed_dim=prompt_width,
        mask_in_chans=_dim(shapes, "prompt_encoder.mask_downscaling.3.weight", 0),
        decoder_depth=_count(shapes, "mask_decoder.transformer.layers"),
        decoder_mlp_dim=_dim(shapes, token + "mlp.lin1.weight", 0),
        attention_downsample_rate=prompt_width // max(_dim(shapes, token + "cross_attn_token_to_image.q_proj.weight", 0), 1),
        num_multimask_outputs=_dim(shapes, "mask_decoder.mask_tokens.weight", 0) - 1,
        iou_head_depth=_count(shapes, "mask_decoder.iou_prediction_head.layers"),
        iou_head_hidden_dim=_dim(shapes, "mask_decoder.iou_prediction_head.layers.0.weight", 0),
    )


def _dim(shapes: Mapping[str, tuple[int, ...]], name: str, axis: int) -> int:
    shape = shapes.get(name)
    if shape is None or len(shape) <= axis:
        raise CheckpointError(f"tensor {name} is missing or has no axis {axis}: is this a MobileSAM checkpoint?")
    return shape[axis]


def _count(shapes: Mapping[str, tuple[int, ...]], prefix: str) -> int:
    """How many children `prefix.0`, `prefix.1`, ... there are."""
    return len({name[len(prefix) + 1 :].split(".")[0] for name in shapes if name.startswith(prefix + ".")})


def _ratio(shapes: Mapping[str, tuple[int, ...]], names: list[str]) -> float:
    """The shortest decimal r with int(width * r) the hidden width in every (hidden, width, ...) of `names`.

    The quotient of one layer is not it: rounding takes away its fraction, and multiplied again it may be one short.
    """
    pairs = [(_dim(shapes, name, 0), max(_dim(shapes, name, 1), 1)) for name in names]
    for digits in range(18):
        scale = 10**digits
        least = max(-(-hidden * scale // width) for hidden, width in pairs)
        for ratio in (least / scale, (least + 1) / scale):  # 58 / 200 is 0.29, and 200 * 0.29 below 58 to a computer
            if all(int(width * ratio) == hidden for hidden, width in pairs):
                return ratio
    of = ", ".join(f"{hidden} of {width}" for hidden, width in pairs)
    raise CheckpointError(f"no one ratio gives the hidden widths {of} ({names[0]} ...): is this a MobileSAM checkpoint?")


def _attention_shape(shapes: Mapping[str, tuple[int, ...]], layer: int) -> tuple[int, int]:
    """(heads, window): a window of side w has w * w different (|dy|, |dx|), so as many biases per head."""
    name = f"image_encoder.layers.{layer}.blocks.0.attn.attention_biases"
    return _dim(shapes, name, 0), math.isqrt(_dim(shapes, name, 1))
