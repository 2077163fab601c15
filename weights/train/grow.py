"""Give trained weights more blocks, which change nothing yet: `python -m weights.train.grow START GROWN.pt --folder RUN`.

START is what `stored.py` opens, with fewer blocks in some stages than DEMO in model.py has. A stage's new blocks follow its
trained ones and are copies of its last ones, so that what they look at means something from the first step; only what they
add is zero. The result has weights only: train.py --start begins with it, and --new names its blocks.

Blocks with attention have a convolution that all passes: it gives the middle of its window, and the BatchNorm after it gives back
the means and variances that it takes away, which are counted here on pictures of training. Blocks of stage 0 end with GELU,
which changes what it gets; but not where that is LIFT greater. So the last trained block adds LIFT, and the last new one takes it
away: GELU(GELU(x + 3) - 3) is GELU(x) within 0.014, and with a second new block within 0.028.
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

CONVOLUTIONS = 0  # the stage whose blocks have no attention
LIFT = 3.0


def new_blocks(depths: Sequence[int], wanted: Sequence[int]) -> list[tuple[int, int]]:
    """(stage, block) of what `wanted` depths have and `depths` have not. Raises ValueError where a stage would lose blocks."""
    for stage, (now, then) in enumerate(zip(depths, wanted, strict=True)):
        if then < now:
            raise ValueError(f"depths {tuple(depths)} cannot grow to {tuple(wanted)}: stage {stage} has {now} blocks already")
    return [(stage, block) for stage, now in enumerate(depths) for block in range(now, wanted[stage])]


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


@torch.no_grad()
def lift_over(blocks: Sequence[nn.Module]) -> None:
    """Let what the first of these blocks of stage 0 gives be what all together give; the others are copies of it.

    Copies of one block would learn the same: the n-th has its 3x3 kernels turned by n quarters.
    """
    blocks[0].conv3.bn.bias += LIFT
    for turns, block in enumerate(blocks[1:], 1):
        block.conv2.c.weight.copy_(block.conv2.c.weight.rot90(turns, (2, 3)))
        block.conv3.bn.weight.zero_()
        block.conv3.bn.bias.zero_()
    blocks[-1].conv3.bn.bias -= LIFT


def grown(sam: Sam, depths: tuple[int, int, int, int], pictures: Iterable[Tensor]) -> Sam:
    """The model with more blocks. Raises ValueError as `new_blocks`."""
    added = new_blocks(sam.config.depths, depths)
    larger = Sam(replace(sam.config, depths=depths)).eval()
    state = larger.state_dict() | sam.state_dict()
    for stage, block in added:
        trained = sam.config.depths[stage]
        copied = sam.get_submodule(name(stage, trained - 1 - (depths[stage] - 1 - block) % trained))
        state |= {f"{name(stage, block)}.{key}": value for key, value in copied.state_dict().items()}
    larger.load_state_dict(state)
    statistics = channel_statistics(sam, {stage for stage, _ in added if stage != CONVOLUTIONS}, pictures)
    for stage, block in added:
        if stage != CONVOLUTIONS:
            make_identity(larger.get_submodule(name(stage, block)), *statistics[stage])
    if depths[CONVOLUTIONS] > sam.config.depths[CONVOLUTIONS]:
        lift_over(list(larger.image_encoder.layers[CONVOLUTIONS].blocks)[sam.config.depths[CONVOLUTIONS] - 1 :])
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
