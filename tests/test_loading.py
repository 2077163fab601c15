"""refsam.load: which weights a name means, and what is said where there are none."""

import copy
import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from standin import TINY, standin_weights

import refsam
from refsam import CheckpointError, InputError, MobileSam, checkpoint, loading, resources, weights_store

pytestmark = pytest.mark.core


def write(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.save(path, standin_weights(TINY, seed), TINY, {"licence": "none"})
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "tiny.safetensors")


@pytest.fixture
def downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user has fetched mobile_sam (a small one)."""
    path = write(tmp_path / "cache" / "mobile_sam.safetensors", seed=1)
    monkeypatch.setattr(weights_store, "find", lambda name: path if name == "mobile_sam" else None)
    return path


@pytest.fixture
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation with a small demo model."""
    path = write(tmp_path / "weights" / "demo.safetensors", seed=2)
    real = resources.path
    monkeypatch.setattr(resources, "path", lambda *parts: path if parts[-1] == path.name else real(*parts))
    return path


@pytest.fixture
def nothing_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights_store, "find", lambda _: None)


def origin(model: MobileSam) -> Path:
    return Path(model.metadata["weights_path"])


@pytest.mark.parametrize("kind", [str, Path])
def test_a_path(file: Path, kind: Any, capsys: pytest.CaptureFixture[str]) -> None:
    model = refsam.load(kind(file))
    assert (origin(model), model.config) == (file, TINY)
    assert model.weights_sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert model.metadata["licence"] == "none"
    np.testing.assert_array_equal(
        model.scope["mask_decoder.iou_token.weight"], standin_weights(TINY)["mask_decoder.iou_token.weight"]
    )
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_dtype_is_that_of_all_weights(file: Path, dtype: str) -> None:
    model = refsam.load(file, dtype=dtype)
    assert model.dtype == np.dtype(dtype)
    assert {tensor.dtype for tensor in model.scope.weights.values()} == {np.dtype(dtype)}


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["copy", "pickle"])
def test_a_model_can_be_given_to_another_process(file: Path, copied: Any) -> None:
    model = refsam.load(file, threads=2)
    x = np.random.default_rng(0).normal(size=(1, 3, TINY.image_size, TINY.image_size)).astype(np.float32)
    expected = model.encode_image(x)  # with all that is made at the first run
    twin = copied(model)
    assert model.scope.memo
    assert not twin.scope.memo  # which is the weights again
    np.testing.assert_array_equal(twin.encode_image(x), expected)
    assert twin.weights_sha256 == model.weights_sha256


def test_mobile_sam_is_the_downloaded_one(downloaded: Path) -> None:
    assert origin(refsam.load("mobile_sam")) == downloaded


@pytest.mark.usefixtures("nothing_downloaded")
def test_mobile_sam_that_is_not_downloaded_yet() -> None:
    with pytest.raises(CheckpointError, match="'mobile_sam' are not downloaded yet; run: refsam weights fetch"):
        refsam.load("mobile_sam")


def test_demo_is_the_embedded_one(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert origin(refsam.load("demo")) == demo
    assert capsys.readouterr().err == ""  # it was asked for by name


def test_by_default_the_environment_decides(
    file: Path, downloaded: Path, demo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REFSAM_WEIGHTS", str(file))
    assert origin(refsam.load()) == file
    monkeypatch.setenv("REFSAM_WEIGHTS", "demo")
    assert origin(refsam.load()) == demo
    monkeypatch.setenv("REFSAM_WEIGHTS", "")
    assert origin(refsam.load()) == downloaded
    assert capsys.readouterr() == ("", "")


def test_a_variable_that_names_nothing_is_an_error_and_not_the_demo(demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFSAM_WEIGHTS", "nowhere.pt")
    with pytest.raises(CheckpointError, match=r"no weights file nowhere\.pt"):
        refsam.load()


def test_then_the_downloaded_one(downloaded: Path, demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert origin(refsam.load()) == downloaded
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("nothing_downloaded")
def test_at_last_the_demo_with_one_line_that_says_so(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert origin(refsam.load()) == demo
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "demo" in err
    assert "refsam weights fetch" in err


@pytest.mark.parametrize("cache", ["x" * 300, "file"])
def test_a_cache_that_cannot_be_looked_into_is_one_without_weights(
    demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: str
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("REFSAM_CACHE", str(tmp_path / cache))
    assert origin(refsam.load()) == demo


def test_a_closed_home_folder_is_one_without_weights(demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container whose user is not the one that HOME belongs to."""
    plain = Path.stat

    def closed(path: Path, **how: Any) -> Any:
        if "closed" in path.parts:
            raise PermissionError(13, "Permission denied", str(path))
        return plain(path, **how)

    monkeypatch.setattr(Path, "stat", closed)
    monkeypatch.setenv("REFSAM_CACHE", "/closed/cache")
    assert origin(refsam.load()) == demo
    with pytest.raises(CheckpointError, match=r"no weights file /closed/a\.pt: Permission denied; give a path"):
        refsam.load("/closed/a.pt")


@pytest.mark.usefixtures("nothing_downloaded")
def test_an_installation_without_the_demo_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "PACKAGE", tmp_path)
    with pytest.raises(refsam.RefsamError, match=r"lacks weights/demo\.safetensors"):
        refsam.load()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": "nowhere.safetensors"}, r"no weights file nowhere\.safetensors: there is no such file; give a path"),
        ({"weights": "x" * 300}, "no weights file x+: File name too long; give a path, 'mobile_sam' or 'demo'"),
        ({"weights": "a\0b"}, "no weights file a\0b: no file can have this name"),
        ({"weights": "vit_h"}, "no weights file vit_h"),
        ({"backend": "cuda"}, "backend is 'cuda'; there are: .*reference"),
        ({"dtype": "float16"}, "dtype is 'float16'; the model computes in 'float32' or 'float64'"),
        ({"threads": 0}, "threads is 0; it has to be at least 1"),
        ({"threads": -2}, "threads is -2"),
    ],
)
def test_errors_name_the_value_and_the_remedy(file: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        refsam.load(**{"weights": file, **arguments})


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("threads", "kind"), [("2", "'2', a str"), (2.0, "2.0, a float")])
def test_threads_that_are_no_whole_number_are_refused_by_all(file: Path, threads: Any, kind: str) -> None:
    for backend in ("fast", "reference"):
        with pytest.raises(InputError, match=f"^threads is {kind}; a whole number is needed$"):
            refsam.load(file, threads=threads, backend=backend)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(b"not weights")
    with pytest.raises(CheckpointError, match=r"bad\.safetensors"):
        refsam.load(path)


def test_an_unknown_backend_is_found_before_the_file_is_read() -> None:
    with pytest.raises(InputError, match="backend"):
        refsam.load("nowhere.pt", backend="cuda")


def test_the_registry_has_upstreams_names(file: Path, downloaded: Path) -> None:
    registry = refsam.sam_model_registry
    assert set(registry) == {"default", "vit_h", "vit_l", "vit_b", "vit_t"}
    assert origin(registry["vit_t"](checkpoint=str(file))) == file
    assert origin(registry["vit_t"]()) == downloaded
    assert loading.build_sam_vit_t is registry["vit_t"]


@pytest.mark.parametrize("name", ["default", "vit_h", "vit_l", "vit_b"])
def test_other_kinds_of_sam_are_declined(name: str) -> None:
    with pytest.raises(InputError, match=f"no image encoder of kind '{name}', only MobileSAM's 'vit_t'"):
        refsam.sam_model_registry[name](checkpoint="sam.pth")
