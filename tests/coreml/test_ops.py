"""Each operation gives what coremltools' own value inference gives, or torch where coremltools infers no values."""

import dataclasses

import numpy as np
import pytest
from coreml.op_cases import CASES, answers, label, results

from refsam.coreml.arithmetic import arithmetic
from refsam.coreml.mil import compute
from refsam.coreml.ops import OPS
from refsam.coreml.types import Operation, Output, TensorType
from refsam.errors import PackageError, UnsupportedOp

BY_HAND = {"constexpr_lut_to_sparse", "constexpr_sparse_blockwise_shift_scale", "constexpr_cast"}
"""Held against values worked out by hand, in test_sparse_tables_and_blocks."""

MODEL_WIDE = {
    "constexpr_affine_dequantize",
    "constexpr_lut_to_dense",
    "constexpr_sparse_to_dense",
    "constexpr_blockwise_shift_scale",
}
"""Held against coremltools on whole packages, in test_mil.py."""

SHIPPED = {
    "add", "batch_norm", "cast", "concat", "conv", "conv_transpose", "cos", "equal", "expand_dims", "gelu", "layer_norm",
    "linear", "matmul", "mul", "pad", "pow", "range_1d", "real_div", "reduce_mean", "reduce_prod", "relu", "reshape",
    "scatter", "select", "shape", "sin", "slice_by_index", "softmax", "split", "sqrt", "stack", "sub", "tile", "transpose",
}  # fmt: skip
"""What the six programs have that the app and its model's fork publish (iOS 15, coremltools 7.1)."""

MOVES = {
    "argsort", "band_part", "concat", "constexpr_lut_to_dense", "constexpr_lut_to_sparse", "constexpr_sparse_to_dense", "crop",
    "depth_to_space", "expand_dims", "fill", "fill_like", "flatten2d", "gather", "gather_along_axis", "gather_nd", "identity",
    "max_pool", "non_zero", "one_hot", "pad", "pixel_shuffle", "pixel_unshuffle", "reduce_max", "reduce_min", "reshape",
    "reshape_like", "resize_nearest_neighbor", "reverse", "select", "shape", "slice_by_index", "slice_by_size", "slice_update",
    "space_to_depth", "split", "squeeze", "stack", "tile", "topk", "transpose", "upsample_nearest_neighbor",
}  # fmt: skip
"""What computes nothing: each element of its result is one of its arguments, a place, or a length."""

NAMES = {"float32": "fp32", "float16": "fp16", "int32": "int32", "int64": "int32", "bool": "bool", "float64": "fp32",
         "int8": "int8", "uint8": "uint8"}  # fmt: skip


def run(index: int, precision: str | None = None) -> list[np.ndarray]:
    case, expected = CASES[index], results(index)
    outputs = tuple(Output(f"y{i}", TensorType(NAMES[str(e.dtype)], e.shape)) for i, e in enumerate(expected))
    with arithmetic(precision) as c, np.errstate(all="ignore"):
        given = {
            name: value.astype(c.dtype) if isinstance(value, np.ndarray) and value.dtype.kind == "f" else value
            for name, value in case.given.items()
        }
        return compute(Operation(case.op, {}, outputs), given, c)


@pytest.mark.parametrize("index", range(len(CASES)), ids=label)
def test_operation_is_as_documented(index: int) -> None:
    for found, expected in zip(run(index), results(index), strict=True):
        assert found.shape == expected.shape
        if expected.dtype.kind != "f":
            np.testing.assert_array_equal(found, expected)
        else:
            # Sums of some dozen float32 products, and functions within a few ulp: 2^-24 times twenty.
            scale = np.abs(expected[np.isfinite(expected)]).max(initial=1e-30)
            np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * scale)


def test_the_table_knows_what_only_moves() -> None:
    assert {name for name, operation in OPS.items() if operation.moves} == MOVES


