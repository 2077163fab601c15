"""A planted fault is named at its operation; what is clean is found clean."""

import dataclasses
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coreml.evidence import drawn_outcome
from coreml.faults import IN_EXECUTORS, IN_PACKAGES, Fault, faulty_dump, faulty_package, target
from coreml.packages import CONFIG, case, names
from standin import standin_weights

from refsam import coreml
from refsam.coreml.arithmetic import PRECISIONS, Arithmetic
from refsam.coreml.mil import Program, compute
from refsam.coreml.spec import Model
from refsam.coreml.types import Block, Feature, Literal, Operation, Output, TensorType
from refsam.coreml.verdicts import PackageVerdict, RunVerdict, executor, judge_package, judge_run, package
from refsam.coreml.verdicts.package import epsilon_faults
from refsam.errors import InputError, PackageError
from refsam.model.sam import MobileSam

PLAIN = [name for name in names() if name.count(".") == 3]
WIDER = dataclasses.replace(CONFIG, prompt_embed_dim=64)
BELOW = {"gamma 1e-5 off": "float16 has no such number, and the float32 budget is 2e-5"}
"""Faults that a package's precision hides."""


@pytest.fixture(scope="module")
def model() -> MobileSam:
    return MobileSam(standin_weights(CONFIG), CONFIG)


def dump_of(program: coreml.Program, part: str, precision: str | None) -> dict[str, np.ndarray]:
    dump: dict[str, np.ndarray] = {}
    program.run(
        case(part, 100),
        precision,
        observe=lambda op, _, results: dump.update(zip([o.name for o in op.outputs], results, strict=True)),
    )
    return dump


def package_verdict(source: Path, folder: Path, fault: Fault, model: MobileSam) -> tuple[PackageVerdict, list[str]]:
    program, places = faulty_package(source, folder, fault)
    return judge_package(program, model, case(fault.part, 100)), places


PLANTED = [(fault, ("fp16", "fp32")[place % 2]) for place, fault in enumerate(IN_PACKAGES)]
"""Each in one precision; make evidence has both."""


@pytest.mark.parametrize(("fault", "precision"), PLANTED, ids=lambda x: x.name if isinstance(x, Fault) else x)
def test_a_fault_in_a_package_is_named(packages: Path, tmp_path: Path, model: MobileSam, fault: Fault, precision: str) -> None:
    verdict, places = package_verdict(packages / f"{fault.part}.iOS15.{precision}.mlpackage", tmp_path, fault, model)
    if fault.name in BELOW:
        assert verdict
        assert max(found.error for found in verdict.found if found.name in places) < verdict.budget
    else:
        assert not verdict
        assert verdict.faults[0].name in places
        assert verdict.faults[0].error > 1e-6


@pytest.mark.parametrize(
    ("name", "points"), [(name, points) for name in PLAIN for points in ((1,) if name.startswith("Image") else (1, 100))]
)
def test_no_fault_is_found_in_clean_packages(packages: Path, model: MobileSam, name: str, points: int) -> None:
    part = name.split(".")[0]
    program = coreml.load(packages / name)
    verdict = judge_package(program, model, case(part, points))
    assert verdict, verdict.faults
    assert not verdict.unmatched
    computed = sum(not op.is_constant for op in program.ops)
    assert len(verdict.found) > computed * (0.15 if part == "PromptEncoder" else 0.7)


def test_the_converters_epsilon_is_recognised_and_quantified(packages: Path, model: MobileSam) -> None:
    """gamma x + beta as a batch_norm with its default epsilon: 1 / sqrt(1 + 1e-5) is 5e-6 off one."""
    for part, count in (("ImageEncoder", 2), ("MaskDecoder", 1), ("PromptEncoder", 0)):
        verdict = judge_package(coreml.load(packages / f"{part}.iOS15.fp32.mlpackage"), model, case(part, 1))
        assert [round(error * 1e6, 3) for _, error in verdict.epsilon] == [5.0] * count
        measured = {found.name: found.error for found in verdict.found}
        assert all(0.5 * error < measured[name] < 1.5 * error for name, error in verdict.epsilon)


RUNS = [
    *(("fp16", None, fault) for fault in IN_EXECUTORS[::2]),  # make evidence has all three for all faults
    *(("fp32", None, fault) for fault in IN_EXECUTORS[1::6]),
    *(("fp16", "fp16-accumulate", fault) for fault in IN_EXECUTORS[::6]),
]


