"""Weights out of packages are those that went in: of torch's conversions on every target, and of refsam's export."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coreml.packages import CONFIG
from standin import standin_weights

from refsam import checkpoint, cli, coreml
from refsam.coreml.export_layers import fold_batch_norm
from refsam.coreml.mil import Program
from refsam.coreml.weights import NOT_IN_PACKAGES, Recovered, _distances, recover
from refsam.coreml.weights_file import prove
from refsam.errors import InputError, PackageError
from refsam.model.sam import MobileSam
from refsam.ops.attention import attention_bias_index

FILES = {"image_encoder": "ImageEncoder", "prompt_encoder": "PromptEncoder", "mask_decoder": "MaskDecoder"}
TARGETS = ["iOS15.fp32", "iOS15.fp16", "iOS18.fp16"]


def programs(packages: Path, target: str = "iOS15.fp32") -> dict[str, Program]:
    return {part: coreml.load(packages / f"{name}.{target}.mlpackage") for part, name in FILES.items()}


def other_weights() -> dict[str, np.ndarray]:
    """A base of which nothing may be taken but what packages do not have."""
    return standin_weights(CONFIG, seed=1)


def recovered(packages: Path, target: str) -> Recovered:
    return recover(programs(packages, target), other_weights(), CONFIG)


@pytest.mark.parametrize("target", TARGETS)
def test_weights_are_those_that_were_converted(packages: Path, target: str) -> None:
    truth, found = standin_weights(CONFIG), recovered(packages, target).tensors
    assert list(found) == list(truth)
    for name, tensor in found.items():
        if name.startswith(NOT_IN_PACKAGES):
            np.testing.assert_array_equal(tensor, other_weights()[name])
        elif ".c." not in name and ".bn." not in name:
            half = target.endswith("fp16") and not (name.endswith("no_mask_embed.weight") and target == "iOS15.fp16")
            expected = truth[name].astype(np.float16).astype(np.float32) if half else truth[name]  # that output is float32 there
            np.testing.assert_array_equal(tensor, expected, err_msg=name)


def test_batch_norm_is_in_the_kernel_and_the_one_left_changes_nothing(packages: Path) -> None:
    model = MobileSam(recovered(packages, "iOS15.fp32").tensors, CONFIG)
    truth = MobileSam(standin_weights(CONFIG), CONFIG)
    place = ("image_encoder", "layers", "1", "blocks", "0", "local_conv")
    ours, theirs = model.scope, truth.scope
    for step in place:
        ours, theirs = ours / step, theirs / step
    kernel, bias = fold_batch_norm(theirs)
    np.testing.assert_allclose(ours["c.weight"], kernel, rtol=1e-6)
    np.testing.assert_allclose(ours["bn.bias"], bias, rtol=1e-6, atol=1e-7)
    one = ours["bn.weight"] / np.sqrt(ours["bn.running_var"] + np.float32(1e-5))
    np.testing.assert_array_equal(one, np.float32(1))
    assert not ours["bn.running_mean"].any()


def test_names_decide_and_order_does_where_there_are_none(packages: Path) -> None:
    """Without the constants' names all but what has them alone is the same: order is the checkpoint's."""
    named = recovered(packages, "iOS15.fp16").tensors
    nameless = {part: _renamed(program) for part, program in programs(packages, "iOS15.fp16").items()}
    assert all(np.array_equal(x, named[name]) for name, x in recover(nameless, other_weights(), CONFIG).tensors.items())


def test_the_labels_are_told_by_their_axes_whatever_they_are_called(packages: Path) -> None:
    parts = programs(packages, "iOS15.fp32")
    named = recover(parts, other_weights(), CONFIG).tensors
    parts["prompt_encoder"] = _with_other_inputs(parts["prompt_encoder"], {"points": "x_1", "labels": "x_0"})
    assert [feature.name for feature in parts["prompt_encoder"].inputs] == ["x_0", "x_1"]
    assert all(np.array_equal(x, named[name]) for name, x in recover(parts, other_weights(), CONFIG).tensors.items())
    twice = dataclasses.replace(parts["prompt_encoder"].model, inputs=parts["prompt_encoder"].inputs * 2)
    with pytest.raises(PackageError, match="it has 4 inputs; points and their labels are two"):
        recover({**parts, "prompt_encoder": Program("x", twice)}, other_weights(), CONFIG)


def _with_other_inputs(program: Program, names: dict[str, str]) -> Program:
    """The same program with inputs of these names, the last one first."""

    def changed(op: coreml.types.Operation) -> coreml.types.Operation:
        inputs = {k: tuple(names.get(a, a) if isinstance(a, str) else a for a in group) for k, group in op.inputs.items()}
        return dataclasses.replace(op, inputs=inputs)

    model = program.model
    return Program(
        program.path,
        dataclasses.replace(
            model,
            inputs=tuple(dataclasses.replace(feature, name=names[feature.name]) for feature in model.inputs[::-1]),
            parameters=tuple(output._replace(name=names[output.name]) for output in model.parameters[::-1]),
            block=dataclasses.replace(model.block, operations=tuple(changed(op) for op in program.ops)),
        ),
    )


def _renamed(program: Program) -> Program:
    """The same program with constants called c0, c1, ..."""
    names = {
        op.name: f"c{i}" for i, op in enumerate(program.ops) if op.is_constant and op.name not in program.model.block.outputs
    }

    def changed(op: coreml.types.Operation) -> coreml.types.Operation:
        inputs = {key: tuple(names.get(a, a) if isinstance(a, str) else a for a in group) for key, group in op.inputs.items()}
        return dataclasses.replace(
            op, inputs=inputs, outputs=tuple(o._replace(name=names.get(o.name, o.name)) for o in op.outputs)
        )

    block = dataclasses.replace(program.model.block, operations=tuple(changed(op) for op in program.ops))
    return Program(program.path, dataclasses.replace(program.model, block=block))


def test_packages_of_another_architecture_are_refused(packages: Path) -> None:
    deeper = dataclasses.replace(CONFIG, depths=(2, *CONFIG.depths[1:]))
    with pytest.raises(PackageError, match=r"ImageEncoder\.mlpackage: it has \d+ convolutions; this architecture has \d+"):
        recover(programs(packages), standin_weights(deeper), deeper)
    wider = dataclasses.replace(CONFIG, decoder_mlp_dim=2 * CONFIG.decoder_mlp_dim)
    with pytest.raises(PackageError, match=r"MaskDecoder.*lin1\.weight has shape"):
        recover(programs(packages), standin_weights(wider), wider)


def test_biases_that_a_checkpoint_cannot_have() -> None:
    table = np.random.RandomState(0).normal(size=(2, 9)).astype(np.float32)
    spread = table[:, attention_bias_index(3)]
    np.testing.assert_array_equal(_distances(spread, 3, "x"), table)
    spread[1, 4, 2] += 1
    with pytest.raises(PackageError, match="is not the same for equal distances"):
        _distances(spread, 3, "x")


@pytest.mark.parametrize(
    "wrong", ["image_encoder.layers.2.blocks.1.mlp.fc1.bias", "mask_decoder.transformer.layers.1.norm3.weight"]
)
def test_a_tensor_in_the_wrong_place_is_noticed(packages: Path, wrong: str) -> None:
    found = recovered(packages, "iOS15.fp32").tensors
    assert all(distance < 2e-5 for distance in prove(programs(packages), MobileSam(found, CONFIG)).values())
    with pytest.raises(InputError, match=r"computes another .* than MobileSAM does with its weights"):
        prove(programs(packages), MobileSam({**found, wrong: found[wrong][::-1]}, CONFIG))


@pytest.mark.parametrize(("part", "cut"), [("prompt_encoder", "sparse"), ("mask_decoder", "masks")])
def test_packages_with_other_tokens_or_masks_are_refused(packages: Path, monkeypatch, part: str, cut: str) -> None:
    """Some ports' prompt encoders add the padding point themselves, and some decoders give the last three masks."""
    found, parts, run = recovered(packages, "iOS15.fp32").tensors, programs(packages), Program.run

    def another(self: Program, *given: Any, **options: Any) -> dict[str, np.ndarray]:
        results = run(self, *given, **options)
        return {name: x[:, 1:] if self is parts[part] and name != "dense" else x for name, x in results.items()}

    monkeypatch.setattr(Program, "run", another)
    with pytest.raises(InputError, match=f"gives a {cut} of shape .* where MobileSAM's has .*; nothing is written"):
        prove(parts, MobileSam(found, CONFIG))