@pytest.mark.parametrize("index", [i for i, case in enumerate(CASES) if case.op in MOVES], ids=label)
def test_what_only_moves_is_exact(index: int) -> None:
    for found, expected in zip(run(index), results(index), strict=True):
        np.testing.assert_array_equal(found, expected.astype(found.dtype))


def test_every_operation_has_a_case() -> None:
    assert set(SHIPPED) < set(OPS)
    tested = {case.op for case in CASES} | MODEL_WIDE
    assert set(OPS) - tested == BY_HAND
    assert len(OPS) > 120
    assert set(answers()) == {label(index) for index in range(len(CASES))}


def test_most_answers_are_coremltools_own() -> None:
    by = [answer["by"] for answer in answers().values()]
    assert by.count("coremltools") > 130


def compute_one(op: str, **given: object) -> np.ndarray:
    with arithmetic(None) as c:
        function = OPS[op]
        return function.function(**given, **({"c": c} if function.wants_arithmetic else {}))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int8, np.int32])
def test_whole_numbers_at_the_end_of_their_range_are_sorted(dtype: type) -> None:
    """Their negative wraps round. Equals keep their order."""
    least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
    x = np.array([1, least, most, 5, most, least], dtype)
    assert compute_one("argsort", x=x).tolist() == [2, 4, 3, 0, 1, 5]
    values, places = compute_one("topk", x=x, k=3)
    assert (values.tolist(), places.tolist()) == ([most, most, 5], [2, 4, 3])
    assert compute_one("argsort", x=np.array([False, True])).tolist() == [1, 0]


def test_an_open_begin_wins_over_a_squeezed_one() -> None:
    """In coremltools' value inference a mask takes begin away before squeeze looks at it."""
    x, at = (
        np.arange(15).reshape(5, 3),
        {"begin": [3, 0], "end": [0, 3], "begin_mask": [True, False], "squeeze_mask": [True, False]},
    )
    np.testing.assert_array_equal(compute_one("slice_by_index", x=x, **at), x[0])
    changed = compute_one("slice_update", x=x, update=np.full(3, -1), **at)
    assert (changed[0] == -1).all()
    np.testing.assert_array_equal(changed[1:], x[1:])


def test_infinities_do_not_become_nan() -> None:
    x = np.array([[np.inf, 1.0, 2.0], [-np.inf, -np.inf, -np.inf]], np.float32)
    with arithmetic("fp32") as c, np.errstate(all="ignore"):
        outputs = (Output("y", TensorType("fp32", (2, 3))),)
        (sums,) = compute(Operation("cumsum", {}, outputs), {"x": x, "axis": 1, "exclusive": True}, c)
        outputs = (Output("y", TensorType("fp32", (2,))),)
        (logs,) = compute(Operation("reduce_log_sum_exp", {}, outputs), {"x": x, "axes": [1]}, c)
    assert sums.tolist() == [[0, np.inf, np.inf], [0, -np.inf, -np.inf]]
    assert logs.tolist() == [np.inf, -np.inf]


@pytest.mark.parametrize("precision", ["fp64", "fp32", "fp16", "fp16-accumulate"])
def test_gelu_of_what_overflowed_is_infinite(precision: str) -> None:
    """In float16 numbers beyond 65504 are infinite, and a device hands them on so."""
    x = np.array([1.0, np.inf, -2.0, 3.0, 65504.0])
    with arithmetic(precision) as c, np.errstate(all="ignore"):
        (y,) = compute(Operation("gelu", {}, (Output("y", TensorType("fp16", (5,))),)), {"x": x.astype(c.dtype)}, c)
        (finite,) = compute(
            Operation("gelu", {}, (Output("y", TensorType("fp16", (3,))),)), {"x": x[[0, 2, 3]].astype(c.dtype)}, c
        )
    assert y[[1, 4]].tolist() == [np.inf, 65504.0]
    np.testing.assert_allclose(y[[0, 2, 3]], finite, atol=2e-6)


