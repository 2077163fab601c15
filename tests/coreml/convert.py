"""Makes Core ML packages from upstream's torch code, as the ports do it.  Needs torch, the peer's packages, coremltools 9 and
NumPy < 2.4.  Used by make_data.py, and for the measurements of docs/coreml.md:

    python tests/coreml/convert.py FOLDER [TARGET]

which writes the three packages of MobileSAM's size, on stand-in weights, in float16 and float32, with inputs and torch's results.
"""

import sys
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]
warnings.simplefilter("ignore")

import coremltools as ct  # noqa: E402
import peer  # noqa: E402
import torch  # noqa: E402
from mobile_sam.modeling import Sam  # noqa: E402
from standin import standin_weights  # noqa: E402
from torch import nn  # noqa: E402

from refsam.config import Config  # noqa: E402

MOST_POINTS = 100
TARGETS = {"iOS15": ct.target.iOS15, "iOS16": ct.target.iOS16, "iOS17": ct.target.iOS17, "iOS18": ct.target.iOS18}
PRECISIONS = {"fp16": ct.precision.FLOAT16, "fp32": ct.precision.FLOAT32}


class PromptEncoder(nn.Module):
    """Points and their labels only. Masks by boolean index cannot be converted; `where` says the same."""

    def __init__(self, sam: Sam) -> None:
        super().__init__()
        self.encoder = sam.prompt_encoder

    def forward(self, points: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        encoder = self.encoder
        position = encoder.pe_layer.forward_with_coords(points + 0.5, encoder.input_image_size)
        kinds = [(labels == label)[..., None].expand_as(position) for label in (-1, 0, 1)]
        sparse = torch.where(kinds[0], encoder.not_a_point_embed.weight.expand_as(position), position)
        sparse = torch.where(kinds[1], sparse + encoder.point_embeddings[0].weight, sparse)
        sparse = torch.where(kinds[2], sparse + encoder.point_embeddings[1].weight, sparse)
        dense = encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).expand(1, -1, *encoder.image_embedding_size)
        return sparse, dense


class MaskDecoder(nn.Module):
    """All four masks and scores."""

    def __init__(self, sam: Sam) -> None:
        super().__init__()
        self.decoder = sam.mask_decoder

    def forward(self, embeddings: torch.Tensor, pe: torch.Tensor, sparse: torch.Tensor, dense: torch.Tensor) -> tuple:
        decoder = self.decoder
        tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])[None]
        tokens = torch.cat([tokens, sparse], dim=1)
        queries, keys = decoder.transformer(embeddings + dense, pe, tokens)
        side = embeddings.shape[-1]
        upscaled = decoder.output_upscaling(keys.transpose(1, 2).reshape(1, -1, side, side))
        vectors = [mlp(queries[:, 1 + i]) for i, mlp in enumerate(decoder.output_hypernetworks_mlps)]
        masks = (torch.stack(vectors, dim=1) @ upscaled.flatten(2)).reshape(1, -1, 4 * side, 4 * side)
        return masks, decoder.iou_prediction_head(queries[:, 0])


def inputs(config: Config, points: int, seed: int = 0) -> dict[str, dict[str, np.ndarray]]:
    """Inputs of the three packages, the same for a seed everywhere."""
    rng = np.random.RandomState(seed)
    size, side, width = config.image_size, config.embedding_size, config.prompt_embed_dim
    image = rng.normal(0, 1, (1, 3, size, size))
    maps = {name: rng.normal(0, 1, (1, width, side, side)) for name in ("image_embeddings", "image_pe", "dense")}
    labels = np.resize([1, 0, -1, 1], (1, points))
    given = {
        "ImageEncoder": {"image": image},
        "PromptEncoder": {"points": rng.uniform(0, size, (1, points, 2)).round(1), "labels": labels},
        "MaskDecoder": {**maps, "sparse": rng.normal(0, 1, (1, points, width))},
    }
    return {part: {name: x.astype(np.float32) for name, x in arrays.items()} for part, arrays in given.items()}


ORDER = {
    "ImageEncoder": (("image",), ("embeddings",)),
    "PromptEncoder": (("points", "labels"), ("sparse", "dense")),
    "MaskDecoder": (("image_embeddings", "image_pe", "sparse", "dense"), ("masks", "iou_predictions")),
}
"""Names of inputs and outputs, in the order of torch's arguments and results."""


def modules(config: Config, weights: Mapping[str, np.ndarray], dtype: torch.dtype = torch.float32) -> dict[str, nn.Module]:
    """The three parts as torch modules."""
    sam = peer.upstream(config, weights, dtype)
    return {"ImageEncoder": sam.image_encoder, "PromptEncoder": PromptEncoder(sam).eval(), "MaskDecoder": MaskDecoder(sam).eval()}


@torch.no_grad()
def run_torch(part: str, module: nn.Module, given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Torch's results on these inputs, in the module's dtype."""
    dtype = next(module.parameters()).dtype
    names, results = ORDER[part]
    found = module(*[torch.as_tensor(given[name].copy(), dtype=dtype) for name in names])
    found = found if isinstance(found, tuple) else (found,)
    return dict(zip(results, (x.numpy() for x in found), strict=True))


def convert(part: str, module: nn.Module, config: Config, target: str, precision: str) -> ct.models.MLModel:
    """One part as an ML program, with 1 to 100 points."""
    names, results = ORDER[part]
    example = inputs(config, points=1)[part]
    traced = torch.jit.trace(module, [torch.from_numpy(example[name].copy()) for name in names], check_trace=False)
    count = ct.RangeDim(1, MOST_POINTS, default=1)
    shapes = {"points": (1, count, 2), "labels": (1, count), "sparse": (1, count, config.prompt_embed_dim)}
    given = [ct.TensorType(name, ct.Shape(shapes.get(name, example[name].shape))) for name in names]
    return ct.convert(
        traced, inputs=given, outputs=[ct.TensorType(name) for name in results], convert_to="mlprogram",
        minimum_deployment_target=TARGETS[target], compute_precision=PRECISIONS[precision], skip_model_load=True,
    )  # fmt: skip


def main(folder: Path, target: str = "iOS15") -> None:
    """The packages of MobileSAM's size, and what torch says in float32 and float64 to one point and to a hundred."""
    folder.mkdir(parents=True, exist_ok=True)
    config = Config()
    weights = standin_weights(config)
    single, double = modules(config, weights), modules(config, weights, torch.float64)
    for part, module in single.items():
        for precision in PRECISIONS:
            convert(part, module, config, target, precision).save(str(folder / f"{part}.{precision}.mlpackage"))
        for points in (1, 100):
            given = inputs(config, points)[part]
            results = {f"torch32/{name}": x for name, x in run_torch(part, module, given).items()}
            results |= {f"torch64/{name}": x for name, x in run_torch(part, double[part], given).items()}
            np.savez(folder / f"{part}.{points}.npz", **given, **results)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
