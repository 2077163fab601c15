"""An auxiliary loss for the encoder: which pixels belong together. It is dropped at export.

Six prompts say little about a picture with thirty parts. A linear head on the image embedding gives each pixel of a target
two short vectors; pixels of one object (first vector) or one part (second) shall be near, all others far. It teaches the
encoder from everything in the picture, costs next to nothing, and asks of it what the mask decoder needs: far pixels say
what belongs together, near ones where its edge is.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .prompts import TARGET_PIXEL

DIM = 12
SIDE = 16 // TARGET_PIXEL  # pixels of a target in a row of a cell of the embedding
SITES, NEAR, FAR = 32, 32, 8  # squares of two by two cells; pixels of each that are compared within it, and with other sites'


class GroupingHead(nn.Module):
    """A linear layer from a cell's embedding (C,) to two vectors (DIM,) for each pixel of a target in it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.vectors = nn.Linear(channels, 2 * SIDE**2 * DIM)
        self.offset = nn.Parameter(torch.full((2, 1, 1), 2.0))

    def forward(self, embeddings: Tensor) -> Tensor:
        """(..., h, w, C) -> (..., 2, SIDE h, SIDE w, DIM)."""
        x = self.vectors(embeddings).unflatten(-1, (2, SIDE, SIDE, DIM))  # (..., h, w, 2, SIDE, SIDE, DIM)
        rows = x.movedim(-4, -6).movedim(-3, -4)  # (..., 2, h, SIDE, w, SIDE, DIM)
        return rows.flatten(-5, -4).flatten(-3, -2)

    def loss(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Cross entropy of "same group" on random pairs of pixels near one another, plus that of pixels anywhere.

        Args: embeddings (B, C, G, G); labels (B, 2, S/2, S/2).
        """
        corners = torch.randint(0, embeddings.shape[-1] - 1, (SITES, 2)).tolist()
        cells = torch.stack([embeddings[..., y : y + 2, x : x + 2] for y, x in corners], 1)
        groups = torch.stack([labels[..., SIDE * y : SIDE * (y + 2), SIDE * x : SIDE * (x + 2)] for y, x in corners], 1)
        chosen = torch.randperm((2 * SIDE) ** 2)[:NEAR]
        x = self(cells.permute(0, 1, 3, 4, 2)).flatten(3, 4)[:, :, :, chosen]  # (B, SITES, 2, NEAR, DIM)
        group = groups.flatten(3)[..., chosen]
        far, far_group = x[..., :FAR, :].transpose(1, 2).flatten(2, 3), group[..., :FAR].transpose(1, 2).flatten(2)
        return self.pairs(x.transpose(1, 2), group.transpose(1, 2)) + self.pairs(far[:, :, None], far_group[:, :, None])

    def pairs(self, x: Tensor, group: Tensor) -> Tensor:
        """Cross entropy on all pairs of n vectors (B, 2, K, n, DIM) with groups (B, 2, K, n), both answers weighted alike."""
        same = group[..., None] == group[..., None, :]  # (B, 2, K, n, n)
        squares = x.square().sum(-1)
        distance = squares[..., None] + squares[..., None, :] - 2 * x @ x.transpose(-1, -2)
        share = same.float().mean((-1, -2, -3), keepdim=True).clamp(0.02, 0.98)
        weight = torch.where(same, 0.5 / share, 0.5 / (1 - share))
        return F.binary_cross_entropy_with_logits(self.offset[:, None] - distance, same.float(), weight)
