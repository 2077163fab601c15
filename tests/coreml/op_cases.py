"""One or more cases for every operation: its parameters, and the same in torch where coremltools infers no values, or wrong ones."""

# ruff: noqa: E501 - a table

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from coreml.packages import DATA

RNG = np.random.RandomState(0)  # its stream is frozen


def x(*shape: int, low: float = -2.0, high: float = 2.0) -> np.ndarray:
    return RNG.uniform(low, high, shape).astype(np.float32)


def i(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def n(value: int) -> np.ndarray:
    return np.array(value, np.int32)


def f(value: float) -> np.ndarray:
    return np.array(value, np.float32)


B = np.array
Torch = Callable[..., Any]
"""(torch, torch.nn.functional, tensors by parameter) -> a tensor or several."""


@dataclass(frozen=True)
class Case:
    op: str
    given: dict[str, Any]
    torch: Torch | None = None


def pads(p: np.ndarray) -> list[int]:
    """MIL's order of padding as torch's: the last axis first."""
    pairs = [tuple(int(v) for v in pair) for pair in p.reshape(-1, 2)]
    return [v for pair in reversed(pairs) for v in pair]


def bilinear(align: bool) -> Torch:
    return lambda t, F, p: F.interpolate(p["x"], size=p["size"], mode="bilinear", align_corners=align)


A, C = x(2, 3, 4), x(2, 3, 4, low=0.5)
M = np.abs(x(2, 3, 4)) + 0.1
IMAGE, KERNEL = x(2, 4, 7, 6), x(6, 4, 3, 3)
QKV = {name: x(2, 3, 5, 4) for name in ("query", "key", "value")}
WHOLE = RNG.randint(-5, 9, (2, 3)).astype(np.int32)

CASES = [
    *[Case(op, {"x": A, "y": C}) for op in ("add", "sub", "mul", "real_div", "floor_div", "mod", "maximum", "minimum")],
    *[Case(op, {"x": x(3, 1), "y": x(4)}) for op in ("add", "sub", "greater", "less")],
    *[Case(op, {"x": WHOLE, "y": n(2)}) for op in ("add", "mul", "floor_div", "mod", "real_div", "greater_equal", "less_equal")],
    Case("pow", {"x": M, "y": f(1.5)}), Case("pow", {"x": A, "y": f(2.0)}),
    *[Case(op, {"x": WHOLE, "y": WHOLE.T[:2, :1] * 0 + 3}) for op in ("equal", "not_equal", "greater", "less")],
    *[Case(op, {"x": B([True, True, False, False]), "y": B([True, False, True, False])})
      for op in ("logical_and", "logical_or", "logical_xor")],
    Case("logical_not", {"x": B([True, False])}),
    *[Case(op, {"x": A}) for op in ("abs", "atan", "ceil", "cos", "cosh", "erf", "exp", "exp2", "floor", "sign", "sin", "sinh",
                                    "square", "tan", "tanh", "identity")],
    *[Case(op, {"x": A / 4}) for op in ("acos", "asin", "atanh")],
    *[Case(op, {"x": M}) for op in ("sqrt", "rsqrt", "log", "inverse")],
    Case("inverse", {"x": f([1e-4, 0.0, 2.0])}), Case("rsqrt", {"x": f([1e-12, 4.0])}),
    Case("inverse", {"x": M, "epsilon": f(0.25)}), Case("rsqrt", {"x": M, "epsilon": f(0.25)}),
    Case("log", {"x": M, "epsilon": f(0.25)}), Case("log", {"x": f([0.0, 1.0])}),
    Case("round", {"x": f([0.5, 1.5, 2.5, -0.5, -1.5, 1.2])}),
    Case("clip", {"x": A, "alpha": f(-0.5), "beta": f(0.75)}), Case("threshold", {"x": A, "alpha": f(0.3)}),
    Case("cast", {"x": f([1.9, -1.9, 0.2]), "dtype": "int32"}), Case("cast", {"x": WHOLE, "dtype": "fp32"}),
    Case("cast", {"x": WHOLE, "dtype": "bool"}),
    Case("select", {"cond": A > 0, "a": A, "b": C}),
    *[Case(op, {"x": A}) for op in ("relu", "relu6", "sigmoid", "softplus", "softsign")],
    Case("silu", {"x": A}, lambda t, F, p: F.silu(p["x"])),
    Case("relu6", {"x": f([-1.0, 3.0, 9.0])}),
    Case("clamped_relu", {"x": A, "alpha": f(0.1), "beta": f(0.8)}), Case("leaky_relu", {"x": A, "alpha": f(0.1)}),
    Case("thresholded_relu", {"x": A, "alpha": f(0.4)}), Case("elu", {"x": A, "alpha": f(0.7)}),
    Case("prelu", {"x": IMAGE, "alpha": x(4)}), Case("linear_activation", {"x": A, "alpha": f(0.7), "beta": f(0.2)}),
    Case("scaled_tanh", {"x": A, "alpha": f(0.7), "beta": f(0.2)}), Case("sigmoid_hard", {"x": A, "alpha": f(0.7), "beta": f(0.2)}),
    Case("softplus_parametric", {"x": A, "alpha": x(3), "beta": x(3)}),
    Case("gelu", {"x": A}), Case("gelu", {"x": A, "mode": "EXACT"}), Case("gelu", {"x": A, "mode": "TANH_APPROXIMATION"}),
    Case("gelu", {"x": A, "mode": "SIGMOID_APPROXIMATION"}),
    Case("softmax", {"x": A}), Case("softmax", {"x": A, "axis": n(1)}), Case("softmax", {"x": A * 50, "axis": n(0)}),
    Case("layer_norm", {"x": A, "axes": i(2), "gamma": x(4), "beta": x(4)}), Case("layer_norm", {"x": A, "axes": i(-2, -1)}),
    Case("layer_norm", {"x": A, "axes": i(1, 2), "gamma": x(3, 4), "beta": x(3, 4), "epsilon": f(0.1)}),
    Case("batch_norm", {"x": IMAGE, "mean": x(4), "variance": x(4, low=0.5), "gamma": x(4), "beta": x(4), "epsilon": f(0.01)},
         lambda t, F, p: F.batch_norm(p["x"], p["mean"], p["variance"], p["gamma"], p["beta"], eps=0.01)),
    Case("batch_norm", {"x": IMAGE, "mean": x(4), "variance": f([0, 0, 1e-5, 1])},
         lambda t, F, p: F.batch_norm(p["x"], p["mean"], p["variance"])),
    Case("instance_norm", {"x": IMAGE, "gamma": x(4), "beta": x(4)},
         lambda t, F, p: F.instance_norm(p["x"], weight=p["gamma"], bias=p["beta"])),
    Case("l2_norm", {"x": IMAGE, "epsilon": f(0.5)}),
    *[Case(op, {"x": M, "axes": i(1), "keep_dims": B(keep)}) for keep in (True, False) for op in (
        "reduce_sum", "reduce_mean", "reduce_max", "reduce_min", "reduce_prod", "reduce_l1_norm", "reduce_l2_norm",
        "reduce_sum_square", "reduce_log_sum", "reduce_log_sum_exp")],
    Case("reduce_mean", {"x": A, "axes": i(-1, 0)}), Case("reduce_sum", {"x": A}), Case("reduce_log_sum_exp", {"x": A * 60}),
    *[Case(op, {"x": A, "axis": n(axis), "keep_dims": B(keep)}) for op in ("reduce_argmax", "reduce_argmin")
      for axis, keep in ((1, True), (-1, False))],
    Case("cumsum", {"x": A, "axis": n(1)}), Case("cumsum", {"x": A, "axis": n(-1), "exclusive": B(True), "reverse": B(True)},
         lambda t, F, p: p["x"].flip(-1).cumsum(-1).flip(-1) - p["x"]),
    Case("linear", {"x": A, "weight": x(5, 4), "bias": x(5)}), Case("linear", {"x": x(2, 3, 3, 4), "weight": x(5, 4)}),
    Case("matmul", {"x": x(2, 3, 4), "y": x(4, 5)}),
    Case("matmul", {"x": x(2, 1, 4, 3), "y": x(3, 5, 4), "transpose_x": B(True), "transpose_y": B(True)}),
    Case("scaled_dot_product_attention", QKV, lambda t, F, p: F.scaled_dot_product_attention(p["query"], p["key"], p["value"])),
    Case("scaled_dot_product_attention", {**QKV, "attn_mask": x(5, 5)},
         lambda t, F, p: F.scaled_dot_product_attention(p["query"], p["key"], p["value"], p["attn_mask"])),
    Case("scaled_dot_product_attention", {**QKV, "attn_mask": np.tri(5).astype(bool)},
         lambda t, F, p: F.scaled_dot_product_attention(p["query"], p["key"], p["value"], is_causal=True)),
    *[Case("einsum", {"values": [a, b], "equation": e}, lambda t, F, p, e=e: t.einsum(e, *p["values"])) for a, b, e in (
        (x(2, 3, 4, 5), x(2, 3, 6, 5), "bhqd,bhkd->bhqk"), (x(2, 3, 4), x(4, 5), "abc,cd->abd"),
        (x(2, 3, 4, 5), x(3, 6, 5), "bhwc,hkc->bhwk"), (x(3, 4), x(5), "ab,c->cab"), (x(3, 4), x(4), "ab,b->"))],
    Case("conv", {"x": IMAGE, "weight": KERNEL, "bias": x(6), "strides": i(2, 1), "pad_type": "custom", "pad": i(1, 2, 0, 1)},
         lambda t, F, p: F.conv2d(F.pad(p["x"], (0, 1, 1, 2)), p["weight"], p["bias"], stride=(2, 1))),
    Case("conv", {"x": IMAGE, "weight": x(6, 4, 2, 3), "dilations": i(2, 1), "pad_type": "valid"},
         lambda t, F, p: F.conv2d(p["x"], p["weight"], dilation=(2, 1))),
    Case("conv", {"x": IMAGE, "weight": x(8, 1, 3, 3), "groups": n(4), "pad_type": "same"},
         lambda t, F, p: F.conv2d(p["x"], p["weight"], groups=4, padding=1)),
    Case("conv", {"x": IMAGE, "weight": x(6, 2, 3, 3), "groups": n(2), "pad_type": "custom", "pad": i(1, 1, 1, 1)},
         lambda t, F, p: F.conv2d(p["x"], p["weight"], groups=2, padding=1)),
    Case("conv", {"x": x(2, 4, 9), "weight": x(3, 4, 3), "strides": i(2)}, lambda t, F, p: F.conv1d(p["x"], p["weight"], stride=2)),
    Case("conv", {"x": x(1, 2, 5, 4, 6), "weight": x(3, 2, 2, 3, 2), "bias": x(3)},
         lambda t, F, p: F.conv3d(p["x"], p["weight"], p["bias"])),
    Case("conv_transpose", {"x": IMAGE, "weight": x(4, 3, 2, 2), "bias": x(3), "strides": i(2, 2)},
         lambda t, F, p: F.conv_transpose2d(p["x"], p["weight"], p["bias"], stride=2)),
    Case("conv_transpose", {"x": IMAGE, "weight": x(4, 3, 3, 3), "strides": i(2, 1), "groups": n(2), "pad_type": "custom",
                            "pad": i(1, 1, 1, 1), "dilations": i(1, 2)},
         lambda t, F, p: F.conv_transpose2d(p["x"], p["weight"], stride=(2, 1), padding=1, groups=2, dilation=(1, 2))),
    Case("conv_transpose", {"x": IMAGE, "weight": x(4, 3, 3, 3), "strides": i(2, 2), "pad_type": "custom", "pad": i(1, 1, 1, 1),
                            "output_shape": i(2, 3, 14, 12)},
         lambda t, F, p: F.conv_transpose2d(p["x"], p["weight"], stride=2, padding=1, output_padding=1)),
    Case("max_pool", {"x": IMAGE, "kernel_sizes": i(3, 2), "strides": i(2, 1), "pad_type": "custom", "pad": i(1, 1, 0, 0)},
         lambda t, F, p: F.max_pool2d(p["x"], (3, 2), (2, 1), (1, 0))),
    Case("avg_pool", {"x": IMAGE, "kernel_sizes": i(2, 2), "strides": i(2, 2), "pad_type": "valid"},
         lambda t, F, p: F.avg_pool2d(p["x"], 2)),
    *[Case("avg_pool", {"x": IMAGE, "kernel_sizes": i(3, 3), "strides": i(1, 1), "pad_type": "custom", "pad": i(1, 1, 1, 1),
                        "exclude_padding_from_average": B(without)},
           lambda t, F, p, w=without: F.avg_pool2d(p["x"], 3, 1, 1, count_include_pad=not w)) for without in (True, False)],
    Case("reshape", {"x": A, "shape": i(4, -1)}), Case("reshape", {"x": A, "shape": i(0, -1, 2)}),
    Case("reshape_like", {"x": A, "ref_tensors": [x(6, 2), x(9, 4)], "begins": i(0, 1), "ends": i(1, 2), "end_masks": B([False, True])},
         lambda t, F, p: p["x"].reshape(6, 4)),
    Case("flatten2d", {"x": A, "axis": n(2)}), Case("flatten2d", {"x": A, "axis": n(-1)}),
    Case("transpose", {"x": A, "perm": i(2, 0, 1)}), Case("expand_dims", {"x": A, "axes": i(0, -1)}),
    Case("squeeze", {"x": x(1, 3, 1)}), Case("squeeze", {"x": x(1, 3, 1), "axes": i(-1)}),
    Case("concat", {"values": [A, C], "axis": n(1)}), Case("concat", {"values": [A, C], "axis": n(-1), "interleave": B(True)},  # coremltools infers as if it were False
         lambda t, F, p: t.stack(p["values"], -1).reshape(2, 3, 8)),
    Case("stack", {"values": [A, C], "axis": n(1)}),
    Case("split", {"x": A, "axis": n(2), "num_splits": n(2)}), Case("split", {"x": A, "axis": n(-1), "split_sizes": i(1, 3)}),
    Case("slice_by_index", {"x": A, "begin": i(0, -2, 1), "end": i(2, 3, -1)}),
    Case("slice_by_index", {"x": A, "begin": i(1, 2, 3), "end": i(0, 0, 0), "stride": i(1, -1, -2),
                            "begin_mask": B([False, True, False]), "end_mask": B([False, True, True]),
                            "squeeze_mask": B([True, False, False])}),
    Case("slice_update", {"x": A, "update": x(2, 1, 2), "begin": i(0, 1, 0), "end": i(0, 2, 4), "stride": i(1, 1, 2),
                          "end_mask": B([True, False, False])}),
    Case("slice_by_size", {"x": A, "begin": i(0, 1, 2), "size": i(-1, 2, 1)}),
    Case("pad", {"x": A, "pad": i(1, 2, 3, 0), "mode": "constant", "constant_val": f(0.5)}),
    Case("pad", {"x": IMAGE, "pad": i(1, 2, 3, 0), "mode": "reflect"}), Case("pad", {"x": IMAGE, "pad": i(1, 2, 3, 0), "mode": "replicate"}),
    Case("tile", {"x": A, "reps": i(1, 2, 3)}), Case("reverse", {"x": A, "axes": i(0, 2)}), Case("reverse", {"x": A}),
    Case("shape", {"x": A}), Case("fill", {"shape": i(2, 3), "value": f(1.5)}),
    Case("fill_like", {"ref_tensor": A, "value": f(1.5)}, lambda t, F, p: t.full((2, 3, 4), 1.5)),
    Case("range_1d", {"start": n(2), "end": n(9), "step": n(3)}), Case("range_1d", {"start": f(0.5), "end": f(2.0), "step": f(0.5)}),
    Case("one_hot", {"indices": i(0, 3, 1), "one_hot_vector_size": n(4), "axis": n(-1), "on_value": f(2.0), "off_value": f(-1.0)},
         lambda t, F, p: F.one_hot(p["indices"].long(), 4) * 3.0 - 1.0),
    Case("band_part", {"x": x(2, 4, 5), "lower": n(1), "upper": n(2)}), Case("band_part", {"x": x(4, 4), "lower": n(-1), "upper": n(0)}),
    Case("pixel_shuffle", {"x": x(2, 12, 3, 2), "upscale_factor": n(2)}, lambda t, F, p: F.pixel_shuffle(p["x"], 2)),
    Case("pixel_unshuffle", {"x": x(2, 3, 4, 6), "downscale_factor": n(2)}, lambda t, F, p: F.pixel_unshuffle(p["x"], 2)),
    Case("depth_to_space", {"x": x(2, 12, 3, 2), "block_size": n(2)},
         lambda t, F, p: F.pixel_shuffle(p["x"].reshape(2, 4, 3, 3, 2).transpose(1, 2).reshape(2, 12, 3, 2), 2)),
    Case("space_to_depth", {"x": x(2, 3, 4, 6), "block_size": n(2)},
         lambda t, F, p: F.pixel_unshuffle(p["x"], 2).reshape(2, 3, 4, 2, 3).transpose(1, 2).reshape(2, 12, 2, 3)),
    Case("gather", {"x": A, "indices": i(1, 0, -1), "axis": n(1)}), Case("gather", {"x": A, "indices": n(2), "axis": n(2)}),
    Case("gather", {"x": A, "indices": i(0, 2, 1, 1).reshape(2, 2), "axis": n(1), "batch_dims": n(1)},
         lambda t, F, p: t.stack([a[j] for a, j in zip(p["x"], p["indices"].long(), strict=True)])),
    Case("gather_along_axis", {"x": A, "indices": RNG.randint(0, 3, (2, 5, 4)).astype(np.int32), "axis": n(1)}),
    Case("gather_nd", {"x": A, "indices": i(0, 1, 1, 2).reshape(2, 2)}, lambda t, F, p: t.stack([p["x"][0, 1], p["x"][1, 2]])),
    *[Case("scatter", {"data": A, "indices": i(2, 0), "updates": x(2, 2, 4), "axis": n(1), "mode": mode},
           lambda t, F, p, m=mode: scattered(t, p, m)) for mode in ("update", "add", "sub", "mul", "div", "max", "min")],
    Case("scatter", {"data": A, "indices": i(2, 0), "updates": x(2, 2, 4), "axis": n(1)}, lambda t, F, p: scattered(t, p, "add")),
    Case("scatter_along_axis", {"data": A, "indices": RNG.randint(0, 3, (2, 2, 4)).astype(np.int32), "updates": x(2, 2, 4),
                                "axis": n(1), "mode": "add"},  # coremltools infers as if it were "update"
         lambda t, F, p: p["data"].scatter_add(1, p["indices"].long(), p["updates"])),
    Case("scatter_along_axis", {"data": A, "indices": np.argsort(x(2, 3, 4), 1)[:, :2].astype(np.int32), "updates": x(2, 2, 4),
                                "axis": n(1), "mode": "update"}),
    Case("scatter_nd", {"data": A, "indices": i(0, 1, 1, 2).reshape(2, 2), "updates": x(2, 4), "mode": "update"},
         lambda t, F, p: p["data"].index_put((t.tensor([0, 1]), t.tensor([1, 2])), p["updates"])),
    Case("argsort", {"x": A, "axis": n(1)}), Case("argsort", {"x": A, "axis": n(-1), "ascending": B(True)}),
    Case("topk", {"x": A, "k": n(2), "axis": n(-1)}), Case("topk", {"x": A, "k": n(2), "axis": n(1), "ascending": B(True)}),
    Case("non_zero", {"x": WHOLE}, lambda t, F, p: t.nonzero(p["x"])),
    Case("upsample_bilinear", {"x": IMAGE, "scale_factor_height": f(2.0), "scale_factor_width": f(3.0)},
         lambda t, F, p: F.interpolate(p["x"], size=(14, 18), mode="bilinear", align_corners=True)),
    Case("upsample_bilinear", {"x": IMAGE, "scale_factor_height": f(2.0), "scale_factor_width": f(1.5), "align_corners": B(False)},
         lambda t, F, p: F.interpolate(p["x"], size=(14, 9), mode="bilinear", align_corners=False)),
    Case("upsample_nearest_neighbor", {"x": IMAGE, "scale_factor_height": n(2), "scale_factor_width": n(3)},
         lambda t, F, p: F.interpolate(p["x"], scale_factor=(2, 3), mode="nearest")),
    Case("resize_nearest_neighbor", {"x": IMAGE, "target_size_height": n(5), "target_size_width": n(9)},
         lambda t, F, p: F.interpolate(p["x"], size=(5, 9), mode="nearest")),
    Case("resize_bilinear", {"x": IMAGE, "target_size_height": n(5), "target_size_width": n(9), "sampling_mode": "UNALIGN_CORNERS"},
         lambda t, F, p: F.interpolate(p["x"], size=(5, 9), mode="bilinear", align_corners=False)),
    *[Case("resize_bilinear", {"x": IMAGE, "target_size_height": n(5), "target_size_width": n(9), "sampling_mode": mode},
           lambda t, F, p: F.interpolate(p["x"], size=(5, 9), mode="bilinear", align_corners=True))
      for mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS")],
    Case("crop", {"x": IMAGE, "crop_height": i(1, 2), "crop_width": i(0, 3)}, lambda t, F, p: p["x"][:, :, 1:5, 0:3]),
    Case("resize", {"x": IMAGE, "shape": i(5, 9), "resized_dims": n(2), "sampling_mode": "UNALIGN_CORNERS"},
         lambda t, F, p: F.interpolate(p["x"], size=(5, 9), mode="bilinear", align_corners=False)),
    Case("resize", {"x": IMAGE, "shape": i(1, 0, 9), "resized_dims": n(2), "sampling_mode": "STRICT_ALIGN_CORNERS"},
         lambda t, F, p: F.interpolate(p["x"], size=(p["x"].shape[2], 9), mode="bilinear", align_corners=True)),
    Case("resize", {"x": IMAGE, "shape": i(5, 9), "resized_dims": n(1), "interpolation_mode": "NEAREST_NEIGHBOR"},
         lambda t, F, p: F.interpolate(p["x"], size=(p["x"].shape[2], 9), mode="nearest")),
    Case("slice_by_index", {"x": A, "begin": i(1, 2, 3), "end": i(0, 3, 4), "begin_mask": B([True, False, False]),
                            "squeeze_mask": B([True, False, False])}),
    Case("upsample_bilinear", {"x": IMAGE, "scale_factor_height": f(2.0), "scale_factor_width": f(3.0), "align_corners": B(False),
                               "half_pixel_centers": B(True)},
         lambda t, F, p: F.interpolate(p["x"], size=(14, 18), mode="bilinear", align_corners=False)),
    Case("quantize", {"input": A * 80, "scale": f(0.5), "output_dtype": "int8"}),
    Case("quantize", {"input": A, "scale": f([0.5, 0.25, 0.125]), "zero_point": B([3, 5, 0], "u1"), "axis": n(1), "output_dtype": "uint8"}),
    Case("dequantize", {"input": WHOLE.astype(np.int8), "scale": f(0.3)}),
    Case("dequantize", {"input": WHOLE.astype(np.int8), "scale": f([0.3, 0.1]), "zero_point": B([-3, 5], "i1"), "axis": n(0)}),
]  # fmt: skip


def scattered(t: Any, p: dict[str, Any], mode: str) -> Any:
    """torch's index operations along axis 1."""
    data, at, new = p["data"].clone(), p["indices"].long(), p["updates"]
    if mode in ("mul", "max", "min"):
        return data.index_reduce(1, at, new, {"mul": "prod", "max": "amax", "min": "amin"}[mode])
    if mode == "update":
        return data.index_copy(1, at, new)
    if mode == "div":
        return data.index_reduce(1, at, 1 / new, "prod")
    return data.index_add(1, at, new if mode == "add" else -new)


def label(index: int) -> str:
    return f"{index:03d}-{CASES[index].op}"


@cache
def answers() -> dict[str, Any]:
    """{"label": {"by": "coremltools" or "torch", "results": [{"dtype", "shape", "values"}]}}."""
    return json.loads((DATA / "op_answers.json").read_text())


def results(index: int) -> list[np.ndarray]:
    """What coremltools or torch gave for one case."""
    stored = answers()[label(index)]["results"]
    return [np.array(r["values"], r["dtype"]).reshape(r["shape"]) for r in stored]
