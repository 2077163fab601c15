"""Finding weights/ and kernels/ in a checkout and in a wheel."""

import json

import pytest

from refsam import resources
from refsam.errors import RefsamError


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
