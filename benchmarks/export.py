"""Upstream's encoder and decoder as ONNX graphs, made once for each weights file.  Needs the `bench-peers` extra."""

import hashlib
import importlib.util
import subprocess
import warnings
from pathlib import Path
from typing import Any

from benchmarks import pool
from benchmarks.contenders import UPSTREAM

ONNX_OPSET = 17


def graph_paths(weights: Path, folder: Path) -> tuple[Path, Path]:
    """Where the encoder's and the decoder's graphs lie: named by the content of the weights and of what exports them."""
    digest = hashlib.sha256(weights.read_bytes())
    digest.update(Path(__file__).read_bytes())
    name = digest.hexdigest()[:16]
    return folder / f"{name}-encoder.onnx", folder / f"{name}-decoder.onnx"


def missing() -> list[str]:
    """The packages that exporting needs and that are not installed."""
    return [name for name in (*UPSTREAM, "onnx") if importlib.util.find_spec(name) is None]


def in_a_process(weights: Path, folder: Path) -> None:
    """Export in a process of its own, so that this one does not load torch."""
    subprocess.run(pool.command("export", str(weights), str(folder)), check=True, stdout=subprocess.DEVNULL)


def export(weights: Path, folder: Path) -> tuple[Path, Path]:
    """The two graphs, exported from upstream's torch modules where they are not there yet."""
    encoder, decoder = graph_paths(weights, folder)
    if encoder.exists() and decoder.exists():
        return encoder, decoder
    import peer  # tests/peer.py
    import torch

    from refsam import checkpoint

    opened = checkpoint.load(weights)
    sam = peer.upstream(opened.config, opened.tensors)
    side, grid = opened.config.image_size, opened.config.embedding_size
    picture, features = torch.zeros(1, 3, side, side), torch.zeros(1, opened.config.prompt_embed_dim, grid, grid)
    points, labels = torch.full((2, 1, 2), side / 2), torch.ones(2, 1)
    _write(sam.image_encoder, (picture,), encoder, ["input_image"], ["image_embeddings"], {})
    names = ["image_embeddings", "point_coords", "point_labels"]
    batch = {name: {0: "prompts"} for name in (*names[1:], "low_res_masks", "iou_predictions")}
    _write(decoder_module(sam), (features, points, labels), decoder, names, ["low_res_masks", "iou_predictions"], batch)
    return encoder, decoder


def decoder_module(sam: Any) -> Any:
    """Prompt encoder (points) and mask decoder as one module without data-dependent steps; gives the three masks of each prompt.

    Upstream's own ONNX wrapper takes one prompt at a time; this one takes a batch.
    """
    import torch

    class Decoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.sam = sam
            self.register_buffer("image_pe", sam.prompt_encoder.get_dense_pe().detach())

        def forward(self, image_embeddings: Any, coords: Any, labels: Any) -> tuple[Any, Any]:
            encoder = self.sam.prompt_encoder
            coords = torch.cat([coords + 0.5, torch.zeros_like(coords[:, :1])], dim=1)
            labels = torch.cat([labels, -torch.ones_like(labels[:, :1])], dim=1)[..., None]
            tokens = encoder.pe_layer.forward_with_coords(coords, encoder.input_image_size)
            tokens = tokens * (labels != -1) + encoder.not_a_point_embed.weight * (labels == -1)
            for kind in (0, 1):
                tokens = tokens + encoder.point_embeddings[kind].weight * (labels == kind)
            dense = encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).expand_as(image_embeddings)
            masks, iou = self.sam.mask_decoder.predict_masks(image_embeddings, self.image_pe, tokens, dense)
            return masks[:, 1:], iou[:, 1:]

    return Decoder().eval()


def _write(module: Any, inputs: tuple[Any, ...], path: Path, names: list[str], results: list[str], axes: dict[str, Any]) -> None:
    import torch

    from refsam.files import atomic_write

    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings(), torch.no_grad(), atomic_write(path) as file:
        warnings.simplefilter("ignore")  # of the tracer, about sizes that are constants here
        torch.onnx.export(
            module, inputs, file, input_names=names, output_names=results, dynamic_axes=axes,
            opset_version=ONNX_OPSET, dynamo=False,
        )  # fmt: skip


def main(weights: str, folder: str) -> None:
    """The child of `in_a_process`."""
    export(Path(weights), Path(folder))
