"""Packages that refsam writes, run by refsam's interpreter against the reference."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from coreml.exported import inputs, packages, picture, reference, tiny
from coreml.packages import CONFIG
from standin import standin_weights

import refsam
from refsam import MobileSam
from refsam.coreml import export_layers, load
from refsam.coreml.export import INTERFACES, PACKAGES, export
from refsam.errors import BackendUnavailable, InputError
from refsam.figures import relative_l2
from refsam.parameters import parameter_shapes
from refsam.verify.precision import model_of_precision

pytestmark = pytest.mark.coremltools

# How many times the error of refsam's own model, rounded at the same precision, a package may have: its sums run in another
# order, and it rounds in more places (each step of LayerNorm2d).
FACTOR = 3.0


def run(path: Path, given: list) -> list:
    program = load(path)
    found = program.run(dict(zip((feature.name for feature in program.inputs), given, strict=True)))
    return [found[feature.name] for feature in program.outputs]


@pytest.mark.parametrize("count", [1, 100])
@pytest.mark.parametrize(("precision", "target"), [("fp32", "iOS15"), ("fp16", "iOS15"), ("fp16", "iOS18")])
def test_packages_compute_what_the_reference_does(root, precision, target, count):
    given = inputs(count)
    truth = reference(tiny("float64"), given)
    rounded = reference(model_of_precision(tiny(), precision), given)
    for part, path in packages(root, precision, target).items():
        for got, exact, near in zip(run(path, given[part]), truth[part], rounded[part], strict=True):
            assert got.shape == exact.shape
            assert got.dtype == "float32"
            assert relative_l2(exact, got) <= FACTOR * max(relative_l2(exact, near), 2.0**-24), part


@pytest.mark.parametrize(("target", "version"), [("iOS15", 6), ("iOS18", 9)])
def test_interfaces_are_the_article_s(root, target, version):
    for part, path in packages(root, "fp16", target).items():
        program = load(path)
        interface = INTERFACES["article"][part]
        assert program.model.specification_version == version
        assert tuple(feature.name for feature in program.inputs) == interface.inputs
        assert tuple(feature.name for feature in program.outputs) == interface.outputs
        assert {feature.dtype for feature in (*program.inputs, *program.outputs)} == {"fp32"}
    points, labels = load(packages(root, "fp16", target)["prompt_encoder"]).inputs
    assert points.accepts((1, 1, 2))
    assert points.accepts((1, 100, 2))
    assert not points.accepts((1, 101, 2))
    assert not points.accepts((1, 0, 2))
    assert labels.accepts((1, 100))


def test_the_app_s_names(tmp_path):
    (path,) = export(tiny(), tmp_path, names="app", parts=("prompt_encoder",))
    assert [feature.name for feature in load(path).outputs] == ["sparseEmbeddings", "denseEmbeddings"]


def test_layer_norm_2d_does_not_overflow_in_float16(root, tmp_path):
    """Upstream's steps square what is centred: infinite in float16 beyond 255.9. Whatever scale comes in, the same goes out."""
    weights = standin_weights(CONFIG) | {
        "image_encoder.neck.0.weight": 300 * standin_weights(CONFIG)["image_encoder.neck.0.weight"]
    }
    (path,) = export(MobileSam(weights, CONFIG), tmp_path, parts=("image_encoder",))
    (embedding,) = run(path, [picture()])
    exact = MobileSam(weights, CONFIG, dtype="float64").encode_image(picture())
    assert relative_l2(exact, embedding) < 0.01
    assert not [op for path in packages(root).values() for op in load(path).ops if op.type == "batch_norm"]  # the epsilon fault


def test_weights_keep_the_checkpoint_s_names(root):
    tensors = {name.partition(".")[2].replace(".", "_"): name for name in parameter_shapes(tiny().config)}
    program = load(packages(root)["mask_decoder"])
    constants = {output.name for op in program.ops if op.type == "const" for output in op.outputs}
    in_graph = {name for name, tensor in tensors.items() if tensor.startswith("mask_decoder.")}
    fused = {"iou_token_weight", "mask_tokens_weight"}
    assert in_graph - constants == fused


def test_the_same_weights_give_the_same_bytes(tmp_path):
    """In another process too, whose hashes of strings are others."""
    (first,) = export(tiny(), tmp_path / "first", parts=("prompt_encoder",))
    program = (
        "import sys; sys.path[:0] = sys.argv[2:]\n"
        "from pathlib import Path; from coreml.exported import tiny; from refsam.coreml.export import export\n"
        "export(tiny(), Path(sys.argv[1]), parts=('prompt_encoder',))"
    )
    here, package = Path(__file__).parents[1], Path(refsam.__file__).parents[1]
    command = [sys.executable, "-c", program, str(tmp_path / "second"), str(here), str(package)]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PYTHONHASHSEED": "77"})
    assert contents(first) == contents(tmp_path / "second" / "PromptEncoder.mlpackage")


def contents(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_an_older_package_is_replaced_and_nothing_else_is(tmp_path, capfd):
    (path,) = export(tiny(), tmp_path, parts=("prompt_encoder",))
    before = contents(path)
    (path / "Data" / "com.apple.CoreML" / "stale").write_text("left over")
    export(tiny(), tmp_path, parts=("prompt_encoder",))
    assert contents(path) == before
    assert sorted(tmp_path.iterdir()) == [path]
    assert capfd.readouterr() == ("", "")


def test_a_folder_that_is_no_package_is_not_deleted(tmp_path):
    kept = tmp_path / "ImageEncoder.mlpackage" / "thesis.txt"
    kept.parent.mkdir()
    kept.write_text("years of work")
    with pytest.raises(InputError, match=r"ImageEncoder.mlpackage: there is something else"):
        export(tiny(), tmp_path)
    assert kept.read_text() == "years of work"
    assert sorted(tmp_path.rglob("*")) == [kept.parent, kept]


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / PACKAGES["prompt_encoder"]).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="something else"):
        export(tiny(), tmp_path, parts=("prompt_encoder",))


def test_a_file_where_the_folder_should_be_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot make the folder"):
        export(tiny(), tmp_path / "file")


def test_without_coremltools_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "coremltools", None)
    export_layers.coremltools.cache_clear()
    try:
        with pytest.raises(BackendUnavailable, match=r"refsam\[coreml\]"):
            export(tiny(), tmp_path / "new")
    finally:
        export_layers.coremltools.cache_clear()
    assert not (tmp_path / "new").exists()
