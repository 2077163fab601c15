"""The mean of weights as a checkpoint: `python -m weights.train.average RUN/mean.pt weights/demo.safetensors RUN/cooled.pt ...`.

Of stretches that went on from one another and learned different things (parts of pictures, whole ones) the mean has a better
box than either (weights/train/README.md). BatchNorm's statistics are averaged like the weights. Each is a checkpoint or a
.safetensors file. The result has weights only: evaluate.py and export.py take it, and train.py --start begins with it.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from .model import DEMO
from .stored import stored
from .train import save


def mean(states: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Tensor by tensor; of counters, which are integers, the last state's."""
    return {
        name: torch.stack([state[name] for state in states]).mean(0) if last.is_floating_point() else last
        for name, last in states[-1].items()
    }


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("to", type=Path)
    parser.add_argument("weights", type=Path, nargs="+")
    args = parser.parse_args()
    models, steps = zip(*map(stored, args.weights), strict=True)
    if len(depths := {sam.config.depths for sam in models}) > 1:
        parser.error(f"models of different depths have no mean: {', '.join(map(str, sorted(depths)))}")
    save(args.to, {"step": max(steps), "size": DEMO.image_size, "ema": mean([sam.state_dict() for sam in models])})
    print(f"{args.to.name}: the mean of {len(models)}, step {max(steps)}")


if __name__ == "__main__":
    main()
