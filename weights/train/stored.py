"""Weights of the torch twin from a file: a training checkpoint, or what was exported."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch

from refsam import checkpoint

from .model import DEMO, Sam, fit_biases


def stored(path: Path) -> tuple[Sam, int]:
    """The model of a checkpoint (.pt; its averaged weights, as DEMO with the blocks that it has) or of a file that refsam opens,
    for evaluation, and the number of steps that it was trained for (0 where the file does not say)."""
    if path.suffix == ".pt":
        kept = torch.load(path, map_location="cpu", weights_only=True)
        state, steps = kept["ema"], kept["step"]
        config = replace(DEMO, depths=depths(state))
    else:
        opened = checkpoint.load(path)
        config, steps = opened.config, int(opened.metadata.get("steps", 0))
        state = {name: torch.from_numpy(tensor) for name, tensor in opened.tensors.items()}
    sam = Sam(config)
    sam.load_state_dict(fit_biases({**sam.state_dict(), **state}, sam))
    return sam.eval(), steps


def depths(names: Iterable[str]) -> tuple[int, ...]:
    """How many blocks each stage of the encoder has, by the names of its tensors: image_encoder.layers.STAGE.blocks.BLOCK.*"""
    blocks = {tuple(name.split(".")[2:5:2]) for name in names if name.startswith("image_encoder.layers.") and ".blocks." in name}
    return tuple(sum(stage == str(n) for stage, _ in blocks) for n in range(len(DEMO.depths)))