@pytest.mark.parametrize(("stored", "precision", "fault"), RUNS, ids=lambda x: x.name if isinstance(x, Fault) else str(x))
def test_a_fault_in_an_executor_is_named(packages: Path, fault: Fault, stored: str, precision: str | None) -> None:
    program = coreml.load(packages / f"{fault.part}.iOS15.{stored}.mlpackage")
    dump = faulty_dump(program, fault, case(fault.part, 1), precision)
    verdict = judge_run(program, case(fault.part, 1), dump, precision)
    place = target(program, fault).name
    if precision == "fp16-accumulate" and fault.name in BELOW:
        assert verdict
    else:
        assert verdict.faults[0].name == place
        assert verdict.faults[0].excess > 1
        assert {found.name for found in verdict.faults} <= {place, *users(program, place)}


@pytest.mark.parametrize("in_executor", [False, True])
@pytest.mark.parametrize("seed", [25, 26])
def test_a_fault_drawn_by_lot_is_never_named_elsewhere(
    packages: Path, tmp_path: Path, model: MobileSam, seed: int, in_executor: bool
) -> None:
    """Seeds that make evidence does not have."""
    _, _, named, _ = drawn_outcome(packages, tmp_path, model, "fp16", seed, in_executor)
    assert named in ("yes", "below the budget")


def users(program: coreml.Program, name: str) -> list[str]:
    """The operations right after it."""
    return [op.name for op in program.ops if any(name in group for group in op.inputs.values())]


@pytest.mark.parametrize("precision", [None, *PRECISIONS])
@pytest.mark.parametrize("name", [name for name in PLAIN if name.endswith(".iOS15.fp16.mlpackage")])
def test_no_fault_is_found_in_clean_runs(packages: Path, name: str, precision: str | None) -> None:
    part = name.split(".")[0]
    program = coreml.load(packages / name)
    verdict = judge_run(program, case(part, 100), dump_of(program, part, precision), precision)
    assert verdict, verdict.faults
    assert len(verdict.ops) == sum(len(op.outputs) for op in program.ops if not op.is_constant)