def test_sampling_points_of_the_documentation() -> None:
    """The examples in coremltools' text of resize_bilinear, two pixels wide."""
    from refsam.coreml.ops.resizing import sample_points

    def points(n: int, mode: str) -> list[float]:
        return sample_points(2, n, mode).round(2).tolist()

    assert points(5, "UNALIGN_CORNERS") == [0, 0.1, 0.5, 0.9, 1]
    assert points(5, "STRICT_ALIGN_CORNERS") == points(5, "ALIGN_CORNERS") == [0, 0.25, 0.5, 0.75, 1]
    assert points(5, "DEFAULT") == [0, 0.4, 0.8, 1, 1]
    assert points(5, "OFFSET_CORNERS") == [0.1, 0.3, 0.5, 0.7, 0.9]
    assert points(1, "ALIGN_CORNERS") == [0.5]
    assert points(1, "STRICT_ALIGN_CORNERS") == [0]


def test_whole_numbers_are_resized_to_the_nearest_only() -> None:
    """iOS 17's resize takes int32. Weights of that type would all be 0."""
    x = np.array([[[0, 10], [20, 30]]], np.int32)
    with pytest.raises(UnsupportedOp, match="a linear resize of int32 is documented nowhere as to how it rounds"):
        compute_one("resize", x=x, shape=[4, 4], resized_dims=2)
    nearest = compute_one("resize", x=x, shape=[4, 4], resized_dims=2, interpolation_mode="NEAREST_NEIGHBOR")
    assert nearest[0, 0].tolist() == [0, 0, 10, 10]


def test_sparse_tables_and_blocks() -> None:
    """iOS 18's joint compression: a mask, and under it indices into a table or blocks of integers."""
    mask = np.array([[1, 0, 1, 1], [0, 0, 1, 1]], np.uint8)
    lut = np.array([[[[0.5], [1.5], [-2.0], [4.0]]]], np.float32)
    kept, values = compute_one(
        "constexpr_lut_to_sparse", indices_mask=mask, indices_nonzero_data=np.array([0, 3, 1, 2, 2], np.uint8), lut=lut
    )
    np.testing.assert_array_equal(kept, mask)
    np.testing.assert_array_equal(values, np.array([0.5, 4.0, 1.5, -2.0, -2.0], np.float32))
    _, values = compute_one(
        "constexpr_sparse_blockwise_shift_scale", data_mask=mask, nonzero_data=np.array([1, 2, 3, -4, 5], np.int8),
        scale=np.array([[0.5, 2.0], [1.0, 10.0]], np.float32), offset=np.array([[1, 0], [0, 1]], np.int8),
    )  # fmt: skip
    np.testing.assert_array_equal(values, np.array([0.0, 4.0, 6.0, -50.0, 40.0], np.float32))
    np.testing.assert_array_equal(compute_one("constexpr_cast", source_val=np.float16([0.1])), np.float32(np.float16([0.1])))


def test_vectors_in_tables() -> None:
    indices = np.array([[0, 1], [1, 1]], np.uint8)
    lut = np.array([[[[1, 2], [3, 4]]]], np.float32)
    dense = compute_one("constexpr_lut_to_dense", indices=indices, lut=lut, vector_axis=0)
    np.testing.assert_array_equal(dense, [[1, 3], [2, 4], [3, 3], [4, 4]])


TALL = np.zeros((1 << 14, 1), np.float32)
MANY = np.ones(1 << 14, np.float32)
WIDE: dict[str, dict] = {
    "leaky_relu": {"alpha": MANY}, "thresholded_relu": {"alpha": MANY}, "elu": {"alpha": MANY}, "prelu": {"alpha": MANY},
    "clamped_relu": {"alpha": MANY, "beta": MANY}, "clip": {"alpha": MANY, "beta": MANY}, "threshold": {"alpha": MANY},
    "linear_activation": {"alpha": MANY, "beta": MANY}, "scaled_tanh": {"alpha": MANY, "beta": MANY},
    "sigmoid_hard": {"alpha": MANY, "beta": MANY}, "softplus_parametric": {"alpha": MANY, "beta": MANY},
    "batch_norm": {"mean": MANY, "variance": MANY},
}  # fmt: skip
"""Parameters that would be broadcast with it to 2^28 elements."""


