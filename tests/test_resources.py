"""Finding weights/ and kernels/ in a checkout and in a wheel."""

import json

import pytest

from refsam import resources
from refsam.config import MOBILE_SAM
from refsam.errors import RefsamError
from refsam.parameters import is_unused, parameter_shapes


@pytest.mark.core
def test_the_manifest_is_found_here():
    assert "mobile_sam" in json.loads(resources.path("weights", "manifest.json").read_text("utf-8"))


def test_a_folder_is_found_too():
    assert resources.path("weights").is_dir()


def test_what_is_missing_is_named_with_a_remedy():
    with pytest.raises(RefsamError, match=r"weights/nothing\.bin .*install refsam again"):
        resources.path("weights", "nothing.bin")


def test_an_installed_package_looks_only_inside_of_itself(tmp_path, monkeypatch):
    """Beside it, in site-packages, a folder `weights` would be of somebody else."""
    package = tmp_path / "site-packages" / "refsam"
    (package / "_resources" / "kernels").mkdir(parents=True)
    (tmp_path / "site-packages" / "weights").mkdir()
    monkeypatch.setattr(resources, "PACKAGE", package)
    assert resources.path("kernels") == package / "_resources" / "kernels"
    with pytest.raises(RefsamError, match="weights"):
        resources.path("weights")


@pytest.mark.core
def test_the_manifest_lists_upstream_s_tensors():
    """It was written from the state dict of upstream's own model, so parameters.py is held against a fact from outside."""
    manifest = json.loads(resources.path("weights", "manifest.json").read_text("utf-8"))["mobile_sam"]
    listed = {name: tuple(shape) for name, shape in manifest["tensors"].items()}
    assert {name: shape for name, shape in listed.items() if not is_unused(name)} == parameter_shapes(MOBILE_SAM)
    assert len(listed) == 439
    assert (manifest["bytes"], len(manifest["sha256"])) == (40_728_226, 64)
    assert all(url.startswith("https://") for url in manifest["urls"])
