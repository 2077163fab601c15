"""The mask decoder for one prompt or thousands: prompts in groups, pixels in tiles, one way of computing for all.

Prompts come in groups of at most GROUP, whose tokens are computed together (decoder_group.py). One group alone shares its tiles
among the threads; of many, each thread takes whole groups. Groups and tiles depend on the prompts alone, so the bits do not tell
the number of threads. Memory, besides the results: the pixels of a group's prompts on each thread, 4 MB a prompt for MobileSAM.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np

from refsam.backends.fast import scratch as scratches
from refsam.backends.fast.decoder_attention import fold_pays, project_pays
from refsam.backends.fast.decoder_group import Group
from refsam.backends.fast.decoder_plan import Image, Plan, Prompts, Tile, columns, tile_of
from refsam.backends.fast.decoder_weights import Block, Decoder, fold
from refsam.backends.fast.layout import spans
from refsam.backends.fast.registry import replaces
from refsam.backends.fast.scratch import Scratch
from refsam.backends.fast.workers import Workers
from refsam.config import Config
from refsam.model import mask_decoder as definition
from refsam.scope import Scope
from refsam.types import Array, Float

GROUP = 4
"""Prompts whose tokens are computed together."""

TILE = 1024
"""Pixels of the embedding in work at once: with 256 channels a megabyte. Smaller ones fit caches better, but then threads spend
more time in waiting for Python's lock."""


@replaces(definition.mask_decoder)
def mask_decoder(
    workers: Workers,
    s: Scope,
    image_embeddings: Float[Array, "1 D E E"],
    image_pe: Float[Array, "1 D E E"],
    sparse: Float[Array, "B N D"],
    dense: Float[Array, "B D E E"],
    multimask_output: bool,
    config: Config,
) -> tuple[Float[Array, "B M L L"], Float[Array, "B M"]]:
    """See mask_decoder.mask_decoder."""
    w = s.prepared(fold, config)
    plan = make_plan(config, len(w.tokens) + sparse.shape[1], multimask_output)
    groups = list(spans(len(sparse), GROUP))
    many = len(groups) >= 2 * workers.threads
    with workers.sharing() if many else nullcontext(False) as shared:
        masks = workers.empty(len(sparse), len(plan.used) - 1, config.mask_size, config.mask_size)
        scores = workers.empty(*masks.shape[:2])
        if len(sparse):
            maps = [workers.seen(x.reshape(*x.shape[:2], -1)) for x in (image_embeddings, image_pe, dense)]
            prompts = Prompts(maps[0][0], maps[1][0], workers.seen(sparse), maps[2], masks, scores)
            (decode_many if many else decode_few)(workers, w, plan, prompts, groups)
        return (masks.copy(), scores.copy()) if shared else (masks, scores)


def make_plan(config: Config, tokens: int, multimask_output: bool) -> Plan:
    """The plan for prompts of this many tokens, those of the decoder counted."""
    side, chosen = config.embedding_size, slice(1, config.num_mask_tokens) if multimask_output else slice(0, 1)
    tiles = [(top * side, bottom * side) for top, bottom in spans(side, max(1, TILE // side))]
    used = [0, *range(1 + chosen.start, 1 + chosen.stop)]
    return Plan(config, tiles, fold_pays(config, tokens), fold_pays(config, len(used)), used, chosen)


def decode_few(workers: Workers, w: Decoder, plan: Plan, prompts: Prompts, groups: Sequence[tuple[int, int]]) -> None:
    """Group after group, tiles on all threads."""
    scratch = scratches.of_thread()
    with scratch.frame():
        image = make_image(workers, scratch.take, w, plan, prompts)
        for group in groups:
            with scratch.frame():
                Group(workers.map, scratch, w, plan, prompts, image, *group).decode()


def decode_many(workers: Workers, w: Decoder, plan: Plan, prompts: Prompts, groups: Sequence[tuple[int, int]]) -> None:
    """A group on each thread, or process."""
    image = make_image(workers, workers.empty, w, plan, prompts)
    workers.map(decode_on_one_thread, [(w, plan, prompts, image, *group) for group in groups])


def decode_on_one_thread(scratch: Scratch, *group: Any) -> None:
    """A whole group, while other threads have theirs."""

    def run(task: Callable[..., None], arguments: Sequence[tuple[Any, ...]]) -> None:
        for each in arguments:
            with scratch.frame():
                task(scratch, *each)

    Group(run, scratch, *group).decode()


def make_image(workers: Workers, take: Callable[..., Array], w: Decoder, plan: Plan, prompts: Prompts) -> Image:
    """What the prompts share; `take(*shape)` gives memory for it."""
    width, count = prompts.embedding.shape
    inner, tokens = width // plan.config.attention_downsample_rate, len(w.tokens) + prompts.sparse.shape[1]
    pays = prompts.share_pixels and project_pays(plan.config, tokens, len(prompts.sparse))
    image = Image(
        position=take(count, width),
        pixels=take(count, width) if prompts.share_pixels else None,
        projected=take(3, count, inner) if pays else None,
    )
    workers.map(make_image_tile, [(w.blocks[0], prompts, image, tile) for tile in plan.tiles])
    return image


def make_image_tile(scratch: Scratch, w: Block, prompts: Prompts, image: Image, tile: Tile) -> None:
    """One tile of each of the image's arrays."""
    position = tile_of(image.position, tile)
    position[...] = columns(prompts.position, tile)
    if image.pixels is None:
        return
    pixels = np.add(columns(prompts.embedding, tile), columns(prompts.dense[0], tile), out=tile_of(image.pixels, tile))
    if image.projected is not None:
        placed = np.add(pixels, position, out=scratch.take(*pixels.shape))
        key, value, query = (tile_of(each, tile) for each in image.projected)
        np.matmul(w.look.key.reshape(len(key), -1), placed, out=key)
        np.matmul(w.look.value.reshape(len(value), -1), pixels, out=value)
        np.matmul(w.tell.query.reshape(len(query), -1), placed, out=query)