def reordered(_self: Arithmetic, a: np.ndarray, b: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """The sum of products in three strided parts, the last first."""
    rows = b if b.ndim == 1 else np.swapaxes(b, -1, -2)
    parts = [a[..., i::3] @ (rows[i::3] if b.ndim == 1 else np.swapaxes(rows[..., i::3], -1, -2)) for i in (2, 0, 1)]
    return np.add(parts[0] + parts[1], parts[2], out=out)


@pytest.mark.parametrize("name", [name for name in PLAIN if ".iOS15." in name])
def test_another_order_of_sums_is_no_fault(packages: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    part = name.split(".")[0]
    program = coreml.load(packages / name)
    plain = dump_of(program, part, None)
    with monkeypatch.context() as patch:
        patch.setattr(Arithmetic, "product", reordered)
        other = dump_of(program, part, None)
    if part != "PromptEncoder":
        assert any(not np.array_equal(plain[key], other[key]) for key in plain)
    assert judge_run(program, case(part, 100), other), part


def test_operations_that_were_not_dumped_are_judged_together(packages: Path) -> None:
    program = coreml.load(packages / "MaskDecoder.iOS15.fp16.mlpackage")
    fault = next(f for f in IN_EXECUTORS if f.name == "attention scale of another width")
    dump = faulty_dump(program, fault, case("MaskDecoder", 1), None)
    kept = {op.name for op in program.ops if op.type in ("linear", "layer_norm", "softmax")}
    verdict = judge_run(program, case("MaskDecoder", 1), {name: x for name, x in dump.items() if name in kept})
    assert [target(program, fault).name in found.span for found in verdict.faults] == [True]
    clean = {name: x for name, x in dump_of(program, "MaskDecoder", None).items() if name in kept}
    assert judge_run(program, case("MaskDecoder", 100), clean)


def test_overflow_and_subnormals_are_told(packages: Path) -> None:
    program = coreml.load(packages / "ImageEncoder.iOS15.fp16.mlpackage")
    verdict: RunVerdict = judge_run(program, case("ImageEncoder", 1), dump_of(program, "ImageEncoder", None))
    assert all(op.headroom > 1 for op in verdict.ops)
    assert min(op.headroom for op in verdict.ops) < 65504 / 4
    assert max(op.subnormal for op in verdict.ops) < 0.5
    small = {"image": case("ImageEncoder", 1)["image"] * np.float32(6e-5)}
    dump_small: dict[str, np.ndarray] = {}
    program.run(small, observe=lambda op, _, results: dump_small.update(zip([o.name for o in op.outputs], results, strict=True)))
    first = judge_run(program, small, dump_small).ops[0]
    found = dump_small[first.name]
    assert first.op == "cast"
    assert 0.3 < first.subnormal < 0.95
    part = np.count_nonzero((found != 0) & (np.abs(found) < 2**-14)) / np.count_nonzero(found)
    assert abs(first.subnormal - part) < 0.01  # some are rounded up to the least normal number
    large = {"image": case("ImageEncoder", 1)["image"] * np.float32(1e4)}
    dump: dict[str, np.ndarray] = {}
    program.run(large, observe=lambda op, _, results: dump.update(zip([o.name for o in op.outputs], results, strict=True)))
    overflowing = [op for op in judge_run(program, large, dump).ops if op.headroom < 1]
    assert overflowing
    assert all(np.isinf(dump[op.name]).any() for op in overflowing)


def test_a_package_that_overflows_on_these_inputs_says_where(packages: Path, model: MobileSam) -> None:
    """Of a float32 package nothing is said."""
    given = case("MaskDecoder", 1)
    large = {**given, "image_embeddings": given["image_embeddings"] * np.float32(1e5)}
    for stored, overflows in (("fp16", True), ("fp32", False)):
        program = coreml.load(packages / f"MaskDecoder.iOS15.{stored}.mlpackage")
        assert not judge_package(program, model, given).overflow
        found = judge_package(program, model, large).overflow
        assert bool(found) == overflows
        assert all(factor > 1 for _, factor in found)


def test_a_dump_of_something_else_is_refused(packages: Path) -> None:
    program = coreml.load(packages / "MaskDecoder.iOS15.fp16.mlpackage")
    with pytest.raises(InputError, match="the dump has x, and no result of"):
        judge_run(program, case("MaskDecoder", 1), {"x": np.zeros(3)})
    name = next(op.name for op in program.ops if op.type == "linear")
    wrong = judge_run(program, case("MaskDecoder", 1), {name: np.zeros(3)})
    assert "it has shape (3,), and the program makes" in wrong.faults[0].reason


def changed(program: coreml.Program, first: str, change: Callable[[Operation], Operation]) -> coreml.Program:
    """The program with another first operation of a type."""
    ops = list(program.ops)
    at = next(i for i, op in enumerate(ops) if op.type == first)
    ops[at] = change(ops[at])
    model = dataclasses.replace(program.model, block=dataclasses.replace(program.model.block, operations=tuple(ops)))
    return dataclasses.replace(program, model=model, _constants={})


@pytest.mark.parametrize("wrong", [7, -5, 0, 1 << 30])
def test_whole_numbers_that_make_the_next_operation_impossible_are_named(packages: Path, wrong: int) -> None:
    """A device's wrong shape or index: the rest is judged on the program's own."""
    program, given = coreml.load(packages / "PromptEncoder.iOS15.fp16.mlpackage"), case("PromptEncoder", 1)
    dump: dict[str, np.ndarray] = {}
    program.run(given, observe=lambda op, _, results: dump.update(zip([o.name for o in op.outputs], results, strict=True)))
    whole = [name for name, x in dump.items() if x.dtype.kind == "i"]
    assert len(whole) > 5
    for name in whole:
        other = np.full_like(dump[name], wrong)
        verdict = judge_run(program, given, {**dump, name: other})
        assert [fault.name for fault in verdict.faults][:1] == ([] if np.array_equal(other, dump[name]) else [name])
        assert len(verdict.ops) == len(dump)


def test_a_dump_of_texts_is_named(packages: Path) -> None:
    program, given = coreml.load(packages / "PromptEncoder.iOS15.fp16.mlpackage"), case("PromptEncoder", 1)
    name = next(op.name for op in program.ops if op.type == "add")
    shape = program.run(given, observe=None)["sparse"].shape
    (result,) = (op.outputs[0] for op in program.ops if op.name == name)
    text = np.full([shape[1] if n is None else n for n in result.type.shape], "a")
    verdict = judge_run(program, given, {name: text})
    assert "array of <U1" in verdict.faults[0].reason


def test_a_program_that_cannot_run_says_where_in_every_verdict(packages: Path, model: MobileSam) -> None:
    program, given = coreml.load(packages / "MaskDecoder.iOS15.fp32.mlpackage"), case("MaskDecoder", 1)
    dump = dump_of(program, "MaskDecoder", None)
    shape = (Literal(TensorType("int32", (2,)), np.array([7, 11], np.int32)),)
    damaged = changed(program, "reshape", lambda op: dataclasses.replace(op, inputs={**op.inputs, "shape": shape}))
    without = changed(
        program,
        "batch_norm",
        lambda op: dataclasses.replace(op, inputs={k: v for k, v in op.inputs.items() if k != "mean"}),
    )
    for bad, message in ((damaged, "at reshape .*do not fit it"), (without, "at batch_norm .*lacks its parameter mean")):
        with pytest.raises(PackageError, match=message):
            judge_run(bad, given, dump)
        with pytest.raises(PackageError, match=message):
            judge_package(bad, model, given)
    assert epsilon_faults(without) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sparse": None}, r"the program needs \['dense'"),
        ({"sparse": np.array([["a"]])}, "sparse is not an array of numbers"),
        ({"image_embeddings": np.zeros((1, 32, 2, 4))}, r"image_embeddings has shape \(1, 32, 2, 4\)"),
    ],
)
def test_inputs_are_checked_before_they_are_read(packages: Path, model: MobileSam, change: dict, message: str) -> None:
    program = coreml.load(packages / "MaskDecoder.iOS15.fp32.mlpackage")
    given = {name: x for name, x in {**case("MaskDecoder", 1), **change}.items() if x is not None}
    with pytest.raises(InputError, match=message):
        judge_package(program, model, given)
    with pytest.raises(InputError, match=message):
        judge_run(program, given, {program.model.block.outputs[0]: np.zeros(1)})


def test_a_package_of_another_size_than_the_weights_is_no_traceback(packages: Path, model: MobileSam) -> None:
    program = coreml.load(packages / "MaskDecoder.iOS15.fp32.mlpackage")
    other = MobileSam(standin_weights(WIDER), WIDER)
    with pytest.raises(InputError, match="refsam's mask decoder with these weights cannot take inputs of"):
        judge_package(program, other, case("MaskDecoder", 1))


@pytest.mark.parametrize("verdict", ["run", "package"])
def test_verdicts_free_what_they_no_longer_need(
    packages: Path, model: MobileSam, verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, given = coreml.load(packages / "MaskDecoder.iOS15.fp32.mlpackage"), case("MaskDecoder", 1)
    dump = dump_of(program, "MaskDecoder", None) if verdict == "run" else {}
    place = executor if verdict == "run" else package
    alive, most = [], 0

    def counted(*arguments: Any) -> list[Any]:
        nonlocal most
        results = compute(*arguments)
        alive.extend(weakref.ref(value) for value in results)
        most = max(most, sum(ref() is not None for ref in alive))
        return results

    monkeypatch.setattr(place, "compute", counted)
    judge_run(program, given, dump) if verdict == "run" else judge_package(program, model, given)
    assert len(alive) > 150
    assert most < (60 if verdict == "run" else 30)


def test_a_quotient_that_nearly_is_a_half_may_be_rounded_either_way() -> None:
    """An executor that divides in float16 gets another neighbour now and then, and is right."""
    kind = {name: TensorType(name, ()) for name in ("fp16", "string")}
    constants = [
        Operation("const", {}, (Output("s", kind["fp16"]),), {"val": Literal(kind["fp16"], np.float16(0.0235))}),
        Operation("const", {}, (Output("d", kind["string"]),), {"val": Literal(kind["string"], "int8")}),
    ]
    inputs = {"input": ("x",), "scale": ("s",), "output_dtype": ("d",)}
    quantize = Operation("quantize", inputs, (Output("y", TensorType("int8", (2000,))),))
    main = Block((), ("y",), (*constants, quantize))
    given = Output("x", TensorType("fp16", (2000,)))
    program = Program("x.mlpackage", Model(8, "CoreML7", (Feature("x", "fp16", (2000,)),), (), {}, (given,), main))
    x = np.random.default_rng(0).standard_normal(2000).astype(np.float16)
    shown = np.clip(np.round(x / np.float16(0.0235)), -128, 127).astype(np.int8)
    assert judge_run(program, {"x": x}, {"y": shown}, None)
    shown[7] += 2
    assert not judge_run(program, {"x": x}, {"y": shown}, None)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_inputs_that_are_no_numbers_judge_nothing(packages: Path, model: MobileSam, value: float) -> None:
    """Whoever ran the package has NaN throughout, and would be right; the package would be blamed for it."""
    program = coreml.load(packages / "MaskDecoder.iOS15.fp16.mlpackage")
    given = {name: np.full_like(x, value) if name == "sparse" else x for name, x in case("MaskDecoder", 1).items()}
    with pytest.raises(InputError, match="input sparse has NaN or infinity in it"):
        judge_run(program, given, program.run(given))
    with pytest.raises(InputError, match="input sparse has NaN or infinity in it"):
        judge_package(program, model, given)
