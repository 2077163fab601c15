"""Upstream's quirks: each is broken here in the way that ports break it, and the goldens have to notice, at the right stage.

The numbers are those of docs/quirks.md. That the unbroken model passes is tests/golden/test_golden.py's business.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
from golden.cases import CASES, picture
from golden.test_golden import FLOAT64_PARITY, golden, sample
from standin import TINY, standin_weights

from refsam import InputError, MobileSam, SamPredictor, Trace, masks, transforms
from refsam.config import Config
from refsam.model import mask_decoder, prompt_encoder, sam, tiny_vit, transformer
from refsam.ops import Ops
from refsam.ops.activation import softmax
from refsam.ops.attention import attention_bias_index, merge_heads, split_heads
from refsam.ops.resize import bilinear
from refsam.ops.window import window_partition, window_reverse

Patch = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Mutant:
    """One way to get a quirk wrong, and the first stage at which that shows."""

    quirk: int
    mistake: str
    patch: Patch
    differs_at: str
    case: str = "tiny-landscape"
    prompt: str = "point"


def replaced(target: Any, name: str, value: Any) -> Patch:
    return lambda monkeypatch: monkeypatch.setattr(target, name, value)


def op(name: str, value: Any) -> Patch:
    return replaced(Ops, name, staticmethod(value))


def with_eps(name: str, eps: float) -> Patch:
    return op(name, partial(getattr(Ops, name), eps=eps))


# --- the mistakes -----------------------------------------------------------------------------------------------------------


def resize_without_antialias(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """One bilinear sample at each pixel's centre, as cv2.INTER_LINEAR and a texture sampler do."""
    return np.rint(bilinear(image.transpose(2, 0, 1).astype(np.float64), size)).astype(np.uint8).transpose(1, 2, 0)


def size_rounded_down(original_size: tuple[int, int], image_size: int) -> tuple[int, int]:
    scale = image_size / max(original_size)
    return int(original_size[0] * scale), int(original_size[1] * scale)


def pad_before_normalising(resized: np.ndarray, image_size: int) -> np.ndarray:
    padded = np.zeros((image_size, image_size, 3), np.float32)
    padded[: resized.shape[0], : resized.shape[1]] = resized
    return ((padded - transforms.PIXEL_MEAN) / transforms.PIXEL_STD).transpose(2, 0, 1)[None].astype(np.float32)


def one_factor_for_both_axes(coords: Any, original_size: tuple[int, int], image_size: int) -> np.ndarray:
    return np.asarray(coords, np.float64) * (image_size / max(original_size))


def shifted_points(shift: float) -> Patch:
    original = prompt_encoder.embed_points

    def embed(s: Any, coords: np.ndarray, labels: np.ndarray, pad: bool, image_size: int) -> np.ndarray:
        return original(s, coords + shift, labels, pad, image_size)

    return replaced(prompt_encoder, "embed_points", embed)


def padding_point(always: bool) -> Patch:
    original = prompt_encoder.embed_points

    def embed(s: Any, coords: np.ndarray, labels: np.ndarray, pad: bool, image_size: int) -> np.ndarray:
        return original(s, coords, labels, always, image_size)

    return replaced(prompt_encoder, "embed_points", embed)


def padding_point_with_a_position(s: Any, coords: np.ndarray, labels: np.ndarray, pad: bool, image_size: int) -> np.ndarray:
    position = prompt_encoder.position_encoding(s / "pe_layer", np.full((len(coords), 1, 2), 0.5) / image_size)
    tokens = ORIGINAL_EMBED_POINTS(s, coords, labels, pad, image_size)
    tokens[:, -1:] += position
    return tokens


ORIGINAL_EMBED_POINTS = prompt_encoder.embed_points


def corners_swapped(s: Any, boxes: np.ndarray, image_size: int) -> np.ndarray:
    return ORIGINAL_EMBED_BOXES(s, boxes, image_size)[:, ::-1]


ORIGINAL_EMBED_BOXES = prompt_encoder.embed_boxes


