"""Packages that coremltools made from upstream's torch code give torch's results, on every target, compressed or not."""

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from coreml import fuzz_structure
from coreml.packages import CONFIG, DATA, PARTS, POINTS, case, names
from standin import standin_weights

from refsam import coreml
from refsam.coreml import mil
from refsam.coreml.arithmetic import PRECISIONS, arithmetic
from refsam.coreml.spec import Model
from refsam.coreml.types import Blob, Block, Feature, Literal, Operation, Output, TensorType
from refsam.errors import InputError, PackageError, UnsupportedOp

PLAIN = [name for name in names() if name.count(".") == 3]
COMPRESSED = [name for name in names() if name.count(".") == 2]
TARGETS = ("iOS15", "iOS16", "iOS17", "iOS18")

FP32 = 1e-5
"""Relative L2 against torch in float64: float32's rounding, and what the converter's batch_norm epsilon does (5e-6 each)."""

FP16 = 2e-2
"""An order above the unit roundoff 2^-11 times the root of a hundred operations in a row (5e-3): a wrong op is at 1."""


def error(x: np.ndarray, truth: np.ndarray) -> float:
    return float(np.linalg.norm(x.astype(np.float64) - truth) / np.linalg.norm(truth))


def test_there_is_a_package_for_every_part_and_target() -> None:
    assert {name.split(".")[0] for name in PLAIN} == set(PARTS)
    assert {name.split(".")[1] for name in PLAIN} == set(TARGETS)
    assert len(COMPRESSED) == 11


@pytest.mark.parametrize("points", POINTS)
@pytest.mark.parametrize("name", PLAIN)
def test_results_are_torchs(packages: Path, name: str, points: int) -> None:
    part, _, precision, _ = name.split(".")
    program = coreml.load(packages / name)
    found, truth = program.run(case(part, points)), case(part, points, "torch64")
    assert set(found) == set(truth)
    for output, value in found.items():
        assert value.shape == truth[output].shape
        assert error(value, truth[output]) < (FP32 if precision == "fp32" else FP16), output


@pytest.mark.parametrize("part", PARTS)
def test_float64_shows_the_converters_epsilon_and_nothing_else(packages: Path, part: str, monkeypatch) -> None:
    program = coreml.load(packages / f"{part}.iOS15.fp32.mlpackage")
    truth = case(part, 1, "torch64")
    errors = {name: error(x, truth[name]) for name, x in program.run(case(part, 1), "fp64").items()}
    assert all(e < FP32 for e in errors.values())
    function = coreml.ops.OPS["batch_norm"].function
    fixed = coreml.ops.Definition(
        lambda **p: function(**{**p, "epsilon": 0.0}),
        False,
        True,
        coreml.ops.OPS["batch_norm"].required,
        frozenset({"epsilon", "gamma", "beta"}),
    )
    monkeypatch.setitem(coreml.ops.OPS, "batch_norm", fixed)
    # What remains is the float32 of the stored constants (folded convolutions, 1 / sqrt(width), the grid).
    assert all(error(x, truth[name]) < 3e-7 for name, x in program.run(case(part, 1), "fp64").items())


@pytest.mark.parametrize("name", COMPRESSED)
def test_compressed_weights_are_those_that_coremltools_makes(packages: Path, name: str) -> None:
    program = coreml.load(packages / name)
    truth = json.loads((DATA / "dense.json").read_text())[name.split(".")[1]]
    compressed = [op for op in program.ops if op.type.startswith("constexpr_")]
    assert len(compressed) > 20
    with arithmetic(None) as c:
        dense = program.constants(c)
    checked = 0
    for operation in compressed:
        for output in operation.outputs:
            if output.name in truth:
                x = dense[output.name].astype(np.float16)
                np.testing.assert_array_equal(x, dense[output.name])  # and rounded to float16, as its type says
                assert hashlib.sha256(str(x.shape).encode() + x.tobytes()).hexdigest()[:32] == truth[output.name], output.name
                checked += 1
    assert checked == len({op.outputs[-1].name for op in compressed if op.outputs[-1].name in truth}) > 20


def test_precisions_are_in_order(packages: Path) -> None:
    program = coreml.load(packages / "MaskDecoder.iOS15.fp16.mlpackage")
    truth = program.run(case("MaskDecoder", 100), "fp64")["masks"]
    single, half, sums = (error(program.run(case("MaskDecoder", 100), p)["masks"], truth) for p in PRECISIONS[1:])
    assert 1e-8 < single < 1e-5 < 1e-4 < half < FP16
    assert half != sums < FP16  # its sums are of 32 terms: which of the two is nearer is chance


