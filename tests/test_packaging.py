"""The wheel and an editable install, each in a clean environment and used from another folder. Offline: nothing is fetched."""

import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import refsam

ROOT = Path(__file__).parents[1]
PYPROJECT = (ROOT / "pyproject.toml").read_text("utf-8")
FORCED = dict(re.findall(r'^"(.+)" = "(refsam/_resources/.+)"$', PYPROJECT, re.MULTILINE))
"""Path in the checkout -> path in the wheel: what pyproject adds to the package (Python 3.10 has no TOML reader)."""

BUILD = "import sys; from hatchling import build; print(getattr(build, sys.argv[1])(sys.argv[2]))"
WHERE = """
import json, sys, refsam
from refsam import resources, weights_store
print(json.dumps([refsam.__file__, str(resources.path("weights", "manifest.json")), sorted(weights_store.sources())]))
"""


def run(*command: str | Path, cwd: Path) -> str:
    """Its stdout; a failure shows its stderr."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    environment["PIP_CONFIG_FILE"] = os.devnull
    done = subprocess.run([*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def built(hook: str, folder: Path) -> Path:
    """What hatchling's hook (PEP 517, 660) makes of the checkout."""
    folder.mkdir()
    return folder / run(sys.executable, "-c", BUILD, hook, folder, cwd=ROOT).split()[-1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("build_wheel", tmp_path_factory.mktemp("wheel") / "out")


def test_the_sdist_has_all_that_its_tests_read(tmp_path: Path) -> None:
    with tarfile.open(built("build_sdist", tmp_path / "out")) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    ours = ("refsam", "kernels", "weights", "tests", "docs", "benchmarks", ".ci")
    files = {path.relative_to(ROOT).as_posix() for name in ours for path in (ROOT / name).rglob("*") if path.is_file()}
    files |= {"pyproject.toml", "_refsam_pytest.py", "Makefile", "README.md", "CHANGELOG.md", "LICENSE"}
    assert {name for name in files if "__pycache__" not in name} <= names
    assert not [name for name in names if name.endswith(".pyc")]


def install(wheel: Path, place: Path) -> Path:
    """A new environment with this wheel, whose dependencies are those of the environment that tests run in."""
    venv.create(place, with_pip=False, symlinks=os.name != "nt")
    scripts = place / ("Scripts" if os.name == "nt" else "bin")
    python = scripts / Path(sys.executable).name
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=place)
    ours = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=place).strip())
    others = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (ours / "zz-dependencies.pth").write_text("\n".join(sorted(others)))
    return scripts


def check(scripts: Path, folder: Path, home: Path) -> None:
    """From another folder: the package lies in `home`, finds its resources there, and the console answers."""
    folder.mkdir()
    python = scripts / Path(sys.executable).name
    package, manifest, names = json.loads(run(python, "-c", WHERE, cwd=folder))
    assert Path(package).resolve().is_relative_to(home.resolve())
    assert Path(manifest).resolve().is_relative_to(home.resolve())
    assert "mobile_sam" in names
    assert run(scripts / "refsam", "--version", cwd=folder).strip() == refsam.__version__


def test_everything_that_the_wheel_has_to_carry_exists() -> None:
    assert "weights/manifest.json" in FORCED
    assert [path for path in FORCED if not (ROOT / path).exists()] == []


def test_the_wheel_has_the_package_and_its_resources_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(f"refsam-{refsam.__version__}.dist-info/METADATA").decode()
        entry_points = archive.read(f"refsam-{refsam.__version__}.dist-info/entry_points.txt").decode()
    package = (path for path in (ROOT / "refsam").rglob("*") if path.is_file() and path.suffix != ".pyc")
    package_files = {path.relative_to(ROOT).as_posix() for path in package}
    assert {"refsam/py.typed", "refsam/emulator/runtime/fibers.h", "refsam/emulator/include/metal_stdlib"} <= package_files
    assert package_files <= names
    for source, target in FORCED.items():
        found = (ROOT / source).rglob("*") if (ROOT / source).is_dir() else [ROOT / source]
        files = [path for path in found if path.is_file() and path.suffix != ".pyc"]
        assert {(target + path.as_posix().removeprefix((ROOT / source).as_posix())) for path in files} <= names
    assert {name.split("/")[0] for name in names} == {"refsam", "_refsam_pytest.py", f"refsam-{refsam.__version__}.dist-info"}
    assert not [name for name in names if name.endswith(".pyc")]
    assert "[pytest11]\nrefsam = _refsam_pytest" in entry_points
    assert "License-File: LICENSE" in metadata
    assert "Requires-Dist: numpy>=1.26" in metadata


def test_the_wheel_works_in_a_clean_environment(wheel: Path, tmp_path: Path) -> None:
    scripts = install(wheel, tmp_path / "env")
    check(scripts, tmp_path / "elsewhere", home=tmp_path / "env")
    times_itself(scripts, tmp_path / "elsewhere")
    emulates(scripts, tmp_path / "elsewhere")


def times_itself(scripts: Path, folder: Path) -> None:
    """The benchmarks come along: refsam's own rows need nothing of the checkout."""
    options = ("--contenders", "fast,reference", "--weights", "demo", "--only", "encoder", "--rounds", "1", "--json")
    rows = json.loads(run(scripts / "refsam", "bench", *options, cwd=folder))["rows"]
    assert [(row["row"], row["contender"]) for row in rows] == [("encoder", "fast"), ("encoder", "reference")]


def emulates(scripts: Path, folder: Path) -> None:
    """The emulator finds its own sources and the kernels, and runs one in each mode."""
    for options in ((), ("--checked",)):
        out = run(scripts / "refsam", "kernels", "test", "relu/map", "--device", "emulator", *options, cwd=folder)
        assert out.endswith("1 cases, 0 wrong\n")


def test_an_editable_install_works_and_is_the_checkout(tmp_path: Path) -> None:
    editable = built("build_editable", tmp_path / "out")
    check(install(editable, tmp_path / "env"), tmp_path / "elsewhere", home=ROOT)
