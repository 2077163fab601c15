"""SAM's loss for a set of legal answers: focal and dice on matched masks, squared error on the predicted IoU; and the IoU
that the choice by these predictions loses."""

from itertools import permutations

import torch
import torch.nn.functional as F
from torch import Tensor

FOCAL_WEIGHT = 20.0
SINGLE_WEIGHT = 2.0  # of the mask that answers boxes and corrections, beside a click's three; 1 up to B in README.md
RANKING_WEIGHT = 3.0  # the squared error of the predicted IoU is small, and decides which mask a user sees first
CHOICE_WEIGHT, SHARPNESS = 1.0, 20.0  # of the IoU lost by the choice; how much surer of a mask by a predicted IoU 1 greater
LOSER_WEIGHT = 0.05  # masks without a target keep a weak pull to their nearest one, so that none of them dies
OBJECT = 1
ORDERS = torch.tensor(list(permutations(range(3))))  # (6, 3): the mask that answers each level


def enlarge(logits: Tensor, targets: Tensor) -> Tensor:
    """Logits (N, M, h, w) at the size of the targets (..., H, W), enlarged bilinearly as masks are in use.

    Dice of coverage at the logits' own size is least for cells that are all in or all out: edges in steps of four pixels,
    although logits that pass through zero in between would put them exactly.
    """
    return F.interpolate(logits, targets.shape[-2:], mode="bilinear", align_corners=False)


def mask_loss(logits: Tensor, target: Tensor) -> Tensor:
    """20 x focal + dice of logits (N, M, H, W) against coverage (N, M, H, W) in 0..1; (N, M)."""
    bce = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    focal = ((1 - torch.exp(-bce)) ** 2 * bce).flatten(2).mean(-1)
    p, t = logits.sigmoid().flatten(2), target.flatten(2)
    dice = 1 - (2 * (p * t).sum(-1) + 1) / (p.sum(-1) + t.sum(-1) + 1)
    return FOCAL_WEIGHT * focal + dice


def pairwise_iou(logits: Tensor, targets: Tensor) -> Tensor:
    """IoU of every thresholded mask (N, M, H, W) with every thresholded target (N, K, H, W); (N, M, K)."""
    a, b = (logits > 0).flatten(2).float(), (targets > 0.5).flatten(2).float()
    both = a @ b.transpose(1, 2)
    either = a.sum(-1)[..., None] + b.sum(-1)[:, None] - both
    return both / either.clamp(min=1)


def pairwise_dice(logits: Tensor, targets: Tensor) -> Tensor:
    """Soft dice of every mask with every target, (N, M, K): a smooth score to match them by."""
    a, b = logits.sigmoid().flatten(2), targets.flatten(2)
    return (2 * a @ b.transpose(1, 2) + 1) / (a.sum(-1)[..., None] + b.sum(-1)[:, None] + 1)


def match(dice: Tensor, legal: Tensor) -> tuple[Tensor, Tensor]:
    """Which target each of the three masks learns.

    Args: dice (N, 3, 3) masks by targets; legal (N, 3) bool.
    Returns: target (N, 3) per mask, weight (N, 3): 1 shared among the winners, LOSER_WEIGHT for the others.
    """
    n = torch.arange(len(dice))[:, None]
    score = dice[n[..., None], ORDERS, torch.arange(3)] * legal[:, None]  # (N, 6, 3)
    answering = ORDERS[score.sum(-1).argmax(-1)]  # (N, 3): mask per level
    nearest = dice.masked_fill(~legal[:, None], -1).argmax(-1)
    target, weight = nearest.clone(), torch.full_like(dice[..., 0], LOSER_WEIGHT)
    share = 1 / legal.sum(-1, keepdim=True).float().expand(-1, 3)
    for level in range(3):
        rows = legal[:, level].nonzero()[:, 0]
        target[rows, answering[rows, level]] = level
        weight[rows, answering[rows, level]] = share[rows, level]
    return target, weight


def choice_loss(iou: Tensor, true_iou: Tensor) -> Tensor:
    """How much IoU is lost, on average, by choosing a mask by predictions (N, M) instead of the truth (N, M).

    Which mask a user sees first hangs on the sign of differences alone, however small; the squared error knows neither.
    """
    odds = (SHARPNESS * iou).softmax(-1)
    return (true_iou.amax(-1) - (odds * true_iou).sum(-1)).mean()


def sam_loss(logits: Tensor, iou: Tensor, targets: Tensor, legal: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
    """The loss of one decoder call, and for the log: its three parts, the true IoU of the mask ranked first, of mask 0.

    Args:
        logits (N, 4, h, w), iou (N, 4): the decoder's output, mask 0 the single one.
        targets (N, 3, H, W): coverage of part, object, whole; the logits are enlarged to that size.
        legal (N, 3): the levels that this prompt may mean (one, unless it is a single click).
        level (N,): the level that mask 0 answers.
    """
    n = torch.arange(len(logits))
    logits = enlarge(logits, targets)
    with torch.no_grad():
        target, weight = match(pairwise_dice(logits[:, 1:], targets), legal)
        true_iou = pairwise_iou(logits, targets).masked_fill(~legal[:, None], 0).amax(-1)
    wanted = torch.cat([targets[n, level][:, None], targets[n[:, None], target]], 1)
    each = mask_loss(logits, wanted)
    single, several = each[:, 0].mean(), (each[:, 1:] * weight).sum(-1).mean()
    ranking = F.mse_loss(iou, true_iou)
    first = true_iou[n, 1 + iou[:, 1:].argmax(-1)].mean()
    log = torch.stack([single, several, ranking, first, true_iou[:, 0].mean()]).detach()
    choice = choice_loss(iou[:, 1:], true_iou[:, 1:])
    return SINGLE_WEIGHT * single + several + RANKING_WEIGHT * ranking + CHOICE_WEIGHT * choice, log
