"""Count BatchNorm's statistics of finished weights anew: `python -m weights.train.settle MEAN.pt SETTLED.pt --folder RUN`.

A run ends with the statistics of its last ten batches or so, half of them of parts of pictures, and the mean of several runs'
is not what their mean computes. Here they are counted on whole pictures, as training draws them; no other weight changes.
"""

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from .loader import Kind, Loader
from .model import DEMO, Sam, normalise
from .photo_scenes import photo_scenes
from .photos import labelled_photos
from .stored import stored
from .train import save

PICTURES = 4  # in a batch
PLAIN = 0.6  # of them are as evaluation has them


@torch.no_grad()
def count_statistics(sam: Sam, batches: Iterable[Tensor]) -> None:
    """BatchNorm's means and variances become the mean of those of all batches of pictures (B, S, S, 3), uint8."""
    norms = [m for m in sam.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [m.momentum for m in norms]
    for m in norms:
        m.reset_running_stats()
        m.momentum = None  # all batches count alike
        m.train()
    for images in batches:
        sam.encode(normalise(images))
    for m, momentum in zip(norms, momenta, strict=True):
        m.momentum = momentum
        m.eval()


def training_pictures(folder: Path, seed: int, batches: int) -> Iterator[Tensor]:
    """So many batches (PICTURES, S, S, 3), uint8, of whole pictures as training draws them from what a run has painted."""
    size = DEMO.image_size
    loader = Loader(folder / "pool", [0, seed], [Kind(PICTURES, 1, size)], size, photo_scenes(labelled_photos(), folder), PLAIN)
    return (loader.next()["image"] for _ in range(batches))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="a checkpoint or a .safetensors file")
    parser.add_argument("to", type=Path)
    parser.add_argument("--folder", type=Path, required=True, help="of a run, which has painted the scenes that are counted on")
    parser.add_argument("--batches", type=int, default=120, help=f"of {PICTURES} pictures")
    args = parser.parse_args()
    if args.batches < 1:
        parser.error(f"--batches {args.batches}: at least 1")
    sam, steps = stored(args.weights)
    count_statistics(sam, training_pictures(args.folder, steps, args.batches))
    save(args.to, {"step": steps, "size": sam.config.image_size, "ema": sam.state_dict()})
    print(f"{args.to.name}: statistics of {args.batches * PICTURES} pictures, step {steps}")


if __name__ == "__main__":
    main()
