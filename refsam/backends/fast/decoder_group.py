"""A group of prompts on its way through the decoder: tokens and pixels in turn.

A tile of pixels goes through a block's attention to the tokens and its norm, and is at once asked by the *next* attention of the
tokens, whose question depends on the tokens alone. So two blocks make four passes over the pixels: the first question; an update
and a question, twice; the upscaling. Between them the tokens, some dozen rows, have their turn.
"""

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from refsam.backends.fast.decoder_attention import (
    Answers,
    Question,
    Told,
    ask,
    by_head,
    conclude,
    listen,
    look,
    project,
    tell,
)  # fmt: skip
from refsam.backends.fast.decoder_norm import normalise_columns
from refsam.backends.fast.decoder_plan import Image, Plan, Prompts, Tile, columns, tile_of
from refsam.backends.fast.decoder_tokens import Tokens, after_look, attend_to_each_other, mlp, norm
from refsam.backends.fast.decoder_upscaling import upscale_tile
from refsam.backends.fast.decoder_weights import Block, Decoder, Linear, TokensToImage
from refsam.backends.fast.scratch import Scratch
from refsam.types import Array, Float

Place = tuple[int, Tile]
"""A tile and its number."""

Run = Callable[[Callable[..., None], Sequence[tuple[Any, ...]]], None]
"""Does a task, with a scratch of its thread, for each of some arguments: on all threads, or one after another on one."""


class Update(NamedTuple):
    """What a block's tokens do to the pixels."""

    block: Block
    is_first: bool
    told: Told