def test_sums_of_float16_lose_more_the_longer_they_are() -> None:
    a, b = np.random.RandomState(0).normal(0, 1, (2, 64, 4096)).astype(np.float16).astype(np.float32)
    truth = a.astype(np.float64) @ b.T.astype(np.float64)
    errors = []
    for precision in ("fp16", "fp16-accumulate"):
        with arithmetic(precision) as c:
            errors.append(error(c.half(c.dot(a, b.T)), truth))
    # One rounding, and 256 roundings of sums that grow like the root of their terms: the root of 256 / 2 times as much.
    assert errors[0] < 2**-11
    assert 4 < errors[1] / errors[0] < 30


def test_as_typed_is_float16_where_the_program_says_so(packages: Path) -> None:
    program = coreml.load(packages / "MaskDecoder.iOS15.fp16.mlpackage")
    seen = []

    def see(operation: Operation, _bound: object, results: list[np.ndarray]) -> None:
        for output, value in zip(operation.outputs, results, strict=True):
            if str(output.type).startswith("fp16"):
                seen.append(np.array_equal(value, value.astype(np.float16).astype(np.float32)))

    program.run(case("MaskDecoder", 1), observe=see)
    assert len(seen) > 150
    assert all(seen)


def test_threads_do_not_show(packages: Path) -> None:
    program = coreml.load(packages / "ImageEncoder.iOS15.fp16.mlpackage")
    one, three = (program.run(case("ImageEncoder", 1), threads=n)["embeddings"] for n in (1, 3))
    np.testing.assert_array_equal(one, three)


def test_results_that_nobody_needs_any_more_are_freed(packages: Path) -> None:
    import gc
    import weakref

    program = coreml.load(packages / "ImageEncoder.iOS15.fp32.mlpackage")
    alive: list[weakref.ref] = []
    most = 0

    def count(_operation: Operation, _bound: object, results: list[np.ndarray]) -> None:
        nonlocal most
        alive.extend(weakref.ref(value) for value in results)
        most = max(most, sum(ref() is not None for ref in alive))

    program.run(case("ImageEncoder", 1), observe=count)
    gc.collect()
    assert len(alive) > 150
    assert most < 20


def test_weights_stand_in_the_package_as_torch_has_them(packages: Path) -> None:
    weights = standin_weights(CONFIG)
    program = coreml.load(packages / "MaskDecoder.iOS15.fp32.mlpackage")
    blobs = {op.name: op.attributes["val"] for op in program.ops if isinstance(op.attributes.get("val"), Blob)}
    name = "decoder_transformer_layers_0_self_attn_q_proj_weight"
    assert name in blobs
    np.testing.assert_array_equal(blobs[name].read(), weights["mask_decoder.transformer.layers.0.self_attn.q_proj.weight"])


def test_wrong_inputs_are_named(packages: Path) -> None:
    program = coreml.load(packages / "PromptEncoder.iOS15.fp16.mlpackage")
    given = case("PromptEncoder", 1)
    with pytest.raises(InputError, match=r"\['points'\].*\['labels', 'points'\]"):
        program.run({"points": given["points"]})
    with pytest.raises(InputError, match=r"points has shape \(1, 101, 2\).*\(1, 1\.\.100, 2\)"):
        program.run({**given, "points": np.zeros((1, 101, 2))})
    with pytest.raises(InputError, match="precision is 'half'"):
        program.run(given, "half")
    with pytest.raises(InputError, match="labels is not an array of numbers"):
        program.run({**given, "labels": np.array([["a"]])})


@pytest.mark.parametrize("value", [0.5, np.nan, 1 << 40])
def test_inputs_that_their_type_cannot_hold_are_refused(value: float) -> None:
    """They would be cut, or wrap round."""
    program = program_of("identity", TensorType("int32", (1,)), TensorType("int32", (1,)))
    assert program.run({"x": np.array([-3.0])})["y"].tolist() == [-3]
    with pytest.raises(InputError, match="input x has numbers that int32 cannot hold"):
        program.run({"x": np.array([value])})