def mask_norm_with_eps(s: Any, x: np.ndarray) -> np.ndarray:
    return s.tap(s.ops.layer_norm_2d(x, s["weight"], s["bias"], eps=1e-5))


def pe_at_cell_corners(s: Any, side: int) -> np.ndarray:
    grid = np.arange(side) / side
    x, y = np.meshgrid(grid, grid)
    encoding = prompt_encoder.position_encoding(s / "pe_layer", np.stack([x, y], axis=-1)).transpose(2, 0, 1)
    return (s / "pe_layer").tap(encoding)[None]


def gelu_after_both_convolutions(s: Any, x: np.ndarray) -> np.ndarray:
    return s.ops.gelu(ORIGINAL_PATCH_EMBED(s, x))


ORIGINAL_PATCH_EMBED = tiny_vit.patch_embed


def padding_stays_zero(s: Any, x: np.ndarray, num_heads: int, window_size: int) -> np.ndarray:
    """Padding tokens are zero after the LayerNorm too, instead of its bias."""
    batch, tokens, width = x.shape
    side = tiny_vit.grid_side(tokens)
    windows = window_partition(x.reshape(batch, side, side, width), window_size)
    inside = window_partition(np.ones((batch, side, side, 1)), window_size)
    qkv = split_heads(tiny_vit.linear(s / "qkv", tiny_vit.layer_norm(s / "norm", windows) * inside), num_heads)
    q, k, v = np.split(qkv, 3, axis=-1)
    bias = s["attention_biases"][:, attention_bias_index(window_size)]
    y = tiny_vit.linear(s / "proj", merge_heads(s.ops.attention(q, k, v, bias)))
    return window_reverse(y, window_size, side, side).reshape(batch, tokens, width)


def qkv_in_three_blocks(x: np.ndarray, num_heads: int) -> np.ndarray:
    """All queries, then all keys, then all values, as in ViT."""
    q, k, v = (split_heads(part, num_heads) for part in np.split(x, 3, axis=-1))
    return np.concatenate([q, k, v], axis=-1)


def bias_index_transposed(window_size: int) -> np.ndarray:
    """|dx| counted before |dy|."""
    distance = attention_bias_index(window_size)
    return distance % window_size * window_size + distance // window_size


