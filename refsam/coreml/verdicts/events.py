"""What refsam computes on the way, in float64: each operation's inputs and result under the stage's name, in order.

Finer than a trace: a package shows every step of an attention and of a norm, so here they are steps too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from refsam.model.mask_decoder import predict_masks
from refsam.model.sam import MobileSam
from refsam.ops import Ops
from refsam.ops.activation import softmax
from refsam.tracing import Trace
from refsam.types import Array, Float


@dataclass(frozen=True)
class Event:
    """A value that refsam computed.

    Attributes:
        name: the stage, or what it is within the stage that comes next.
        kind: the MIL operation that makes it, or "" for an input of one.
        value: as float32, which is finer than any package; those of MobileSAM's encoder take 2 GB.
    """

    name: str
    kind: str
    value: Array


class Recorder(Ops):
    """The definition, every call of which is noted."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.last: Array | None = None
        for kind, mil in KINDS.items():
            setattr(self, kind, self._noted(kind, mil))

    def note(self, name: str, kind: str, value: Array) -> None:
        """Keep a value; a name that ends with a space is completed when the next stage is known."""
        self.events.append(Event(name, kind, value.astype(np.float32)))

    def _noted(self, kind: str, mil: str) -> Any:
        definition = getattr(Ops, kind)

        def call(x: Array, *rest: Any, **options: Any) -> Array:
            self._input(kind, x)
            result = getattr(self, f"_{kind}", definition)(x, *rest, **options)
            self.note("", mil, result)
            self.last = result
            return result

        return call

    def _input(self, kind: str, x: Array) -> None:
        if kind == "batch_norm" and self.events:  # converters fold it: the convolution before it is not to be seen by itself
            self.events.pop()
        elif x is not self.last:
            self.note("input of ", "", x)
            grid = _as_map(x)
            if grid is not None:
                self.note("windows put together before ", "", grid)

    def _layer_norm_2d(
        self, x: Float[Array, "B C H W"], weight: Float[Array, " C"], bias: Float[Array, " C"], eps: float = 1e-6
    ) -> Float[Array, "B C H W"]:
        mean = x.mean(axis=1, keepdims=True)
        variance = np.square(x - mean).mean(axis=1, keepdims=True)
        normal = (x - mean) / np.sqrt(variance + eps)
        steps = (("reduce_mean", mean), ("sub", x - mean), ("pow", np.square(x - mean)), ("reduce_mean", variance),
                 ("add", variance + eps), ("sqrt", np.sqrt(variance + eps)), ("real_div", normal))  # fmt: skip
        for kind, value in steps:
            self.note(f"{kind} in ", kind, value)
        return normal * weight[:, None, None] + bias[:, None, None]

    def _attention(
        self, q: Float[Array, "B K N c"], k: Float[Array, "B K T c"], v: Float[Array, "B K T d"], bias: Array | None = None
    ) -> Float[Array, "B K N d"]:
        scale = q.shape[-1] ** -0.5
        raw = q @ k.swapaxes(-1, -2)
        scores = raw * scale if bias is None else raw * scale + bias
        steps = [("query of ", "", q), ("key of ", "", k), ("value of ", "", v), ("scaled query of ", "mul", q * scale),
                 ("products of ", "matmul", raw), ("scaled products of ", "mul", raw * scale), ("scores of ", "add", scores),
                 ("softmax of ", "softmax", softmax(scores))]  # fmt: skip
        for name, kind, value in steps:
            self.note(name, kind, value)
        return softmax(scores) @ v


KINDS = {
    "linear": "linear", "conv2d": "conv", "depthwise_conv2d": "conv", "conv_transpose2d": "conv_transpose", "batch_norm": "conv",
    "layer_norm": "layer_norm", "layer_norm_2d": "batch_norm", "gelu": "gelu", "relu": "relu", "attention": "matmul",
}  # fmt: skip
"""refsam's operation -> the MIL operation whose result is its result."""


