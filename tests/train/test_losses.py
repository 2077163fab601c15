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
    masks[:, 2] = -20
    losses = []
    for worst in 0.0, 1.0:
        predicted = np.ones((2, 4), np.float32)
        predicted[:, 2] = worst
        losses.append(sam_loss(*as_torch(masks, predicted), *asked)[0])
    assert float(losses[1] - losses[0]) == pytest.approx(3 * 0.25 + 1 / 3, abs=1e-4)  # squared error, and a choice of three alike


def test_an_edge_inside_a_cell_costs_less_than_one_that_is_moved_to_the_cells_own() -> None:
    """Seven of sixteen columns are of the object, three and a half of the logits' eight: at its own place the zero between
    the logits has an IoU of one, at the fourth cell's edge of 7 / 8."""
    from weights.train.losses import sam_loss

    truth = np.zeros((1, 3, 16, 16), np.float32)
    truth[..., :7] = 1
    asked = as_torch(np.ones((1, 4), np.float32), truth, np.array([[False, True, False]]), np.ones(1, np.int64))
    exact = np.array([9, 9, 9, 0, -9, -9, -9, -9], np.float32)
    moved = np.where(exact >= 0, 9, -9).astype(np.float32)
    found = [sam_loss(*as_torch(np.broadcast_to(row, (1, 4, 8, 8)).copy()), *asked) for row in (exact, moved)]
    assert [float(log[4]) for _, log in found] == pytest.approx([1, 7 / 8])
    assert found[0][0] < found[1][0]


@pytest.fixture
def grouping():
    """A head whose every pixel has its cell's first features, and 4 x 4 cells in four groups: features and labels."""
    import torch

    from weights.train.grouping import DIM, SIDE, GroupingHead

    torch.manual_seed(0)
    head, groups = GroupingHead(DIM), torch.arange(16).view(4, 4) // 4
    with torch.no_grad():
        head.vectors.bias.zero_()
        head.vectors.weight.copy_(torch.eye(DIM).repeat(2 * SIDE**2, 1))
    labels = groups.repeat_interleave(SIDE, 0).repeat_interleave(SIDE, 1).expand(1, 2, 4 * SIDE, 4 * SIDE)
    return head, torch.nn.functional.one_hot(groups, DIM).permute(2, 0, 1)[None].float() * 5, labels


def test_pixels_of_one_group_shall_be_near(grouping) -> None:
    """The offset of 2 alone is what is left of the cost of pixels at one place: log(1 + exp(-2)), half of the weight, twice."""
    import torch

    head, features, labels = grouping
    with torch.no_grad():
        assert float(head.loss(features, labels)) == pytest.approx(np.log1p(np.exp(-2)), rel=1e-3)
        assert head.loss(features.transpose(2, 3), labels) > 5


def test_an_edge_inside_a_cell_has_to_be_told_by_its_pixels(grouping) -> None:
    """Shifted by half a cell, groups end inside cells: vectors that are the cell's own cannot say where."""
    import torch

    head, features, labels = grouping
    with torch.no_grad():
        assert head.loss(features, labels.roll(4, 2)) > 3


def test_vectors_of_pixels_are_in_the_pictures_order() -> None:
    import torch

    from weights.train.grouping import DIM, SIDE, GroupingHead

    head, cells = GroupingHead(5), torch.randn(2, 3, 4, 5)
    with torch.no_grad():
        found, each = head(cells), head.vectors(cells).view(2, 3, 4, 2, SIDE, SIDE, DIM)
    assert found.shape == (2, 2, 3 * SIDE, 4 * SIDE, DIM)
    np.testing.assert_array_equal(found[1, 1, 2 * SIDE + 3, 3 * SIDE + 5], each[1, 2, 3, 1, 3, 5])


def test_the_choice_loses_what_the_masks_differ_by() -> None:
    """Against its definition in float64; nothing where the best mask is by far the best predicted or all are alike, and what a
    wrong favourite lacks."""
    from weights.train.losses import SHARPNESS, choice_loss

    rng = np.random.default_rng(4)
    predicted, true = rng.random((2, 6, 3)).astype(np.float32)
    odds = np.exp(SHARPNESS * predicted.astype(np.float64))
    odds /= odds.sum(1, keepdims=True)
    wanted = (true.max(1) - (odds * true).sum(1)).mean()
    assert float(choice_loss(*as_torch(predicted, true))) == pytest.approx(wanted, rel=1e-5)
    true = np.float32([[0.2, 0.9, 0.4]])
    for favourite, lost in ([0, 2, 0], 0.0), ([0, 0, 2], 0.5), ([2, 0, 0], 0.7):
        assert float(choice_loss(*as_torch(np.float32([favourite]), true))) == pytest.approx(lost, abs=1e-5)
    assert float(choice_loss(*as_torch(predicted, np.full_like(predicted, 0.3)))) == pytest.approx(0, abs=1e-6)
