"""An auxiliary loss for the encoder: which pixels belong together. It is dropped at export.

Six prompts say little about a picture with thirty parts. A linear head on the image embedding gives each cell of 4 x 4
pixels two short vectors; cells of one object (first vector) or one part (second) shall be near, all others far. It
teaches the encoder from every pixel, costs next to nothing, and asks of it what the mask decoder needs.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DIM = 12
SAMPLES = 256


class GroupingHead(nn.Module):
    """Embeddings (B, C, G, G) -> vectors (B, 2, 16 G G, DIM), and the loss on them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.vectors = nn.Linear(channels, 2 * 16 * DIM)
        self.offset = nn.Parameter(torch.full((2, 1, 1), 2.0))

    def forward(self, embeddings: Tensor) -> Tensor:
        """Vectors of all cells, row by row."""
        b, _, g, _ = embeddings.shape
        x = self.vectors(embeddings.permute(0, 2, 3, 1)).view(b, g, g, 2, 4, 4, DIM)
        return x.permute(0, 3, 1, 4, 2, 5, 6).reshape(b, 2, 16 * g * g, DIM)

    def loss(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Cross entropy of "same group" on random pairs of cells, both answers weighted alike.

        Args: embeddings (B, C, G, G); labels (B, 2, S/4, S/4).
        """
        cells = torch.randperm(labels.shape[-1] ** 2)[:SAMPLES]
        x, group = self(embeddings)[:, :, cells], labels.flatten(2)[:, :, cells]
        same = group[..., None] == group[..., None, :]  # (B, 2, n, n)
        squares = x.square().sum(-1)
        distance = squares[..., None] + squares[..., None, :] - 2 * x @ x.transpose(-1, -2)
        share = same.float().mean((-1, -2), keepdim=True).clamp(0.02, 0.98)
        weight = torch.where(same, 0.5 / share, 0.5 / (1 - share))
        return F.binary_cross_entropy_with_logits(self.offset - distance, same.float(), weight)
