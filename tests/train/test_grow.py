"""Trained weights with more blocks. Needs torch."""

from dataclasses import replace

import pytest

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore")]  # those of upstream's own imports


@pytest.fixture(scope="module")
def models():
    """A small model whose statistics are those of some pictures, the same with two more blocks, and these pictures."""
    import torch

    from weights.train.grow import grown
    from weights.train.model import DEMO, Sam, at_size
    from weights.train.settle import count_statistics

    torch.manual_seed(3)
    sam = Sam(replace(at_size(DEMO, 64), depths=(1, 2, 2, 1))).eval()
    pictures = [torch.randint(0, high, (2, 64, 64, 3), dtype=torch.uint8) for high in (90, 256)]
    count_statistics(sam, pictures)
    return sam, grown(sam, (1, 3, 3, 1), pictures), pictures


def test_new_blocks_change_nothing(models) -> None:
    """Beyond rounding: each passes a BatchNorm whose scale undoes it, twice an error of some 1e-7."""
    import torch

    from weights.train.model import normalise

    sam, larger, pictures = models
    assert larger.config.depths == (1, 3, 3, 1)
    with torch.inference_mode():
        before, after = (each.encode(normalise(pictures[1])) for each in (sam, larger))
    assert torch.linalg.norm(after - before) < 1e-5 * torch.linalg.norm(before)


def test_new_blocks_learn_from_the_first_step(models) -> None:
    """What they look at is there already: the projections that are zero have gradients, of both branches."""
    from weights.train.model import normalise

    larger, pictures = models[1:]
    larger.encode(normalise(pictures[0])).square().sum().backward()
    for stage in (1, 2):
        block = larger.image_encoder.layers[stage].blocks[2]
        for last in (block.attn.proj, block.mlp.fc2):
            assert not last.weight.any()
            assert float(last.weight.grad.abs().max()) > 0


def test_in_training_batches_of_like_pictures_pass_as_they_are(models) -> None:
    """BatchNorm then takes the batch's own statistics away and gives those back that were counted."""
    import torch

    from weights.train.model import normalise

    _, larger, pictures = models
    block = larger.image_encoder.layers[1].blocks[2]
    inputs: list[torch.Tensor] = []
    hook = block.register_forward_hook(lambda _module, given, output: inputs.extend([given[0], output]))
    with torch.inference_mode():
        larger.encode(normalise(torch.cat(pictures)))
        given, _ = inputs
        block.train()
        trained = block(given)
    hook.remove()
    block.eval()
    assert torch.linalg.norm(trained - given) < 0.01 * torch.linalg.norm(given)


@pytest.mark.parametrize("wanted", [(2, 2, 3, 1), (1, 1, 3, 1), (1, 5, 3, 1)])
def test_what_cannot_grow_is_refused(wanted: tuple[int, int, int, int]) -> None:
    from weights.train.grow import new_blocks

    with pytest.raises(ValueError, match=r"depths \(1, 2, 3, 1\) cannot grow to .*: stage [01] may have from"):
        new_blocks((1, 2, 3, 1), wanted)
    assert new_blocks((1, 2, 3, 1), (1, 3, 5, 1)) == [(1, 2), (2, 3), (2, 4)]


def test_new_blocks_have_a_rate_of_their_own(models) -> None:
    from weights.train.grow import name
    from weights.train.train import NEW_RATE, optimizer

    larger = models[1]
    opt = optimizer(larger, 1e-3, (name(1, 2), name(2, 2)))
    fast = {id(p) for group in opt.param_groups if group["rate"] == NEW_RATE for p in group["params"]}
    wanted = {id(p) for stage in (1, 2) for p in larger.get_submodule(name(stage, 2)).parameters()}
    assert fast == wanted
    assert sum(len(group["params"]) for group in opt.param_groups) == len(list(larger.parameters()))
    assert {group["rate"] for group in optimizer(larger, 1e-3).param_groups} == {1.0}
    with pytest.raises(ValueError, match=r"layers\.1\.blocks\.9: the model has no such module"):
        optimizer(larger, 1e-3, (name(1, 9),))
