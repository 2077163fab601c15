"""Attention between tokens and pixels, a tile of pixels at a time and without projecting pixels where that is dearer.

A head's scores are (q Wq) (Wk x) with few tokens q and thousands of pixels x. Multiplied from the left, (q Wq Wk) x, no pixel is
projected: K heads of N tokens make K N rows of width D. Likewise the values: (a x) Wv in place of a (x Wv). `fold_pays` counts
products. Either way scores are `rows @ pixels`, folded ones as one product and others as one for each head.

A folded score is one long sum over all channels, in float32 twice as inexact as a head's few; so it is summed in parts, SUM
channels at a time, and then loses no more than the definition's.

Pixels are columns here, (channels, pixels) as in the embedding, so that sums over channels and softmaxes run along whole rows.
"""

from typing import NamedTuple

import numpy as np

from refsam.backends.fast.decoder_weights import ImageToTokens, TokensToImage
from refsam.backends.fast.scratch import Scratch
from refsam.config import Config
from refsam.ops.attention import merge_heads, split_heads
from refsam.types import Array, Float

SUM = 64
"""Channels of a folded score that are summed at once."""


class Question(NamedTuple):
    """What the tokens of G prompts ask: (G, 1, K*N, D) to be asked of pixels, (G, K, N, c) of projected ones."""

    rows: Float[Array, "G k r c"]
    is_folded: bool


class Answers(NamedTuple):
    """What each of P tiles answered: for each row its greatest score, the sum of exp(score - greatest), and the values' sum."""

    peak: Float[Array, "G P R"]
    total: Float[Array, "G P R"]
    values: Float[Array, "G P k r c"]

    @staticmethod
    def empty(scratch: Scratch, question: Question, tiles: int) -> "Answers":
        """Room for them."""
        prompts, heads, rows, width = question.rows.shape
        peak, total = scratch.take(2, prompts, tiles, heads * rows)
        return Answers(peak, total, scratch.take(prompts, tiles, heads, rows, width))


class Told(NamedTuple):
    """What the tokens of G prompts tell each pixel: scores are rows @ pixels + offset; values as a matrix or for each head."""

    question: Question
    offset: Float[Array, "G k r 1"]
    values: Float[Array, "G k d r"]
    is_folded: bool


def fold_pays(config: Config, rows: int) -> bool:
    """Whether `rows` tokens cost fewer products when their projections are folded into them, and not the pixels projected."""
    width, inner = config.prompt_embed_dim, config.prompt_embed_dim // config.attention_downsample_rate
    return config.decoder_num_heads * rows * width < inner * (width + rows)


def project_pays(config: Config, rows: int, prompts: int) -> bool:
    """Whether to project pixels once that `prompts` of `rows` tokens share, and not to fold."""
    width, inner = config.prompt_embed_dim, config.prompt_embed_dim // config.attention_downsample_rate
    return inner * width < prompts * rows * (config.decoder_num_heads * width - inner)


def ask(w: TokensToImage, queries: Float[Array, "G N D"], is_folded: bool) -> Question:
    """Tokens with their position -> what they ask."""
    return _question(split_heads(w.query(queries), len(w.key)), w.key, is_folded)


def look(
    scratch: Scratch,
    question: Question,
    answers: Answers,
    prompt: int,
    tile: int,
    keys: Float[Array, "k c t"],
    values: Float[Array, "k c t"],
) -> None:
    """The answer of one tile to the question of one prompt."""
    rows = question.rows[prompt]
    scores = _scores(scratch, rows, keys)
    flat = scores.reshape(-1, keys.shape[2])
    peak = np.max(flat, axis=1, out=answers.peak[prompt, tile])
    np.subtract(flat, peak[:, None], out=flat)
    np.exp(flat, out=flat)
    np.sum(flat, axis=1, out=answers.total[prompt, tile])
    np.matmul(scores, values.swapaxes(1, 2), out=answers.values[prompt, tile])


