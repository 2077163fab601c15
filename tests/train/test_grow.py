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


def test_blocks_that_end_with_gelu_pass_what_they_get_and_learn_different_things(models) -> None:
    """Two more of stage 0: each changes a number by at most 0.014; and their scales, zero now, have gradients."""
    import torch

    from weights.train.grow import grown, name
    from weights.train.model import normalise

    sam, _, pictures = models
    larger, given = grown(sam, (3, 2, 2, 1), pictures), {}
    for model, last in ((sam, 0), (larger, 2)):
        block = model.get_submodule(name(0, last))
        block.register_forward_hook(lambda _module, _given, output, last=last: given.update({last: output}))
        model.encode(normalise(pictures[1])).square().sum().backward()
    assert 0 < float((given[2] - given[0]).abs().max()) < 2 * 0.014
    assert float(given[0].abs().max()) > 1
    scales = [larger.get_submodule(name(0, block)).conv3.bn.weight for block in (1, 2)]
    assert not any(scale.any() for scale in scales)
    assert all(float(scale.grad.abs().max()) > 0 for scale in scales)
    assert torch.linalg.norm(scales[0].grad - scales[1].grad) > 0.1 * torch.linalg.norm(scales[0].grad)


@pytest.mark.parametrize(("wanted", "stage"), [((0, 2, 3, 1), 0), ((1, 1, 3, 1), 1), ((1, 5, 2, 1), 2)])
def test_a_stage_does_not_lose_blocks(wanted: tuple[int, int, int, int], stage: int) -> None:
    from weights.train.grow import new_blocks

    with pytest.raises(ValueError, match=rf"depths \(1, 2, 3, 1\) cannot grow to .*: stage {stage} has {stage + 1} blocks"):
        new_blocks((1, 2, 3, 1), wanted)
    assert new_blocks((1, 2, 3, 1), (3, 2, 5, 1)) == [(0, 1), (0, 2), (2, 3), (2, 4)]


def test_a_checkpoint_has_the_blocks_that_it_was_kept_with(models, tmp_path) -> None:
    import torch

    from weights.train.stored import stored

    larger = models[1]
    torch.save({"step": 7, "ema": larger.state_dict()}, tmp_path / "larger.pt")
    opened, steps = stored(tmp_path / "larger.pt")
    assert (opened.config.depths, steps) == ((1, 3, 3, 1), 7)


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