def block_with_residual_convolution(s: Any, x: np.ndarray, num_heads: int, window_size: int) -> np.ndarray:
    x = x + tiny_vit.windowed_attention(s / "attn", x, num_heads, window_size)
    x = x + tiny_vit.to_tokens(tiny_vit.depthwise_conv_bn(s / "local_conv", tiny_vit.to_map(x)))
    return s.tap(x + tiny_vit.transformer_mlp(s / "mlp", x))


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def attention_without_scale(q: np.ndarray, k: np.ndarray, v: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    scores = q @ k.swapaxes(-1, -2)
    return softmax(scores if bias is None else scores + bias) @ v


def two_way_block(**wrong: Any) -> Patch:
    original = transformer.two_way_attention_block

    def block(s: Any, queries: Any, keys: Any, query_pe: Any, key_pe: Any, heads: int, first: bool) -> Any:
        if wrong.get("pe_in_keys_for_good") and first:
            keys = keys + key_pe
        pe = 0 * key_pe if wrong.get("no_key_pe") else key_pe
        return original(s, queries, keys, query_pe, pe, heads, wrong.get("first", first))

    return replaced(transformer, "two_way_attention_block", block)


def masks_from(start: int) -> Patch:
    def decoder(s: Any, image: Any, pe: Any, sparse: Any, dense: Any, multimask_output: bool, config: Config) -> Any:
        logits, scores = mask_decoder.predict_masks(s, image, pe, sparse, dense, config)
        chosen = slice(start, start + 3) if multimask_output else slice(start, start + 1)
        return logits[:, chosen], scores[:, chosen]

    return replaced(sam, "mask_decoder", decoder)


def postprocess(wrong: str) -> Patch:
    def logits(low_res_masks: np.ndarray, input_size: Any, original_size: Any, image_size: int) -> np.ndarray:
        side = low_res_masks.shape[-1]
        if wrong == "one step":  # straight from S/4, with the padding cut off there
            h, w = (max(round(n * side / image_size), 1) for n in input_size)
            return bilinear(low_res_masks[..., :h, :w], original_size)
        if wrong == "padding kept":
            return bilinear(bilinear(low_res_masks, (image_size, image_size)), original_size)
        corners = [np.arange(n) * (side - 1) / (image_size - 1) for n in (image_size, image_size)]  # align_corners=True
        weights = [np.maximum(0, 1 - np.abs(c[:, None] - np.arange(side))) for c in corners]
        full = weights[0] @ low_res_masks @ weights[1].T
        return bilinear(full[..., : input_size[0], : input_size[1]], original_size)

    return replaced(transforms, "postprocess_logits", logits)


BLOCK = "image_encoder.layers.1.blocks.0"
SPARSE = "prompt_encoder.sparse_prompt_embeddings"
MUTANTS = [
    Mutant(1, "no antialiasing", replaced(transforms, "pillow_bilinear", resize_without_antialias), "input_image"),
    Mutant(1, "size rounded down", replaced(transforms, "resized_size", size_rounded_down), "input_image"),
    Mutant(2, "padded before normalising", replaced(transforms, "normalize_and_pad", pad_before_normalising), "input_image"),
    Mutant(3, "one factor", replaced(transforms, "apply_coords", one_factor_for_both_axes), SPARSE),
    Mutant(3, "half a pixel missing", shifted_points(-0.5), SPARSE),
    Mutant(3, "half a pixel twice", shifted_points(0.5), SPARSE),
    Mutant(4, "padding point missing", padding_point(False), SPARSE),
    Mutant(4, "padding point with a box", padding_point(True), SPARSE, prompt="box-point"),
    Mutant(4, "padding point has a position", replaced(prompt_encoder, "embed_points", padding_point_with_a_position),
           SPARSE),
    Mutant(4, "corners swapped", replaced(prompt_encoder, "embed_boxes", corners_swapped),
           SPARSE, prompt="box"),
    Mutant(5, "no-mask embedding left out", replaced(prompt_encoder, "no_mask", lambda s, batch, side: np.zeros(
        (batch, TINY.prompt_embed_dim, side, side))), "prompt_encoder.dense_prompt_embeddings"),
    Mutant(5, "mask prompt's eps 1e-5", replaced(prompt_encoder, "layer_norm_2d", mask_norm_with_eps),
           "prompt_encoder.mask_downscaling.1", prompt="mask"),
    Mutant(6, "encoding at cell corners", replaced(sam, "dense_pe", pe_at_cell_corners), "prompt_encoder.pe_layer"),
    Mutant(7, "BatchNorm eps 1e-3", with_eps("batch_norm", 1e-3), "image_encoder.patch_embed.seq.0.bn"),
    Mutant(7, "GELU after the patch embedding", replaced(tiny_vit, "patch_embed", gelu_after_both_convolutions),
           "image_encoder.layers.0.blocks.0.conv1.c"),
    Mutant(8, "last merge of stride 2", replaced(Config, "merge_stride", lambda self, layer: 2),
           "image_encoder.layers.2.downsample.conv2.c"),
    Mutant(9, "padding stays zero after LayerNorm", replaced(tiny_vit, "windowed_attention", padding_stays_zero),
           f"{BLOCK}.attn.qkv"),
    Mutant(10, "qkv in three blocks", replaced(tiny_vit, "split_heads", qkv_in_three_blocks), f"{BLOCK}.attn.proj"),
    Mutant(10, "biases transposed", replaced(tiny_vit, "attention_bias_index", bias_index_transposed), f"{BLOCK}.attn.proj"),
    Mutant(10, "scores not scaled", op("attention", attention_without_scale), f"{BLOCK}.attn.proj"),
    Mutant(11, "convolution with a residual", replaced(tiny_vit, "tiny_vit_block", block_with_residual_convolution),
           f"{BLOCK}.mlp.norm"),
    Mutant(12, "neck's eps 1e-5", with_eps("layer_norm_2d", 1e-5), "image_encoder.neck.1"),
    Mutant(13, "GELU by tanh", op("gelu", gelu_tanh), "image_encoder.patch_embed.seq.1"),
    Mutant(13, "GELU in the two-way MLP", op("relu", Ops.gelu), "mask_decoder.transformer.layers.0.mlp.act"),
    Mutant(14, "first self-attention adds", two_way_block(first=False), "mask_decoder.transformer.layers.0.self_attn.q_proj"),
    Mutant(14, "keys without position", two_way_block(no_key_pe=True),
           "mask_decoder.transformer.layers.0.cross_attn_token_to_image.k_proj"),
    Mutant(14, "position stays in the keys", two_way_block(pe_in_keys_for_good=True),
           "mask_decoder.transformer.layers.0.cross_attn_token_to_image.k_proj"),
    Mutant(15, "masks 0 to 2", masks_from(0), "low_res_masks"),
    Mutant(15, "single mask is mask 1", masks_from(1), "low_res_masks", prompt="box"),
    Mutant(16, "one resize", postprocess("one step"), "masks"),
    Mutant(16, "padding kept", postprocess("padding kept"), "masks"),
    Mutant(16, "align_corners", postprocess("align_corners"), "masks"),
]  # fmt: skip


def first_difference(case_name: str, prompt: str) -> str | None:
    """The first stage that is not upstream's in float64: the encoder's in the order they run, then the others."""
    case, theirs = CASES[case_name], golden(case_name)
    trace = Trace()
    predictor = SamPredictor(MobileSam(standin_weights(case.config), case.config, dtype="float64").traced(trace))
    try:
        predictor.set_image(picture(case.size))
        logits, _, _ = predictor.predict(**case.prompts[prompt], return_logits=True)
        ours = {**trace, "masks": logits[None]}
    except ValueError:  # later stages cannot take what a broken one gives; it is the recorded ones that matter
        ours = dict(trace)
    for stage, facts in sorted(theirs.stages.items(), key=lambda item: "/" in item[0]):
        kind, _, name = stage.rpartition("/")
        if kind not in ("", prompt):
            continue
        value = ours.get(name)
        scale = facts["norm"] / max(np.prod(facts["shape"]), 1) ** 0.5
        same = value is not None and list(value.shape) == facts["shape"]
        if not same or np.max(np.abs(sample(value) - theirs.samples[stage]), initial=0) > FLOAT64_PARITY * scale:
            return name
    return None


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: f"{m.quirk}-{m.mistake.replace(' ', '-')}")
def test_a_broken_quirk_is_noticed_at_its_stage(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant.patch(monkeypatch)
    assert first_difference(mutant.case, mutant.prompt) == mutant.differs_at


@pytest.mark.core
@pytest.mark.parametrize("prompt", ["point", "box-point", "mask"])
def test_the_unbroken_model_differs_nowhere(prompt: str) -> None:
    assert first_difference("tiny-landscape", prompt) is None


@pytest.mark.core
def test_quirk_17_run_lengths_go_down_the_columns() -> None:
    mask = np.array([[0, 1, 0], [0, 1, 1]], bool)
    assert masks.mask_to_rle(mask) == {"size": [2, 3], "counts": [2, 2, 1, 1]}


@pytest.mark.core
def test_quirk_18_points_need_labels_and_no_prompt_is_a_prompt() -> None:
    predictor = SamPredictor(MobileSam(standin_weights(TINY), TINY))
    predictor.set_image(np.zeros((20, 30, 3), np.uint8))
    with pytest.raises(InputError, match="label"):
        predictor.predict(point_coords=[[1, 2]])
    assert predictor.predict()[0].shape == (3, 20, 30)


@pytest.mark.core
def test_every_quirk_has_a_test() -> None:
    assert {mutant.quirk for mutant in MUTANTS} | {17, 18} == set(range(1, 19))