def conclude(w: TokensToImage, question: Question, answers: Answers) -> Float[Array, "G N D"]:
    """The attention's result from all tiles' answers: each is weighted by exp(its greatest score - the greatest of all)."""
    share = np.exp(answers.peak - answers.peak.max(axis=1, keepdims=True))
    total = (share * answers.total).sum(axis=1)
    prompts, tiles, rows = share.shape
    values = answers.values.reshape(prompts, tiles, rows, -1)
    attended = share[:, 0, :, None] * values[:, 0]
    for tile in range(1, tiles):
        attended += share[:, tile, :, None] * values[:, tile]
    attended /= total[..., None]
    heads = attended.reshape(prompts, len(w.value), rows // len(w.value), -1)
    if question.is_folded:
        heads = heads @ w.value.swapaxes(1, 2)
    return w.out(merge_heads(heads) + w.value_bias)


def tell(w: ImageToTokens, keys: Float[Array, "G N D"], values: Float[Array, "G N D"], ask_folded: bool, is_folded: bool) -> Told:
    """Tokens, with and without position -> what they tell. `ask_folded`: pixels come as they are, not projected."""
    k, v = split_heads(w.key(keys), len(w.query)), split_heads(w.value(values), len(w.query))
    question = _question(k, w.query, ask_folded)
    offset = (k @ w.query_bias).reshape(*question.rows.shape[:3], 1)
    if not is_folded:
        return Told(question, offset, v.swapaxes(2, 3), is_folded)
    matrix = v @ w.out
    matrix += w.out_bias
    return Told(question, offset, _one_head(matrix).swapaxes(2, 3), is_folded)


def listen(
    scratch: Scratch, w: ImageToTokens, told: Told, prompt: int, asking: Float[Array, "k c t"], out: Float[Array, "D t"]
) -> None:
    """Attention of a tile of pixels to the tokens of one prompt."""
    rows = told.question.rows[prompt]
    with scratch.frame():
        scores = _scores(scratch, rows, asking)
        np.add(scores, told.offset[prompt], out=scores)
        by_head = scores.reshape(len(w.query), -1, asking.shape[2])
        _softmax_over_tokens(scratch, by_head)
        if told.is_folded:
            np.matmul(told.values[prompt, 0], by_head.reshape(-1, asking.shape[2]), out=out)
            return
        attended = scratch.take(*w.query.shape[:2], asking.shape[2])
        np.matmul(told.values[prompt], by_head, out=attended)
        np.matmul(w.out.reshape(-1, len(out)).T, attended.reshape(-1, asking.shape[2]), out=out)
        np.add(out, w.out_bias[:, None] * np.float32(len(w.query)), out=out)


def project(scratch: Scratch, weight: Float[Array, "K c D"], pixels: Float[Array, "D t"]) -> Float[Array, "K c t"]:
    """Pixels through one of the projections, without its bias."""
    heads, width, channels = weight.shape
    out = scratch.take(heads * width, pixels.shape[1])
    return by_head(np.matmul(weight.reshape(-1, channels), pixels, out=out), heads)


def by_head(projected: Float[Array, "I t"], heads: int) -> Float[Array, "K c t"]:
    """Neighbouring channels make a head."""
    return projected.reshape(heads, -1, projected.shape[1])


def _scores(scratch: Scratch, rows: Float[Array, "k r c"], pixels: Float[Array, "k c t"]) -> Float[Array, "k r t"]:
    heads, count, channels = rows.shape
    scores = scratch.take(heads, count, pixels.shape[2])
    if heads > 1 or channels <= SUM or channels % SUM:
        return np.matmul(rows, pixels, out=scores)
    with scratch.frame():
        parts = scratch.take(channels // SUM, count, pixels.shape[2])
        np.matmul(rows.reshape(count, -1, SUM).swapaxes(0, 1), pixels.reshape(-1, SUM, pixels.shape[2]), out=parts)
        return np.sum(parts, axis=0, keepdims=True, out=scores)


def _softmax_over_tokens(scratch: Scratch, x: Float[Array, "K N t"]) -> None:
    row = scratch.take(len(x), 1, x.shape[2])
    np.max(x, axis=1, keepdims=True, out=row)
    np.subtract(x, row, out=x)
    np.exp(x, out=x)
    np.sum(x, axis=1, keepdims=True, out=row)
    np.reciprocal(row, out=row)
    np.multiply(x, row, out=x)


def _question(x: Float[Array, "G K N c"], weight: Float[Array, "K c D"], is_folded: bool) -> Question:
    return Question(_one_head(x @ weight) if is_folded else np.ascontiguousarray(x), is_folded)


def _one_head(x: Float[Array, "G K N D"]) -> Float[Array, "G 1 K*N D"]:
    return x.reshape(len(x), 1, -1, x.shape[3])