class Group:
    """Prompts first:last.

    Args:
        run: does the tasks on tiles.
        scratch: of the calling thread, which takes back afterwards what is taken here.
    """

    def __init__(
        self, run: Run, scratch: Scratch, w: Decoder, plan: Plan, prompts: Prompts, image: Image, first: int, last: int
    ) -> None:
        self.run, self.scratch, self.w, self.plan, self.image = run, scratch, w, plan, image
        self.embedding, self.dense = prompts.embedding, prompts.dense[first:last]
        self.masks, self.scores = prompts.masks[first:last], prompts.scores[first:last]
        own = np.broadcast_to(w.tokens, (last - first, *w.tokens.shape))
        self.tokens: Tokens = np.concatenate([own, prompts.sparse[first:last]], axis=1)
        self.pixels: Float[Array, "G T D"] = scratch.take(last - first, *image.position.shape)

    def decode(self) -> None:
        """Compute the group's masks and scores."""
        queries, update = self.tokens, None
        for number, block in enumerate(self.w.blocks):
            heads = self.plan.config.decoder_num_heads
            queries = attend_to_each_other(self.scratch, block, heads, queries, self.tokens, first=number == 0)
            folds = self.plan.folds and (update is not None or self.image.projected is None)
            attended = self._attend(update, block.look, queries + self.tokens, folds)
            queries = after_look(self.scratch, block, queries, attended)
            update = Update(block, number == 0, self._tell(block, queries, is_first=number == 0))
        queries, tokens = (np.take(x, self.plan.used, axis=1) for x in (queries, self.tokens))
        queries += self._attend(update, self.w.last_look, queries + tokens, self.plan.last_folds)
        self._finish(norm(self.scratch, self.w.last_norm, queries))

    def _tell(self, block: Block, queries: Tokens, is_first: bool) -> Told:
        asks_folded = self.plan.folds and not (is_first and self.image.projected is not None)
        return tell(block.tell, queries + self.tokens, queries, asks_folded, self.plan.folds)

    def _attend(self, update: Update | None, w: TokensToImage, queries: Tokens, folds: bool) -> Tokens:
        """Attention of the tokens to the pixels, after the update of these."""
        question = ask(w, queries, folds)
        prompts, tiles = len(queries), list(enumerate(self.plan.tiles))
        answers = Answers.empty(self.scratch, question, len(tiles))
        task = self._first_tile if update is None else self._update_tile
        self.run(task, [(update, w, question, answers, *place) for place in product(range(prompts), tiles)])
        return conclude(w, question, answers)

    def _first_tile(
        self, scratch: Scratch, _: None, w: TokensToImage, question: Question, answers: Answers, prompt: int, place: Place
    ) -> None:
        """The first question, to pixels as they are."""
        projected = self.image.projected
        if projected is not None:
            keys, values = (by_head(tile_of(each, place[1]), len(w.key)) for each in projected[:2])
            look(scratch, question, answers, prompt, place[0], keys, values)
            return
        pixels = self._before(True, prompt, place[1])
        if self.image.pixels is None:
            np.add(columns(self.embedding, place[1]), columns(self.dense[prompt], place[1]), out=pixels)
        self._look(scratch, w, question, answers, prompt, place, pixels)

    def _update_tile(
        self, scratch: Scratch, update: Update, w: TokensToImage, question: Question, answers: Answers, prompt: int, place: Place
    ) -> None:
        """A block's update of a tile of pixels, and the next block's question to it."""
        tile = place[1]
        before, after = self._before(update.is_first, prompt, tile), tile_of(self.pixels[prompt], tile)
        with scratch.frame():
            attended = scratch.take(*after.shape)
            asking = self._asking(scratch, update, before, tile)
            listen(scratch, update.block.tell, update.told, prompt, asking, attended)
            np.add(before, attended, out=after)
        normalise_columns(scratch, update.block.norm4, after, eps=1e-5)
        self._look(scratch, w, question, answers, prompt, place, after)

    def _asking(self, scratch: Scratch, update: Update, pixels: Float[Array, "D t"], tile: Tile) -> Float[Array, "k c t"]:
        """Pixels as they ask the tokens: with their position, and projected or not as the tokens expect it."""
        heads = len(update.block.tell.query)
        if update.is_first and self.image.projected is not None:
            return by_head(tile_of(self.image.projected[2], tile), heads)
        placed = np.add(pixels, tile_of(self.image.position, tile), out=scratch.take(*pixels.shape))
        return placed[None] if update.told.question.is_folded else project(scratch, update.block.tell.query, placed)

    def _look(
        self,
        scratch: Scratch,
        w: TokensToImage,
        question: Question,
        answers: Answers,
        prompt: int,
        place: Place,
        pixels: Float[Array, "D t"],
    ) -> None:
        """A question to a tile of pixels."""
        placed = np.add(pixels, tile_of(self.image.position, place[1]), out=scratch.take(*pixels.shape))
        if question.is_folded:
            keys, values = placed[None], pixels[None]
        else:
            keys, values = project(scratch, w.key, placed), project(scratch, w.value, pixels)
        look(scratch, question, answers, prompt, place[0], keys, values)

    def _before(self, is_first: bool, prompt: int, tile: Tile) -> Float[Array, "D t"]:
        """A tile of pixels before an update."""
        shared = self.image.pixels if is_first else None
        return tile_of(self.pixels[prompt] if shared is None else shared, tile)

    def _finish(self, queries: Float[Array, "G U D"]) -> None:
        """Scores and masks from the tokens that are used and the pixels."""
        chosen = self.plan.chosen
        self.scores[...] = mlp(self.w.scores, queries[:, 0])[:, chosen]
        layers = [Linear(layer.weight[chosen], layer.bias[chosen]) for layer in self.w.vectors]
        vectors = np.ascontiguousarray(mlp(layers, queries[:, 1:].swapaxes(0, 1)).swapaxes(0, 1))
        self.run(self._upscale_tile, list(product([vectors], range(len(queries)), self.plan.tiles)))

    def _upscale_tile(self, scratch: Scratch, vectors: Float[Array, "G M C"], prompt: int, tile: Tile) -> None:
        side = self.plan.config.embedding_size
        pixels = tile_of(self.pixels[prompt], tile)
        upscale_tile(scratch, self.w.upscaling, pixels, vectors[prompt], self.masks[prompt], tile[0] // side, tile[1] // side)