def of_functions(path: Path, own: str, default: str) -> Path:
    """As coremltools' `save_multifunction` (iOS 18) writes it: each function has a description of its own, and the model none.
    This package's has the name `own`; there is another, without a body."""
    tree = fuzz_structure.tree_of(path)
    description, program = (next(entry for entry in tree if entry[0] == number)[1] for number in (2, 502))
    described = [[{1: 2, 10: 3}[number], feature] for number, feature in description if number in (1, 10)]
    kept = [entry for entry in description if entry[0] not in (1, 10)]
    other = [[20, [[1, b"other"]]], [20, [[1, own.encode()], *described]], [21, default.encode()]]
    description[:] = other + kept
    body = next(entry for entry in program if entry[0] == 2)[1]
    next(entry for entry in body if entry[0] == 1)[1] = own.encode()
    program.append([2, [[1, b"other"], [2, []]]])
    fuzz_structure.model_of(path).write_bytes(fuzz_structure.written(tree))
    return path


@pytest.mark.parametrize(("own", "default"), [("main", ""), ("main", "main"), ("decode", "decode")])
def test_of_several_functions_the_default_is_described_and_run(packages: Path, tmp_path: Path, own: str, default: str) -> None:
    """The one that Core ML runs where none is asked for; `main` where the package says nothing."""
    path = Path(shutil.copytree(packages / "PromptEncoder.iOS18.fp16.mlpackage", tmp_path / "several.mlpackage"))
    single, several = coreml.load(path), coreml.load(of_functions(path, own, default))
    assert (several.inputs, several.outputs) == (single.inputs, single.outputs)
    given = case("PromptEncoder", 1)
    expected = single.run(given)
    for name, x in several.run(given).items():
        np.testing.assert_array_equal(expected[name], x)


def test_a_default_function_that_is_not_there_is_said(packages: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(packages / "PromptEncoder.iOS18.fp16.mlpackage", tmp_path / "several.mlpackage"))
    with pytest.raises(PackageError, match="no function named encode, its default; it has: decode, other"):
        coreml.load(of_functions(path, "decode", "encode"))


def test_an_unknown_operation_says_its_name_its_place_and_what_there_is(packages: Path) -> None:
    program = coreml.load(packages / "PromptEncoder.iOS15.fp16.mlpackage")
    ops = list(program.ops)
    at = next(i for i, op in enumerate(ops) if op.type == "sin")
    ops[at] = dataclasses.replace(ops[at], type="lstm")
    model = dataclasses.replace(program.model, block=dataclasses.replace(program.model.block, operations=tuple(ops)))
    with pytest.raises(UnsupportedOp, match=rf"does not compute lstm \(at {ops[at].name}\); it computes: .*softmax"):
        dataclasses.replace(program, model=model, _constants={}).run(case("PromptEncoder", 1))


def program_of(kind: str, given: TensorType, made: TensorType, **parameters: np.ndarray) -> coreml.Program:
    """One operation on x whose other parameters are constants of the types that they have."""
    names = {np.dtype("f4"): "fp32", np.dtype("f2"): "fp16", np.dtype("i4"): "int32", np.dtype("?"): "bool"}
    constants = []
    for name, value in parameters.items():
        own = TensorType(names[value.dtype], value.shape)
        constants.append(Operation("const", {}, (Output(name, own),), {"val": Literal(own, value)}))
    inputs = {name: (name,) for name in ("x", *parameters)}
    block = Block((), ("y",), (*constants, Operation(kind, inputs, (Output("y", made),))))
    model = Model(7, "CoreML6", (Feature("x", "fp32", given.shape),), (), {}, (Output("x", given),), block)
    return coreml.Program("x.mlpackage", model)


@pytest.mark.parametrize("precision", [None, *PRECISIONS])
def test_no_precision_rounds_what_a_length_follows_from(precision: str | None) -> None:
    """64 / 14 in float16 is less than that, and 63 rows would not fit the declared 64. An epsilon of 1e-12 would be 0."""
    factor = np.float32((64 + 1e-4) / 14).reshape(())
    larger = program_of(
        "upsample_bilinear", TensorType("fp32", (1, 1, 14, 14)), TensorType("fp32", (1, 1, 64, 64)),
        scale_factor_height=factor, scale_factor_width=factor, align_corners=np.array(False),
    )  # fmt: skip
    assert larger.run({"x": np.ones((1, 1, 14, 14))}, precision)["y"].shape == (1, 1, 64, 64)
    root = program_of("rsqrt", TensorType("fp32", (2,)), TensorType("fp32", (2,)), epsilon=np.array(2.0**-30, "f4"))
    assert root.run({"x": np.zeros(2)}, precision)["y"].tolist() == [2.0**15, 2.0**15]


