"""A training run: its beginning, its steps, its checkpoints. Needs torch."""

from dataclasses import replace

import numpy as np
import pytest

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore")]  # those of upstream's own imports

SIZE = 64


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """One process that averages its gradients with nobody."""
    import torch.distributed as dist

    store = tmp_path_factory.mktemp("store") / "store"
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def batch():
    from weights.train.loader import as_batch
    from weights.train.prompts import prompts
    from weights.train.scenes import scene

    return as_batch([prompts(np.random.default_rng(n), scene(3), 2, SIZE, SIZE) for n in range(2)])


def options(folder, **changed):
    from weights.train.train import Options

    usual = Options(folder, minutes=10, cooldown=0, lr=1e-3, images=2, prompts=2, processes=1, size=SIZE, paint=0)
    return replace(usual, **changed)


def steps(run, batch, seeds):
    """What the log says of each step: losses and the gradients' norm."""
    import torch

    found = []
    for seed in seeds:
        torch.manual_seed(seed)
        parts, norm = run.step(batch, np.random.default_rng(seed), extra=1, lr=1e-3)
        found.append([*parts.tolist(), norm])
    return found


def test_a_run_goes_on_from_its_checkpoint_as_if_it_had_not_stopped(alone, batch, tmp_path) -> None:
    from weights.train.train import Run

    run = Run(options(tmp_path))
    steps(run, batch, [0, 1])
    run.save(60.0)
    wanted = steps(run, batch, [2, 3])
    again = Run(options(tmp_path))
    assert again.number == 2
    assert steps(again, batch, [2, 3]) == wanted
    assert again.number == run.number == 4


def test_gradients_of_a_step_change_every_module_and_their_average_follows(alone, batch, tmp_path) -> None:
    import torch

    from weights.train.train import Run

    torch.manual_seed(0)
    run = Run(options(tmp_path))
    before = {name: p.clone() for name, p in run.both.named_parameters()}
    steps(run, batch, [0])
    moved = {name for name, p in run.both.named_parameters() if not p.equal(before[name])}
    for module in ("0.image_encoder.", "0.prompt_encoder.", "0.mask_decoder.", "1."):
        assert any(name.startswith(module) for name in moved), module
    for (name, mean), now in zip(run.ema.named_parameters(), run.sam.parameters(), strict=True):
        # after the first step (1 + 1) / (10 + 1) of the average is what was before
        expected = 2 / 11 * before["0." + name] + 9 / 11 * now
        assert torch.allclose(mean, expected, rtol=1e-5, atol=1e-7), name
    assert all(p.grad is None for p in run.both.parameters())


def test_while_the_rate_falls_the_constant_stretch_is_kept(tmp_path) -> None:
    from weights.train.train import Run

    run = Run(options(tmp_path, minutes=10, cooldown=4))
    run.save(5 * 60)
    kept = (tmp_path / "checkpoint.pt").read_bytes()
    run.number = 9
    run.save(7 * 60)
    assert (tmp_path / "checkpoint.pt").read_bytes() == kept
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.pt", "cooled.pt"]


def test_the_rate_warms_up_stays_and_falls_to_nothing(tmp_path) -> None:
    from weights.train.train import WARM_UP, Run

    run = Run(options(tmp_path, minutes=10, cooldown=4, lr=1e-3))
    assert run.learning_rate(0) == pytest.approx(1e-3 / WARM_UP)
    run.number = WARM_UP
    rates = [run.learning_rate(60 * minute) for minute in (0, 6, 8, 10, 11)]
    assert rates == pytest.approx([1e-3, 1e-3, 5e-4, 0, 0])


def test_a_run_begins_with_given_weights_and_the_head_of_a_checkpoint(alone, batch, tmp_path) -> None:
    import torch

    from weights.train.train import NEW_HEAD, NEW_MOMENTS, Run

    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    earlier = Run(options(first))
    steps(earlier, batch, [0])
    earlier.save(0)
    kept = first / "checkpoint.pt"
    run = Run(options(second, start=kept, head=kept))
    assert (run.number, run.born, run.warm_up, run.head_alone) == (1, 1, NEW_MOMENTS, NEW_MOMENTS)
    for mine, theirs in ((run.sam, earlier.ema), (run.ema, earlier.ema), (run.head, earlier.head)):
        for name, tensor in theirs.state_dict().items():
            assert tensor.equal(mine.state_dict()[name]), name
    assert Run(options(second, start=kept)).head_alone == NEW_HEAD
    torch.save({"step": 1, "ema": earlier.ema.state_dict()}, second / "mean.pt")
    with pytest.raises(ValueError, match=r"mean\.pt: it has no auxiliary head"):
        Run(options(second, start=kept, head=second / "mean.pt"))
