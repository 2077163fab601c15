"""Stand-in weights: random, and yet sensitive to the input, so that a test on them can fail.

A default initialisation with perturbed BatchNorm statistics makes TinyViT ignore its picture, and every parity test on it
passes. Fan-in scaled weights do not; tests/model/test_standin.py asserts it.
"""

import hashlib

import numpy as np

from refsam.config import Config
from refsam.parameters import parameter_shapes

TINY = Config(
    image_size=64,
    embed_dims=(8, 16, 16, 320),
    depths=(1, 1, 2, 1),
    num_heads=(1, 2, 2, 10),
    window_sizes=(7, 3, 4, 3),
    prompt_embed_dim=32,
    decoder_num_heads=2,
    decoder_mlp_dim=48,
    mask_in_chans=16,
    iou_head_hidden_dim=24,
)
"""The smallest relative that has every feature: windows that divide the grid and windows that do not."""


def standin_weights(config: Config, seed: int = 0) -> dict[str, np.ndarray]:
    """float32 tensors under upstream's names, the same for a seed everywhere."""
    rng = np.random.RandomState(seed)  # its stream is frozen, a Generator's may change with NumPy
    return {name: _tensor(rng, name, shape).astype(np.float32) for name, shape in parameter_shapes(config).items()}


def weights_sha256(weights: dict[str, np.ndarray]) -> str:
    """Of all names and bytes, in order: goldens carry it, since they say nothing about other weights."""
    digest = hashlib.sha256()
    for name, tensor in weights.items():
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensor, "<f4").tobytes())
    return digest.hexdigest()


def _tensor(rng: np.random.RandomState, name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name.endswith("running_mean"):
        return rng.normal(0, 0.2, shape)
    if name.endswith("running_var"):
        return rng.uniform(0.5, 1.5, shape)
    if name.endswith(("positional_encoding_gaussian_matrix", "attention_biases")):
        return rng.normal(0, 1, shape)
    if name.endswith(("embed.weight", "token.weight", "tokens.weight")) or "point_embeddings" in name:
        return rng.normal(0, 1, shape)
    if len(shape) == 1:
        return rng.uniform(0.7, 1.3, shape) if name.endswith("weight") else rng.normal(0, 0.2, shape)
    transposed = "output_upscaling" in name  # (inputs, outputs, 2, 2): each output pixel sees one input pixel
    fan_in = shape[0] if transposed else int(np.prod(shape[1:]))
    return rng.normal(0, np.sqrt(1.5 / fan_in), shape)
