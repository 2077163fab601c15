"""The training loss against its definition, and which target a mask learns. Needs torch."""

from itertools import permutations

import numpy as np
import pytest

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore")]  # those of upstream's own imports


@pytest.fixture
def logits() -> np.ndarray:
    return np.random.default_rng(1).normal(0, 2, (5, 3, 6, 7)).astype(np.float32)


@pytest.fixture
def targets() -> np.ndarray:
    return np.random.default_rng(2).random((5, 3, 6, 7)).astype(np.float32)


def as_torch(*arrays):
    import torch

    return [torch.from_numpy(np.asarray(a)) for a in arrays]


def test_mask_loss_is_twenty_focal_and_dice(logits, targets) -> None:
    """Lin et al. 2017 with gamma 2 and no alpha, Milletari et al. 2016 with one added above and below; in float64."""
    from weights.train.losses import mask_loss

    p, t = 1 / (1 + np.exp(-logits.astype(np.float64))), targets.astype(np.float64)
    entropy = -(t * np.log(p) + (1 - t) * np.log(1 - p))
    focal = ((1 - np.exp(-entropy)) ** 2 * entropy).mean((2, 3))
    dice = 1 - (2 * (p * t).sum((2, 3)) + 1) / (p.sum((2, 3)) + t.sum((2, 3)) + 1)
    np.testing.assert_allclose(mask_loss(*as_torch(logits, targets)).numpy(), 20 * focal + dice, rtol=1e-5)


def test_iou_of_every_mask_with_every_target(logits, targets) -> None:
    from weights.train.losses import pairwise_iou

    found = pairwise_iou(*as_torch(logits, targets)).numpy()
    for n, m, k in np.ndindex(found.shape):
        a, b = logits[n, m] > 0, targets[n, k] > 0.5
        assert found[n, m, k] == pytest.approx((a & b).sum() / (a | b).sum())


def test_masks_answer_all_legal_levels_as_well_as_they_can_together() -> None:
    from weights.train.losses import LOSER_WEIGHT, match

    rng = np.random.default_rng(3)
    dice, legal = rng.random((40, 3, 3)).astype(np.float32), rng.random((40, 3)) < 0.6
    legal[:, 1] = True
    target, weight = (x.numpy() for x in match(*as_torch(dice, legal)))
    for n in range(40):
        levels = np.flatnonzero(legal[n])
        best = max(sum(dice[n, order[k], k] for k in levels) for order in permutations(range(3)))
        winners = np.flatnonzero(weight[n] > LOSER_WEIGHT)
        assert sorted(target[n, winners]) == levels.tolist()
        assert sum(dice[n, m, target[n, m]] for m in winners) == pytest.approx(best, rel=1e-5)
        assert weight[n, winners] == pytest.approx(1 / len(levels))
        assert all(legal[n, k] for k in target[n])


def test_a_perfect_answer_costs_next_to_nothing_and_a_wrong_rank_more() -> None:
    from weights.train.losses import sam_loss

    truth = np.zeros((2, 3, 8, 8), np.float32)
    truth[:, 0, :2], truth[:, 1, :4], truth[:, 2, :7] = 1, 1, 1
    masks = 40 * truth[:, [1, 0, 1, 2]] - 20
    asked = as_torch(truth, np.ones((2, 3), bool), np.ones(2, np.int64))
    perfect, log = sam_loss(*as_torch(masks, np.ones((2, 4), np.float32)), *asked)
    assert float(perfect) < 1e-3
    np.testing.assert_allclose(log[3:], 1)
    misjudged, _ = sam_loss(*as_torch(masks, np.full((2, 4), 0.5, np.float32)), *asked)
    assert float(misjudged - perfect) == pytest.approx(3 * 0.25)


def test_cells_of_one_group_shall_be_near() -> None:
    """Vectors that are equal within a group and far between groups cost less than the same vectors shuffled."""
    import torch

    from weights.train.grouping import GroupingHead

    torch.manual_seed(0)
    head, groups = GroupingHead(8), torch.arange(16).view(4, 4) // 4
    labels = groups.repeat_interleave(4, 0).repeat_interleave(4, 1).expand(1, 2, 16, 16)
    head.vectors.bias.data.zero_()
    features = torch.nn.functional.one_hot(groups, 8).permute(2, 0, 1)[None].float() * 5
    assert head.loss(features, labels) < head.loss(features[:, :, torch.randperm(4)], labels)
