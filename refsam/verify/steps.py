"""The model cut into steps, each from one stage to the next: what can be computed on a port's own intermediate results."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from refsam.config import Config
from refsam.errors import InputError
from refsam.model import tiny_vit, transformer
from refsam.model.layers import to_map
from refsam.model.sam import MobileSam
from refsam.ops import Ops
from refsam.predictor import SamPredictor
from refsam.scope import Scope
from refsam.tracing import Trace
from refsam.types import Array
from refsam.verify.pipeline import Pipeline, definition

Run = Callable[[Scope, Array], Array]

TWO_WAY_BLOCK = "transformer.two_way_attention_block"


class Step(NamedTuple):
    """From the stage `after` to the stage `stage`; `run(s, x)` takes the root scope."""

    stage: str
    after: str
    run: Run

    def covers(self, stage: str) -> bool:
        """Whether a stage is computed in this step."""
        merging = self.stage.count(".") == 2  # image_encoder.layers.0
        inside = "image_encoder.neck" if self.stage == "image_encoder" else f"{self.stage}.{'downsample' if merging else ''}"
        return stage == self.stage or stage.startswith(inside)


def encoder_steps(config: Config) -> list[Step]:
    """The image encoder as a chain that begins with `input_image` and ends with `image_encoder`.

    Their composition is `tiny_vit`; a test says so.
    """
    e = "image_encoder"
    runs: list[tuple[str, Run]] = [(f"{e}.patch_embed", lambda s, x: tiny_vit.patch_embed(s / e / "patch_embed", x))]
    for layer in range(4):
        runs += [(f"{e}.layers.{layer}.blocks.{block}", _block(config, layer, block)) for block in range(config.depths[layer])]
        runs.append((f"{e}.layers.{layer}", _end_of_layer(config, layer)))
    runs.append((e, lambda s, x: (s / e).tap(tiny_vit.neck(s / e / "neck", to_map(x)))))
    before = ["input_image", *(stage for stage, _ in runs)]
    return [Step(stage, after, run) for (stage, run), after in zip(runs, before, strict=False)]


def _block(config: Config, layer: int, block: int) -> Run:
    """A block of the convolutional layer 0, or of one of the three with attention."""

    def run(s: Scope, x: Array) -> Array:
        place = s / "image_encoder" / "layers" / layer / "blocks" / block
        if layer == 0:
            return tiny_vit.mb_conv(place, x)
        return tiny_vit.tiny_vit_block(place, x, config.num_heads[layer], config.window_sizes[layer])

    return run


def _end_of_layer(config: Config, layer: int) -> Run:
    """Patch merging, which the last layer does without."""

    def run(s: Scope, x: Array) -> Array:
        place = s / "image_encoder" / "layers" / layer
        if layer < 3:
            x = tiny_vit.patch_merging(place / "downsample", x if layer == 0 else to_map(x), config.merge_stride(layer))
        return place.tap(x)

    return run


def step_of(stage: str, steps: list[Step]) -> int:
    """The number of the step that a stage of the encoder belongs to: the last one is the neck and the encoder's result."""
    names = [step.stage for step in steps[:-1]]
    inside = [name for name in names if stage == name or stage.startswith(f"{name}.")]
    return names.index(max(inside, key=len)) if inside else len(names)


def shortened(pipeline: Pipeline, given: Mapping[str, Array], stage: str) -> Callable[..., Any]:
    """The pipeline's two-way block for a run up to `stage`; where both results are given anyway, these only pass."""
    block: Callable[..., Any] = pipeline.functions.get(TWO_WAY_BLOCK, definition(transformer.two_way_attention_block))

    def run(s: Scope, queries: Array, keys: Array, *rest: Any, **options: Any) -> Any:
        if stage.startswith(f"{s.name}.") or not all(f"{s.name}.{part}" in given for part in ("queries", "keys")):
            return block(s, queries, keys, *rest, **options)
        return tuple((s / part).tap(x) for part, x in (("queries", queries), ("keys", keys)))

    return run


def default_stages(config: Config) -> list[str]:
    """The stages that a verdict looks at where a port can show all: each block and its parts, not each single layer."""
    e = "image_encoder"
    names = ["transforms.resized", "input_image", f"{e}.patch_embed"]
    for layer in range(4):
        parts = ("conv1", "conv2", "conv3") if layer == 0 else ("attn", "local_conv", "mlp")
        for block in range(config.depths[layer]):
            place = f"{e}.layers.{layer}.blocks.{block}"
            names += [*(f"{place}.{part}" for part in parts), place]
        names.append(f"{e}.layers.{layer}")
    names += [*(f"{e}.neck.{i}" for i in range(4)), e]
    names += ["transforms.point_coords", "transforms.boxes", "prompt_encoder.pe_layer"]
    names += ["prompt_encoder.sparse_prompt_embeddings", "prompt_encoder.dense_prompt_embeddings"]
    t = "mask_decoder.transformer"
    for layer in range(config.decoder_depth):
        place = f"{t}.layers.{layer}"
        blocks = ("self_attn", "cross_attn_token_to_image", "mlp", "cross_attn_image_to_token", "queries", "keys")
        names += [f"{place}.{part}" for part in blocks]
    names += [f"{t}.final_attn_token_to_image", f"{t}.queries", f"{t}.keys", "mask_decoder.output_upscaling"]
    return [*names, "low_res_masks", "iou_predictions", "masks"]


def all_stages(model: MobileSam) -> list[str]:
    """The names of all stages, in the order in which they run, those of every sort of prompt: noted on a run at 64 pixels."""
    trace = _Names()
    small = model.with_scope(replace(model.scope, trace=trace, ops=Ops(), memo={}))
    small.config = replace(model.config, image_size=64)
    predictor = SamPredictor(small)
    predictor.set_image(np.zeros((64, 64, 3), np.uint8))
    mask = np.zeros((1, small.config.mask_size, small.config.mask_size))
    predictor.predict(np.ones((1, 2)), np.ones(1), np.array([0, 0, 9, 9]), mask)
    return list(trace.names)


def matching(known: Iterable[str], patterns: str) -> list[str]:
    """The stages of `known` that glob patterns, separated by commas, ask for. Raises InputError where one asks for none."""
    names, wanted = list(known), Trace(patterns)
    for pattern in wanted.patterns:
        if not any(Trace(pattern).wants(name) for name in names):
            raise InputError(f"no stage has a name like {pattern!r}; refsam trace lists them all")
    return [name for name in names if wanted.wants(name)]


class _Names(Trace):
    """A trace that keeps nothing but the names."""

    def __init__(self) -> None:
        super().__init__("*")
        self.names: list[str] = []

    def record(self, name: str, value: Array) -> None:  # noqa: ARG002 - only its name counts
        self.names.append(name)