@pytest.mark.parametrize("precision", [None, *PRECISIONS])
def test_no_precision_rounds_the_length_of_a_range(precision: str | None) -> None:
    """4097 in float16 is 4096."""
    scalar, made = TensorType("fp32", ()), TensorType("fp32", (4097,))
    numbers = {"start": 0, "end": 4097, "step": 1}
    constants = [
        Operation("const", {}, (Output(n, scalar),), {"val": Literal(scalar, np.array(v, "f4"))}) for n, v in numbers.items()
    ]
    counted = Operation("range_1d", {name: (name,) for name in numbers}, (Output("y", made),))
    program = coreml.Program("x", Model(6, "CoreML5", (), (), {}, (), Block((), ("y",), (*constants, counted))))
    assert program.run({}, precision)["y"][-1] == 4096


@pytest.mark.parametrize("kind", ["upsample_bilinear", "upsample_nearest_neighbor"])
@pytest.mark.parametrize("sides", [(7, 7), (6, 6)])
def test_a_length_that_float32_decides_is_the_declared_one(kind: str, sides: tuple[int, int]) -> None:
    """5 * 1.4 and 10 * 0.7 with factors in float32: 7 by coremltools with NumPy 2, and 6 in float64."""
    factors = {"scale_factor_height": np.array(1.4, "f4"), "scale_factor_width": np.array(0.7, "f4")}
    made = TensorType("fp32", (1, 1, *sides))
    assert program_of(kind, TensorType("fp32", (1, 1, 5, 10)), made, **factors).run({"x": np.ones((1, 1, 5, 10))})["y"].all()


@pytest.mark.parametrize("sides", [(8, 7), (5, 6)])
def test_any_other_length_is_refused(sides: tuple[int, int]) -> None:
    factors = {"scale_factor_height": np.array(1.4, "f4"), "scale_factor_width": np.array(0.7, "f4")}
    larger = program_of("upsample_bilinear", TensorType("fp32", (1, 1, 5, 10)), TensorType("fp32", (1, 1, *sides)), **factors)
    with pytest.raises(PackageError, match=r"and the program declares fp32\[1, 1"):
        larger.run({"x": np.ones((1, 1, 5, 10))})


def test_constants_count_among_the_bytes_that_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """One blob may be the value of many."""
    kind = TensorType("fp16", (1 << 10,))
    blob = Blob(kind, "w", 64, lambda: np.zeros(1 << 10, np.float16))
    operations = tuple(Operation("const", {}, (Output(f"c{i}", kind),), {"val": blob}) for i in range(60))
    program = coreml.Program("x", Model(6, "CoreML5", (), (), {}, (), Block((), ("c0",), operations)))
    assert program.run({})["c0"].shape == (1 << 10,)
    monkeypatch.setattr(mil, "MAX_BYTES", 40 << 12)
    with pytest.raises(PackageError, match="at c40 its results take 167936 bytes; at most 163840 are held"):
        dataclasses.replace(program, _constants={}).run({})


def gathering(opset: str, kind: str, indices: list[int]) -> coreml.Program:
    """Elements of x, or x with ones written over them, by the operation set of this name."""
    rows = {"indices": np.array(indices, np.int32)}
    made = TensorType("fp32", (3,) if kind.startswith("scatter") else (len(indices),))
    if kind.endswith("_nd"):
        rows["indices"] = rows["indices"][:, None]
    if kind.startswith("scatter"):
        rows["updates"] = np.ones(len(indices), np.float32)
    program = program_of(kind, TensorType("fp32", (3,)), made, **rows)
    *constants, op = program.ops
    named = {"data" if name == "x" and "updates" in rows else name: value for name, value in op.inputs.items()}
    block = dataclasses.replace(program.model.block, operations=(*constants, dataclasses.replace(op, inputs=named)))
    return coreml.Program("x.mlpackage", dataclasses.replace(program.model, opset=opset, block=block))


@pytest.mark.parametrize("kind", ["gather", "gather_along_axis", "gather_nd", "scatter", "scatter_along_axis", "scatter_nd"])
def test_from_ios_17_on_negative_indices_are_out_of_bounds(kind: str) -> None:
    """coremltools' text of iOS 17's gather says so, and its pass guard_negative_gather_indices."""
    given = {"x": np.array([10.0, 20.0, 30.0])}
    for opset in ("CoreML5", "CoreML6"):
        assert gathering(opset, kind, [-1]).run(given)["y"][-1] == (31 if kind.startswith("scatter") else 30)
    for opset in ("CoreML7", "CoreML8", "CoreML9"):
        assert gathering(opset, kind, [2, 0]).run(given)["y"][-1] == (31 if kind.startswith("scatter") else 10)
        with pytest.raises(PackageError, match=f"at {kind} 'y': index -1 is negative, which is out of bounds from iOS 17 on"):
            gathering(opset, kind, [2, -1]).run(given)
