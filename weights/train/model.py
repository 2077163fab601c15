"""The torch twin: upstream's modules under upstream's names, for an image size and widths of our own.

The graph is upstream's; only the order of some sums differs (`decode` works on many prompts of many images at once and
keeps channels last). test: `python -m weights.train.model` compares it with upstream's own forward.
"""

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from mobile_sam.modeling import MaskDecoder, PromptEncoder, TinyViT, TwoWayTransformer
from torch import Tensor, nn

from refsam.config import Config

from .two_way import two_way

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


DEMO = Config(
    image_size=512, embed_dims=(40, 80, 128, 320), depths=(3, 4, 5, 1), num_heads=(1, 2, 4, 10), window_sizes=(8, 8, 16, 16),
    decoder_mlp_dim=512,
)  # fmt: skip


def at_size(config: Config, size: int) -> Config:
    """The same model for another image size: no window larger than its stage's grid."""
    windows = map(min, config.window_sizes, (size // 4, size // 8, size // 16, size // 16))
    return replace(config, image_size=size, window_sizes=tuple(windows))


class Sam(nn.Module):
    """image_encoder, prompt_encoder, mask_decoder: the state dict has upstream's names.

    After `look_at` it computes a square of a picture; positions stay those in the picture. With `bfloat16` it computes in that
    (torch.autocast); weights and results stay float32.
    """

    def __init__(self, config: Config, bfloat16: bool = False) -> None:
        super().__init__()
        self.bfloat16 = bfloat16
        size, grid, dim = config.image_size, config.embedding_size, config.prompt_embed_dim
        self.config, self.grid, self.corner = config, grid, (0, 0)
        self.image_encoder = TinyViT(
            img_size=size, num_classes=0, embed_dims=list(config.embed_dims), depths=list(config.depths),
            num_heads=list(config.num_heads), window_sizes=list(config.window_sizes), drop_path_rate=0.0,
        )  # fmt: skip
        del self.image_encoder.norm_head
        self.prompt_encoder = PromptEncoder(dim, (grid, grid), (size, size), config.mask_in_chans)
        transformer = TwoWayTransformer(
            depth=config.decoder_depth, embedding_dim=dim, mlp_dim=config.decoder_mlp_dim,
            num_heads=config.decoder_num_heads,
        )  # fmt: skip
        self.mask_decoder = MaskDecoder(
            num_multimask_outputs=config.num_multimask_outputs, transformer=transformer, transformer_dim=dim,
            iou_head_depth=config.iou_head_depth, iou_head_hidden_dim=config.iou_head_hidden_dim,
        )  # fmt: skip

    def look_at(self, size: int, corner: tuple[int, int] = (0, 0)) -> "Sam":
        """Compute squares of `size` pixels, a multiple of 16, whose `corner` is at cell (y, x) of 16 pixels of the picture."""
        for module in self.image_encoder.modules():
            if hasattr(module, "input_resolution"):
                module.input_resolution = tuple(n * size // (16 * self.grid) for n in module.input_resolution)
        self.grid, self.corner = size // 16, corner
        return self

    @torch.no_grad()
    def look_where_clicked(self) -> "Sam":
        """Start cross attention with equal query and key projections, so that a click meets its own place at once.

        Prompt and image carry the same positional encoding; with equal projections their product is greatest where the
        positions agree. From independent random projections this has to be found first, on a long plateau.
        """
        transformer = self.mask_decoder.transformer
        attentions = [transformer.final_attn_token_to_image]
        for layer in transformer.layers:
            attentions += [layer.cross_attn_token_to_image, layer.cross_attn_image_to_token]
        for attn in attentions:
            attn.q_proj.weight *= 2
            attn.k_proj.weight.copy_(attn.q_proj.weight)
        return self

    def encode(self, x: Tensor) -> Tensor:
        """Normalised, padded pictures (B, 3, S, S) -> embeddings (B, C, S/16, S/16)."""
        enc, grid = self.image_encoder, self.grid
        with self.precision():
            x = enc.patch_embed(x)
            for layer in enc.layers:
                x = layer(x)
            return enc.neck(x.unflatten(1, (grid, grid)).permute(0, 3, 1, 2)).float()

    def precision(self) -> torch.autocast:
        """What `encode` and `decode` compute in."""
        return torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16)

    def dense_pe(self) -> Tensor:
        """The positional encoding of the embedding's cells (1, C, G, G)."""
        y, x = self.corner
        return self.prompt_encoder.get_dense_pe()[:, :, y : y + self.grid, x : x + self.grid]

    def in_picture(self, points: Tensor) -> Tensor:
        """Points (..., 2) xy in pixels of the square, in those of the picture."""
        return points + 16 * torch.tensor(self.corner[::-1])

    def decode(self, embeddings: Tensor, sparse: Tensor, dense: Tensor) -> tuple[Tensor, Tensor]:
        """All prompts of all images at once.

        Args: embeddings (B, C, G, G); sparse (B*P, T, C); dense (B*P or 1, C, G, G).
        Returns: logits (B*P, 4, 4G, 4G), iou_predictions (B*P, 4).
        """
        dec, count = self.mask_decoder, sparse.shape[0]
        fixed = torch.cat([dec.iou_token.weight, dec.mask_tokens.weight])
        tokens = torch.cat([fixed.expand(count, -1, -1), sparse], 1)
        src = embeddings.repeat_interleave(count // embeddings.shape[0], 0) + dense
        with self.precision():
            hs, src = two_way(dec.transformer, src, self.dense_pe(), tokens)
            hyper = torch.stack([mlp(hs[:, 1 + i]) for i, mlp in enumerate(dec.output_hypernetworks_mlps)], 1)
            return upscale(dec.output_upscaling, src, hyper).float(), dec.iou_prediction_head(hs[:, 0]).float()


def fit_biases(state: dict[str, Tensor], sam: Sam) -> dict[str, Tensor]:
    """The state of a model trained at another size for `sam`: greater offsets of larger windows start from zero, those that
    smaller windows do not have go."""
    wanted = sam.state_dict()
    for name, table in state.items():
        if name.endswith("attention_biases") and table.shape != wanted[name].shape:
            old, new = (math.isqrt(t.shape[1]) for t in (table, wanted[name]))
            state[name] = F.pad(table.unflatten(1, (old, old)), (0, new - old, 0, new - old)).flatten(1)  # negative: cut off
    return state


def normalise(images: Tensor) -> Tensor:
    """Pictures (B, h, w, 3) uint8 -> (B, 3, h, w) in standard deviations from the mean."""
    return ((images.float() - torch.tensor(MEAN)) / torch.tensor(STD)).permute(0, 3, 1, 2)


def upscale(layers: nn.Sequential, src: Tensor, hyper: Tensor) -> Tensor:
    """Upstream's two transposed convolutions as matrix products, channels last; pixels are put in order at the end.

    Args: src (N, G*G, C); hyper (N, 4, C/8).  Returns: logits (N, 4, 4G, 4G).
    """
    first, norm, act, second, _ = layers
    n, grid = src.shape[0], math.isqrt(src.shape[1])
    x = (src @ first.weight.flatten(1)).unflatten(-1, (-1, 4)).transpose(-1, -2) + first.bias  # (N, GG, 4, C/4)
    x = act(F.layer_norm(x, x.shape[-1:], norm.weight, norm.bias, norm.eps))
    x = act((x @ second.weight.flatten(1)).unflatten(-1, (-1, 4)).transpose(-1, -2) + second.bias)  # (N, GG, 4, 4, C/8)
    masks = hyper @ x.flatten(1, 3).transpose(1, 2)  # (N, 4, GG*16)
    masks = masks.view(n, -1, grid, grid, 2, 2, 2, 2).permute(0, 1, 2, 4, 6, 3, 5, 7)
    return masks.reshape(n, -1, 4 * grid, 4 * grid)


def check() -> None:
    """Our `decode` against upstream's own decoder, on random weights and prompts."""
    torch.manual_seed(0)
    sam = Sam(DEMO).eval()
    size = DEMO.image_size
    points = torch.rand(6, 2, 2) * size, torch.randint(0, 2, (6, 2))
    with torch.inference_mode():
        embedding = sam.encode(torch.randn(1, 3, size, size))
        sparse, dense = sam.prompt_encoder(points, None, torch.randn(6, 1, size // 4, size // 4))
        ours = sam.decode(embedding, sparse, dense)
        theirs = sam.mask_decoder.predict_masks(embedding, sam.prompt_encoder.get_dense_pe(), sparse, dense)
    for a, b in zip(ours, theirs, strict=True):
        print(f"greatest difference {(a - b).abs().max().item():.1e} of {b.abs().max().item():.1e}")
    parts = {k: sum(p.numel() for p in m.parameters()) for k, m in sam.named_children()}
    print(parts, "total", sum(parts.values()))


if __name__ == "__main__":
    check()