@pytest.fixture
def folder(packages: Path, tmp_path: Path) -> Path:
    for name in FILES.values():
        shutil.copytree(packages / f"{name}.iOS15.fp16.mlpackage", tmp_path / "set" / f"{name}.mlpackage")
    checkpoint.save(tmp_path / "base.safetensors", other_weights(), CONFIG, {"licence": "CC0-1.0"})
    return tmp_path


def test_the_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = str(folder / "out.safetensors")
    assert cli.main(["weights", "convert", str(folder / "set"), target, "--base", str(folder / "base.safetensors")]) == 0
    out = capsys.readouterr().out
    assert "of the base" in out
    assert "mask_decoder: masks" in out
    written = checkpoint.load(target)
    assert written.config == CONFIG
    assert written.metadata["licence"] == "CC0-1.0"
    assert "prompt_encoder.mask_downscaling.0.weight" in written.metadata["tensors_of_base"]


def test_what_the_command_needs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target, base = str(folder / "out.safetensors"), str(folder / "base.safetensors")
    for tokens, message in (
        ((str(folder / "set"), target), "have no tensors for mask prompts and boxes"),
        ((str(folder), target, "--base", base), "is a folder without ImageEncoder"),
        ((base, target, "--base", base), "is no folder of them"),
    ):
        assert cli.main(["weights", "convert", *tokens]) == 2
        assert message in capsys.readouterr().err
    assert not Path(target).exists()