@pytest.mark.parametrize(
    ("op", "given", "message"),
    [
        ("gather", {"x": np.zeros(3), "indices": np.array([3])}, "an index is between 3 and 3, and the axis has length 3"),
        ("scatter", {"data": np.zeros(3), "indices": np.array([-4]), "updates": np.ones(1)}, "has length 3"),
        ("tile", {"x": np.zeros(3), "reps": [1 << 40]}, "at most 134217728 elements"),
        ("fill", {"shape": [1 << 20, 1 << 20]}, "at most 134217728 elements"),
        ("range_1d", {"start": np.int64(0), "end": np.int64(1 << 60), "step": np.int64(1)}, "at most 134217728 elements"),
        ("range_1d", {"start": np.int64(0), "end": np.int64(9), "step": np.int64(0)}, "elements are computed"),
        ("pad", {"x": np.zeros(3), "pad": [0, 1 << 40]}, "at most 134217728 elements"),
        ("pad", {"x": np.zeros(3), "pad": [-1, 0]}, "padding"),
        ("add", {"x": np.zeros((1 << 14, 1)), "y": np.zeros((1, 1 << 14))}, "at most 134217728 elements"),
        ("conv", {"x": np.zeros((1, 1, 4, 4)), "weight": np.zeros((1, 1, 5, 5))}, "do not fit"),
        ("conv", {"x": np.zeros((1, 2, 4, 4)), "weight": np.zeros((1, 1, 3, 3))}, "1 groups and a weight of shape"),
        ("split", {"x": np.zeros(3), "axis": 0, "split_sizes": [1, 1]}, "parts of lengths"),
        ("slice_by_index", {"x": np.zeros(3), "begin": [0, 0], "end": [1, 1]}, "do not fit an input of 1 axes"),
        ("matmul", {"x": np.zeros((1 << 13, 1 << 13), "f4"), "y": np.zeros((1 << 13, 1 << 13), "f4")}, "multiplications"),
        ("one_hot", {"indices": np.zeros(4, int), "one_hot_vector_size": 1 << 40}, "at most 134217728 elements"),
        *((op, {"x": TALL, **given}, "at most 134217728 elements") for op, given in WIDE.items()),
        ("gather_along_axis", {"x": TALL.T, "indices": np.zeros((1 << 14, 1), int), "axis": 0}, "at most 134217728 elements"),
        ("scaled_dot_product_attention", {"query": np.zeros((1, 1, 1)), "key": np.zeros((1, 1 << 14, 1)),
                                          "value": np.zeros((1, 1 << 14, 1)), "attn_mask": np.zeros((1 << 14, 1, 1))}, "elem"),
        ("constexpr_affine_dequantize", {"quantized_data": np.zeros((1, 1 << 14), "i1"), "zero_point": np.zeros(1 << 14, "i1"),
                                         "scale": np.ones(1 << 14), "axis": 0}, "at most 134217728 elements"),
        ("concat", {"values": [np.zeros(1 << 14)] * (1 << 14), "axis": 0, "interleave": True}, "at most 134217728 elements"),
        ("one_hot", {"indices": np.zeros(0, int), "one_hot_vector_size": 1 << 40}, "at most 134217728 elements"),
        ("band_part", {"x": np.zeros((0, 1 << 26, 1 << 26))}, "at most 134217728 elements"),
        ("fill", {"shape": [0, 1 << 40]}, "at most 134217728 elements"),
        ("non_zero", {"x": np.ones((1 << 14, 1 << 10) + (1,) * 7, bool)}, "at most 134217728 elements"),
        ("resize_bilinear", {"x": np.zeros((1, 2, 2)), "target_size_height": 1 << 20, "target_size_width": 1 << 20}, "elements"),
    ],
)  # fmt: skip
def test_impossible_and_absurd_requests_are_refused(op: str, given: dict, message: str) -> None:
    with pytest.raises(PackageError, match=message):
        compute_one(op, **given)


