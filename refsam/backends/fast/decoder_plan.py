"""What a call of the fast decoder works on, and how."""

from typing import NamedTuple

from refsam.config import Config
from refsam.types import Array, Float

Tile = tuple[int, int]
"""Number of the first pixel and of the one after the last: whole rows of the embedding."""


class Plan(NamedTuple):
    """How a call is computed.

    Attributes:
        tiles: the pixels that are computed at once.
        folds: whether the attentions of all tokens are folded (decoder_attention.py).
        last_folds: whether the last look is, in which few tokens take part.
        used: the tokens whose result is used: that of the scores, and those of the masks asked for.
        chosen: the masks asked for.
    """

    config: Config
    tiles: list[Tile]
    folds: bool
    last_folds: bool
    used: list[int]
    chosen: slice


class Prompts(NamedTuple):
    """Arguments and results of `mask_decoder`, T = E * E pixels."""

    embedding: Float[Array, "D T"]
    position: Float[Array, "D T"]
    sparse: Float[Array, "B N D"]
    dense: Float[Array, "B D T"]
    masks: Float[Array, "B M L L"]
    scores: Float[Array, "B M"]

    @property
    def share_pixels(self) -> bool:
        """Whether the dense embeddings are one, seen B times."""
        return len(self.dense) == 1 or self.dense.strides[0] == 0


class Image(NamedTuple):
    """What the prompts share. In memory a tile's part of the arrays is (channels, pixels), see `tile_of`.

    Attributes:
        position: of the pixels.
        pixels: what the first block begins with, unless each prompt has a dense embedding of its own.
        projected: these by the first block's projections (its look's key and value, its image's query), where that pays.
    """

    position: Float[Array, "T D"]
    pixels: Float[Array, "T D"] | None
    projected: Float[Array, "3 T I"] | None


def tile_of(array: Float[Array, "T C"], tile: Tile) -> Float[Array, "C t"]:
    """A tile's part of such an array: contiguous, with pixels as columns."""
    start, stop = tile
    return array[start:stop].reshape(-1, stop - start)


def columns(array: Float[Array, "D T"], tile: Tile) -> Float[Array, "D t"]:
    """A tile's part of a map whose rows are channels."""
    return array[:, tile[0] : tile[1]]
