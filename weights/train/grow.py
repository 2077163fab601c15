"""Give trained weights more blocks, which change nothing yet: `python -m weights.train.grow START GROWN.pt --folder RUN`.

START is what `stored.py` opens, with fewer blocks in some stages than DEMO in model.py has. A stage's new blocks follow its
trained ones and are copies of its last ones, so that what they look at means something from the first step; only what they
add is zero. Their convolution passes the middle of its window on, and the BatchNorm after it gives back the means and
variances that it takes away, which are counted here on pictures of training. The result has weights only: train.py --start
begins with it, and --new names its blocks.
"""

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from .model import DEMO, Sam, normalise
from .settle import training_pictures
from .stored import stored
from .train import save

ATTENTION_STAGES = (1, 2, 3)  # a block of stage 0 ends with GELU, which no weights make an identity


def new_blocks(depths: Sequence[int], wanted: Sequence[int]) -> list[tuple[int, int]]:
    """(stage, block) of what `wanted` depths have and `depths` have not. Raises ValueError where a stage cannot grow so."""
    for stage, (now, then) in enumerate(zip(depths, wanted, strict=True)):
        if then < now or then > 2 * now or (then > now and stage not in ATTENTION_STAGES):
            raise ValueError(
                f"depths {tuple(depths)} cannot grow to {tuple(wanted)}: stage {stage} may have from {now}"
                f" to {2 * now if stage in ATTENTION_STAGES else now} blocks"
            )
    return [(stage, block) for stage in ATTENTION_STAGES for block in range(depths[stage], wanted[stage])]


def name(stage: int, block: int) -> str:
    """A block's name in the state dict."""
    return f"image_encoder.layers.{stage}.blocks.{block}"


@torch.no_grad()
def channel_statistics(sam: Sam, stages: Iterable[int], batches: Iterable[Tensor]) -> dict[int, tuple[Tensor, Tensor]]:
    """Mean and variance of each channel of what the last block of a stage gives, on pictures (B, S, S, 3), uint8."""
    seen: dict[int, list[Tensor]] = {stage: [] for stage in stages}

    def look(stage: int, output: Tensor) -> None:
        seen[stage].append(torch.stack([output.mean((0, 1)), output.square().mean((0, 1))]))

    hooks = [
        sam.image_encoder.layers[stage].blocks[-1].register_forward_hook(lambda _m, _i, output, stage=stage: look(stage, output))
        for stage in seen
    ]
    for images in batches:
        sam.encode(normalise(images))
    for hook in hooks:
        hook.remove()
    moments = {stage: torch.stack(kept).mean(0) for stage, kept in seen.items()}
    return {stage: (mean, square - mean**2) for stage, (mean, square) in moments.items()}


@torch.no_grad()
def make_identity(block: nn.Module, mean: Tensor, variance: Tensor) -> None:
    """Let a block give what it gets, whose channels have these means and variances."""
    for last in (block.attn.proj, block.mlp.fc2):
        last.weight.zero_()
        last.bias.zero_()
    conv, norm = block.local_conv.c, block.local_conv.bn
    conv.weight.zero_()
    conv.weight[..., 1, 1] = 1
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
    norm.bias.copy_(mean)
    norm.weight.copy_((variance + norm.eps).sqrt())


def grown(sam: Sam, depths: tuple[int, int, int, int], pictures: Iterable[Tensor]) -> Sam:
    """The model with more blocks. Raises ValueError as `new_blocks`."""
    added = new_blocks(sam.config.depths, depths)
    larger = Sam(replace(sam.config, depths=depths)).eval()
    state = larger.state_dict() | sam.state_dict()
    for stage, block in added:
        copied = sam.get_submodule(name(stage, block - (depths[stage] - sam.config.depths[stage])))
        state |= {f"{name(stage, block)}.{key}": value for key, value in copied.state_dict().items()}
    larger.load_state_dict(state)
    statistics = channel_statistics(sam, {stage for stage, _ in added}, pictures)
    for stage, block in added:
        make_identity(larger.get_submodule(name(stage, block)), *statistics[stage])
    return larger


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("start", type=Path)
    parser.add_argument("to", type=Path)
    parser.add_argument("--folder", type=Path, required=True, help="of a run, which has painted scenes")
    parser.add_argument("--batches", type=int, default=20, help="of pictures that statistics are counted on")
    args = parser.parse_args()
    if args.batches < 1:
        parser.error(f"--batches {args.batches}: at least 1")
    sam, steps = stored(args.start)
    try:
        larger = grown(sam, DEMO.depths, training_pictures(args.folder, steps, args.batches))
    except ValueError as error:
        parser.error(str(error))
    save(args.to, {"step": steps, "size": larger.config.image_size, "ema": larger.state_dict()})
    print(f"{args.to.name}: new blocks for --new:", *(name(*each) for each in new_blocks(sam.config.depths, DEMO.depths)))


if __name__ == "__main__":
    main()