@pytest.mark.parametrize(
    ("op", "given", "message"),
    [
        (
            "conv",
            {"x": np.zeros((1, 1, 4, 4)), "weight": np.zeros((1, 1, 3, 3)), "pad_type": "same", "strides": [2, 2]},
            "two ways",
        ),
        ("gelu", {"x": np.zeros(3), "mode": "FAST"}, "gelu has no mode 'FAST'; there are: EXACT"),
        ("resize_bilinear", {"x": np.zeros((1, 2, 2)), "sampling_mode": "CUBIC"}, "no sampling_mode 'CUBIC'"),
        ("cast", {"x": np.zeros(3), "dtype": "complex"}, "cast to 'complex'"),
        ("scatter", {"data": np.zeros(3), "indices": np.array([0]), "updates": np.ones(1), "mode": "xor"}, "no mode 'xor'"),
        ("einsum", {"values": [np.zeros((2, 2)), np.zeros((2, 2))], "equation": "aa,ab->b"}, "repeated"),
        ("upsample_bilinear", {"x": np.zeros((1, 2, 2)), "half_pixel_centers": True}, "both True is not computed"),
        ("quantize", {"input": np.zeros(3), "scale": np.ones(()), "output_dtype": "int4"}, "there are int8 and uint8"),
    ],
)
def test_variants_that_are_not_computed_say_so(op: str, given: dict, message: str) -> None:
    with pytest.raises(UnsupportedOp, match=message):
        compute_one(op, **given)


def test_a_parameter_that_an_operation_does_not_have_is_refused() -> None:
    operation = Operation("relu", {}, (Output("y", TensorType("fp32", (2,))),))
    with arithmetic(None) as c, pytest.raises(UnsupportedOp, match="relu has no parameter 'beta'; it takes x"):
        compute(operation, {"x": np.zeros(2, np.float32), "beta": 1}, c)
    with arithmetic(None) as c, pytest.raises(UnsupportedOp, match="relu lacks its parameter x"):
        compute(operation, {}, c)


def test_an_epsilon_is_one_number() -> None:
    operation = Operation("layer_norm", {}, (Output("y", TensorType("fp32", (2,))),))
    with arithmetic(None) as c, pytest.raises(PackageError, match=r"its epsilon has shape \(3,\)"):
        compute(operation, {"x": np.zeros(2, np.float32), "epsilon": np.zeros(3)}, c)


def test_steps_within_norms_are_rounded_where_accumulation_is() -> None:
    """1 + 2^-12 is no float16 number: rounded to 1 before the shift, it is not there after it."""
    image, one = np.full((1, 1, 1, 1), 1 + 2**-12, np.float32), np.ones(1, np.float32)
    parameters = {"mean": one * 0, "variance": one, "beta": -one, "epsilon": 0.0}
    for precision, expected in (("fp16", 2**-12), ("fp16-accumulate", 0)):
        with arithmetic(precision) as c:
            assert OPS["batch_norm"].function(c=c, x=image, **parameters).item() == expected
            squares = OPS["l2_norm"].function(c=c, x=image, epsilon=0.0).item()
            assert (squares == 1) == (precision == "fp16")


def test_a_result_has_to_have_its_declared_shape() -> None:
    operation = dataclasses.replace(Operation("relu", {}, (Output("y", TensorType("fp32", (3, None))),)))
    with arithmetic(None) as c, pytest.raises(PackageError, match=r"shape \(2, 2\), and the program declares fp32\[3, \?\]"):
        compute(operation, {"x": np.zeros((2, 2), np.float32)}, c)
