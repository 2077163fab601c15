"""The mean of checkpoints' weights as one more checkpoint: `python -m weights.train.average RUN/mean.pt RUN/a.pt RUN/b.pt ...`.

Of stretches that went on from one another and learned different things (parts of pictures, whole ones) the mean has a better
box than either (weights/train/README.md). BatchNorm's statistics are averaged like the weights. The result has weights only:
evaluate.py and export.py take it, train.py does not go on from it.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from .model import DEMO, Sam, fit_biases
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
    parser.add_argument("checkpoints", type=Path, nargs="+")
    args = parser.parse_args()
    states = [torch.load(path, map_location="cpu", weights_only=True) for path in args.checkpoints]
    sam = Sam(DEMO)
    step = max(state["step"] for state in states)
    save(args.to, {"step": step, "size": DEMO.image_size, "ema": mean([fit_biases(state["ema"], sam) for state in states])})
    print(f"{args.to.name}: the mean of {len(states)}, step {step}")


if __name__ == "__main__":
    main()
