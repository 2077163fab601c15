"""Who may import whom, and what `import refsam` costs."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

pytestmark = pytest.mark.core

PACKAGE = Path(__file__).parents[1] / "refsam"

# A module may import those of its own layer (without a circle) and of the layers above it in this list.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("types", "errors"),
    ("arguments", "config", "parameters", "resources", "files", "printing", "shared_setting", "blas", "threads"),
    ("ops",),
    ("tracing", "scope", "images", "formats", "checkpoint", "download", "weights_store"),
    ("figures", "srgb", "model", "transforms", "masks", "mask_difference", "regions", "crops", "drawing"),
    ("emulator", "metal", "backends", "coreml"),
    ("loading", "predictor", "automatic_mask_generator", "embedding"),
    ("verify",),
    ("testing",),
    ("cli",),
    ("__main__", "pytest_plugin"),
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}

# Third-party packages, and who may import them; outside the console only within a function, NumPy and jaxtyping aside.
OWNERS = {
    "jaxtyping": {"types"},
    "threadpoolctl": {"blas", "cli"},
    "safetensors": {"tracing", "embedding"},
    "PIL": {"images", "drawing", "cli", "verify"},
    "cyclopts": {"cli"},
    "rich": {"cli", "verify"},
    "pytest": {"pytest_plugin"},
    "jinja2": {"verify"},
    "markupsafe": {"verify"},
    "metalcompute": {"metal"},
    "ziglang": {"emulator"},
    "coremltools": {"coreml"},
    "onnxruntime": {"verify"},
}


def modules() -> dict[str, Path]:
    """Dotted name below refsam -> file; a package has its folder's name, refsam itself the empty one."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(tree: ast.AST) -> Iterator[tuple[str, bool]]:
    """(dotted name, at module level) of all that a file imports, in functions and under TYPE_CHECKING too."""
    for node in ast.walk(tree):
        at_top = getattr(node, "col_offset", 1) == 0
        if isinstance(node, ast.Import):
            yield from ((alias.name, at_top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where a name comes from"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                is_module = inner.startswith("refsam.") and inner.removeprefix("refsam.") in MODULES
                yield (inner if is_module or node.module == "refsam" else str(node.module)), at_top


IMPORTS = {name: list(imports(ast.parse(path.read_text("utf-8")))) for name, path in MODULES.items()}
FREE = {"refsam.__version__"}


def internal(name: str) -> list[str]:
    return [
        target.removeprefix("refsam").lstrip(".")
        for target, _ in IMPORTS[name]
        if target.split(".")[0] == "refsam" and target not in FREE
    ]


def first(name: str) -> str:
    return name.split(".")[0]


def test_every_module_has_a_layer() -> None:
    assert {first(name) for name in MODULES if name} == set(LEVEL), "put a new module into LAYERS"


@pytest.mark.parametrize("name", [name for name in MODULES if name])
def test_imports_go_down(name: str) -> None:
    for target in internal(name):
        if target == "":  # refsam itself: all of the library
            assert first(name) == "cli", f"{name} imports refsam as a whole"
        else:
            assert LEVEL[first(target)] <= LEVEL[first(name)], f"{name} imports {target}, which is above it"


def test_there_is_no_circle() -> None:
    graph = {name: {target for target in internal(name) if target != name} for name in MODULES if name}
    order = list(TopologicalSorter(graph).static_order())  # raises CycleError
    assert set(MODULES) >= set(order) - {""}
    assert order.index("types") < order.index("ops.linear") < order.index("model.layers") < order.index("predictor")


@pytest.mark.parametrize("name", [name for name in MODULES if name])
def test_third_party_packages_are_imported_by_their_owners_and_late(name: str) -> None:
    for target, at_top in IMPORTS[name]:
        package = first(target)
        if package in sys.stdlib_module_names or package in ("refsam", "numpy"):
            continue
        assert first(name) in OWNERS.get(package, set()), f"{name} imports {package}"
        assert not at_top or first(name) in ("cli", "types", "pytest_plugin"), f"{name} imports {package} at module level"


PROGRAM = "import json, sys, refsam; json.dump(sorted(sys.modules), sys.stdout)"
HEAVY = ("torch", "torchvision", "scipy", "cv2", "PIL", "rich", "cyclopts", "safetensors", "threadpoolctl", "beartype",
         "matplotlib", "urllib.request", "http.client", "refsam.cli", "refsam.download", "refsam.weights_store")  # fmt: skip


def test_import_refsam_loads_nothing_heavy(tmp_path: Path) -> None:
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, sys.argv[1]); {PROGRAM}", str(PACKAGE.parent)]
    loaded = set(json.loads(subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout))
    assert {"refsam", "refsam.ops.linear", "numpy"} <= loaded
    assert loaded.isdisjoint(HEAVY), sorted(loaded & set(HEAVY))


def test_all_public_names_are_there() -> None:
    import refsam

    assert sorted(refsam.__all__) == refsam.__all__
    assert all(hasattr(refsam, name) for name in refsam.__all__)
