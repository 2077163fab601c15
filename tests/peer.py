"""Upstream's torch model as the peer: with our weights, at any size of the same graph, in float32 or float64, every stage hooked.

Needs the `peer` extra. Tests that use it are marked `peer`; the goldens are made with it by tests/golden/make.py.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from mobile_sam.modeling import MaskDecoder, PromptEncoder, Sam, TinyViT, TwoWayTransformer
from mobile_sam.modeling.prompt_encoder import PositionEmbeddingRandom
from mobile_sam.modeling.tiny_vit_sam import LayerNorm2d
from torch import nn

from refsam.config import Config


class AnySizeTinyViT(TinyViT):
    """Upstream writes the 64 x 64 grid and the width of 256 into the code; here they follow from the config."""

    def __init__(self, config: Config) -> None:
        super().__init__(
            img_size=config.image_size, num_classes=1, embed_dims=list(config.embed_dims), depths=list(config.depths),
            num_heads=list(config.num_heads), window_sizes=list(config.window_sizes), mlp_ratio=config.mlp_ratio,
            drop_path_rate=0.0, mbconv_expand_ratio=config.mbconv_expand_ratio,
        )  # fmt: skip
        width = config.prompt_embed_dim
        self.neck = nn.Sequential(
            nn.Conv2d(config.embed_dims[3], width, 1, bias=False), LayerNorm2d(width),
            nn.Conv2d(width, width, 3, padding=1, bias=False), LayerNorm2d(width),
        )  # fmt: skip

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch_embed(x)
        for layer in self.layers:
            x = layer(x)
        side = self.img_size // 16
        return self.neck(x.view(len(x), side, side, -1).permute(0, 3, 1, 2))


class AnyDtypePositionEmbedding(PositionEmbeddingRandom):
    """Upstream casts coordinates to float32, which hides what float64 would say; here they stay as they are."""

    def forward(self, size: tuple[int, int]) -> torch.Tensor:
        dtype = self.positional_encoding_gaussian_matrix.dtype
        rows, columns = ((torch.arange(n, dtype=dtype) + 0.5) / n for n in size)
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        return self._pe_encoding(torch.stack([x, y], dim=-1)).permute(2, 0, 1)

    def forward_with_coords(self, coords_input: torch.Tensor, image_size: tuple[int, int]) -> torch.Tensor:
        return self._pe_encoding(coords_input / torch.tensor(image_size[::-1]))


def upstream(config: Config, weights: Mapping[str, np.ndarray], dtype: torch.dtype = torch.float32) -> Sam:
    """Upstream's Sam with these weights. Its float32 is untouched; its float64 lacks the two casts to float32."""
    size = (config.embedding_size, config.embedding_size)
    transformer = TwoWayTransformer(
        depth=config.decoder_depth, embedding_dim=config.prompt_embed_dim, num_heads=config.decoder_num_heads,
        mlp_dim=config.decoder_mlp_dim, attention_downsample_rate=config.attention_downsample_rate,
    )  # fmt: skip
    sam = Sam(
        AnySizeTinyViT(config),
        PromptEncoder(config.prompt_embed_dim, size, (config.image_size, config.image_size), config.mask_in_chans),
        MaskDecoder(
            transformer_dim=config.prompt_embed_dim, transformer=transformer, num_multimask_outputs=config.num_multimask_outputs,
            iou_head_depth=config.iou_head_depth, iou_head_hidden_dim=config.iou_head_hidden_dim,
        ),
    )  # fmt: skip
    if dtype == torch.float64:
        sam.prompt_encoder.pe_layer = AnyDtypePositionEmbedding(config.prompt_embed_dim // 2)
    result = sam.load_state_dict({name: torch.from_numpy(tensor) for name, tensor in weights.items()}, strict=False)
    missing = [name for name in result.missing_keys if "num_batches_tracked" not in name and "head." not in name[:24]]
    assert not missing, missing
    assert not result.unexpected_keys, result.unexpected_keys
    # TinyViT gathers its bias tables when it is switched to eval mode: convert first, switch then.
    return sam.to(dtype).train().eval()


PAIRS = {
    "prompt_encoder": ("prompt_encoder.sparse_prompt_embeddings", "prompt_encoder.dense_prompt_embeddings"),
    "mask_decoder": ("low_res_masks", "iou_predictions"),
}


Keep = Callable[[str, np.ndarray], None]
"""Called with each stage's name and value, in the order they run."""


@contextmanager
def hooked(sam: Sam, keep: Keep) -> Iterator[None]:
    """Within this block `keep` is given every module's result under the module's name, a pair under two names."""

    def hook_of(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            names = PAIRS.get(name, (f"{name}.queries", f"{name}.keys")) if isinstance(output, tuple) else (name,)
            for stage, tensor in zip(names, output if isinstance(output, tuple) else (output,), strict=True):
                keep(stage, tensor.detach().clone().numpy())  # cloned: MBConv adds to conv3's result in place

        return hook

    handles = [module.register_forward_hook(hook_of(name)) for name, module in sam.named_modules() if is_stage(name, module)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def is_stage(name: str, module: nn.Module) -> bool:
    """All modules but those that do nothing in eval mode, and PatchMerging's `act`, which runs twice."""
    return bool(name) and not isinstance(module, nn.Identity | nn.Dropout) and not name.endswith("downsample.act")


@torch.no_grad()
def encode(sam: Sam, input_image: np.ndarray) -> torch.Tensor:
    """The image embedding, in the peer's dtype."""
    return sam.image_encoder(_tensor(sam, input_image))


@torch.no_grad()
def decode(
    sam: Sam, embedding: torch.Tensor, prompts: Mapping[str, Any], multimask_output: bool = True
) -> tuple[np.ndarray, ...]:
    """low_res_masks and iou_predictions. Prompts are batched, in the input frame: points (coords, labels), boxes, masks."""
    points, boxes, masks = (prompts.get(name) for name in ("points", "boxes", "masks"))
    sparse, dense = sam.prompt_encoder(
        points=None if points is None else (_tensor(sam, points[0]), torch.as_tensor(np.asarray(points[1]))),
        boxes=None if boxes is None else _tensor(sam, boxes),
        masks=None if masks is None else _tensor(sam, masks),
    )
    masks_and_scores = sam.mask_decoder(
        image_embeddings=embedding, image_pe=sam.prompt_encoder.get_dense_pe(), sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense, multimask_output=multimask_output,
    )  # fmt: skip
    return tuple(x.numpy() for x in masks_and_scores)


def _tensor(sam: Sam, x: Any) -> torch.Tensor:
    return torch.as_tensor(np.asarray(x), dtype=next(sam.parameters()).dtype)
