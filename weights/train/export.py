"""Write weights/demo.safetensors from a checkpoint: `python -m weights.train.export CHECKPOINT --scores SCORES.json`.

Upstream's names, float16, the config and where the weights come from in the metadata. What the graph does not use (the
auxiliary head, BatchNorm's counters) stays out.
"""

import argparse
import datetime
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from refsam.checkpoint import save

from .model import Sam
from .stored import stored

TARGET = Path(__file__).parents[1] / "demo.safetensors"
LIMIT = 12_000_000  # bytes


def tensors(sam: Sam) -> dict[str, NDArray[np.float32]]:
    """The tensors of the model. Raises ValueError where a variance would vanish in float16 and divide by next to nothing."""
    found = {k: v.numpy() for k, v in sam.state_dict().items() if "num_batches_tracked" not in k}
    lost = [k for k, v in found.items() if k.endswith("running_var") and not v.astype(np.float16).all()]
    if lost:
        raise ValueError(f"variances that vanish in float16: {lost}")
    return found


def metadata(steps: int, scores: dict[str, object]) -> dict[str, str]:
    """What a reader of the file must know; values are strings, as safetensors wants them."""
    return {
        "format": "pt",
        "name": "refsam demo",
        "architecture": "MobileSAM (TinyViT encoder, SAM prompt encoder and mask decoder), smaller widths",
        "steps": str(steps),  # from here train.py --start goes on
        "training": f"{steps} steps from random weights on scenes and photographs; see weights/train and weights/CARD.md",
        "scores": json.dumps(scores),
        "date": datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat(),
        "licence": "Apache-2.0",
    }


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--scores", type=Path, help="what evaluate.py --json wrote for this checkpoint")
    parser.add_argument("--to", type=Path, default=TARGET)
    args = parser.parse_args()
    sam, steps = stored(args.checkpoint)
    scores = json.loads(args.scores.read_text())["scores"] if args.scores else {}
    save(args.to, tensors(sam), sam.config, metadata(steps, scores), "float16")
    size = args.to.stat().st_size
    print(f"{args.to.name}: {size:,} bytes, step {steps}")
    if size > LIMIT:
        raise SystemExit(f"larger than {LIMIT:,} bytes")


if __name__ == "__main__":
    main()