class _Listener(Trace):
    """Names what the recorder noted since the last stage, and notes stages that no operation made."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def record(self, name: str, value: Array) -> None:
        events, last = self.recorder.events, self.recorder.last
        for i in range(len(events) - 1, -1, -1):
            if events[i].name and not events[i].name.endswith(" "):
                break
            made = i == len(events) - 1 and value is last
            label = name if made else f"{events[i].name}{name}" if events[i].name else f"{events[i].kind} before {name}"
            events[i] = Event(label, events[i].kind, events[i].value)
        if value is not last:
            self.recorder.note(name, "", value)
            grid = _as_map(value)
            if grid is not None:
                self.recorder.note(f"windows of {name} put together", "", grid)


def _as_map(x: Array) -> Array | None:
    """Windows (Bn, n * n, C) as the padded map (H, W, C) that they were cut from, None where `x` is no windows."""
    if x.ndim != 3 or len(x) == 1:
        return None
    down, side = round(len(x) ** 0.5), round(x.shape[1] ** 0.5)
    if down * down != len(x) or side * side != x.shape[1]:
        return None
    return x.reshape(down, down, side, side, -1).swapaxes(1, 2).reshape(down * side, down * side, -1)


def encoder_events(model: MobileSam, image: Array) -> list[Event]:
    """From the picture to its embedding."""
    recorder, recorded = _recorded(model)
    recorded.encode_image(np.asarray(image, np.float64))
    return [Event("input_image", "", np.asarray(image, np.float32)), *recorder.events]


def decoder_events(model: MobileSam, inputs: Mapping[str, Array]) -> list[Event]:
    """From the embeddings to all masks and scores."""
    recorder, recorded = _recorded(model)
    names = ("image_embeddings", "image_pe", "sparse", "dense")
    given = {name: np.ascontiguousarray(inputs[name], np.float64) for name in names}
    events = [Event(name, "", x.astype(np.float32)) for name, x in given.items()]
    masks, scores = predict_masks(recorded.scope / "mask_decoder", **given, config=recorded.config)
    for name, kind, value in (("low_res_masks", "matmul", masks), ("iou_predictions", "linear", scores)):
        recorder.note(name, kind, value)
    return [*events, *recorder.events]


def prompt_events(model: MobileSam, points: Array, labels: Array) -> list[Event]:
    """From points to tokens; the steps are those of `prompt_encoder.position_encoding`, one by one."""
    _, recorded = _recorded(model)
    s = recorded.scope / "prompt_encoder"
    coords = np.asarray(points, np.float64) + 0.5
    unit = coords / recorded.config.image_size
    projected = (2 * unit - 1) @ (s / "pe_layer")["positional_encoding_gaussian_matrix"]
    angles = 2 * np.pi * projected
    encoding = np.concatenate([np.sin(angles), np.cos(angles)], axis=-1)
    sparse, dense = recorded.encode_prompts((coords - 0.5, np.asarray(labels).astype(np.int64)))
    sparse = sparse[:, : coords.shape[1]]  # refsam adds a padding point, the packages leave that to their caller
    steps = [
        ("cast", "coordinates", coords - 0.5),
        ("add", "coordinates + 0.5", coords),
        *(("", f"{axis} + 0.5", coords[..., i]) for i, axis in enumerate("xy")),
        *(("", f"{axis} / size", unit[..., i]) for i, axis in enumerate("xy")),
        ("real_div", "coordinates / size", unit), ("mul", "2 coordinates", 2 * unit),
        ("sub", "2 coordinates - 1", 2 * unit - 1), ("linear", "projections", projected), ("mul", "angles", angles),
        ("sin", "sines", np.sin(angles)), ("cos", "cosines", np.cos(angles)), ("concat", "position encoding", encoding),
        ("select", "sparse_prompt_embeddings", sparse), ("const", "dense_prompt_embeddings", dense),
    ]  # fmt: skip
    return [Event(f"prompt_encoder: {name}", kind, np.asarray(x, np.float32)) for kind, name, x in steps]


def _recorded(model: MobileSam) -> tuple[Recorder, MobileSam]:
    recorder = Recorder()
    double = MobileSam(model.scope.weights, model.config, recorder, "float64")
    return recorder, double.traced(_Listener(recorder))
