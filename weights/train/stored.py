"""Weights of the torch twin from a file: a training checkpoint, or what was exported."""

from pathlib import Path

import torch

from refsam import checkpoint

from .model import DEMO, Sam, fit_biases


def stored(path: Path) -> tuple[Sam, int]:
    """The model of a checkpoint (.pt; its averaged weights, as DEMO) or of a file that refsam opens, for evaluation, and the
    number of steps that it was trained for (0 where the file does not say)."""
    if path.suffix == ".pt":
        kept = torch.load(path, map_location="cpu", weights_only=True)
        config, state, steps = DEMO, kept["ema"], kept["step"]
    else:
        opened = checkpoint.load(path)
        config, steps = opened.config, int(opened.metadata.get("steps", 0))
        state = {name: torch.from_numpy(tensor) for name, tensor in opened.tensors.items()}
    sam = Sam(config)
    sam.load_state_dict(fit_biases({**sam.state_dict(), **state}, sam))
    return sam.eval(), steps
