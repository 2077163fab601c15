"""docs/verify.md and the cookbook: their files, code and commands, one after the other, in a project as they describe it.

The project's weights are a tiny model's, under the name of the real ones, so that all pages run in seconds.
"""

import importlib.util
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from coreml.packages import CONFIG as PACKAGES
from PIL import Image
from standin import TINY, standin_weights
from verify.ports import onnx_pair

from refsam import checkpoint
from refsam.cli import main
from refsam.verify import hypotheses
from refsam.verify.hypotheses import own
from refsam.verify.hypotheses.described import WHAT

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
NEEDS = {"coreml.md": pytest.mark.coremltools, "onnx.md": pytest.mark.onnxruntime}
PAGES = [
    pytest.param(page, id=page.name, marks=[NEEDS[page.name]] if page.name in NEEDS else [])
    for page in (DOCS / "verify.md", *sorted((DOCS / "cookbook").glob("*.md")))
    if page.name != "README.md"
]

NOT_RUN = ("swift", "cpp", "csharp", "javascript", "rust")
"""Languages of blocks that are shown for their form only; the pages say so."""


class Part(NamedTuple):
    """A file (`name`), code to run, or a command with its exit code."""

    kind: str
    text: str
    name: str = ""
    code: int = 0


def parts(page: str) -> Iterator[Part]:
    """What a page has its readers do, in order."""
    blocks = r"(?:^`(?P<name>[\w./-]+)`:\n\n)?^```(?P<language>\w+)\n(?P<block>(?:.*\n)*?)```$"
    commands = r"^    (?P<command>(?:refsam|pytest) .*)$"
    for found in re.finditer(f"{blocks}|{commands}", page, re.MULTILINE):
        if found["command"]:
            line, _, comment = found["command"].partition("  #")
            yield Part("command", line, code=int(re.sub(r"\D", "", comment) or 0))
        elif found["name"]:
            yield Part("file", found["block"], found["name"])
        else:
            yield Part(found["language"], found["block"])


@pytest.fixture(scope="module", autouse=True)
def _loaded_for_good() -> None:
    """`pytester` forgets the modules that were first imported in its test, and the C parts of these cannot be loaded twice."""
    for name in ("numpy.fft", "coremltools", "onnxruntime"):
        if importlib.util.find_spec(name):
            importlib.import_module(name)


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """A port's project, in which the test runs: weights, photographs, the files of its ports."""
    name, folder = request.node.callspec.params["page"].name, pytester.path
    weights, config = standin_weights(TINY), TINY
    if name == "onnx.md":
        weights, config = onnx_pair.weights(), onnx_pair.CONFIG
        onnx_pair.unpack(folder)
    elif name == "coreml.md":
        weights, config = standin_weights(PACKAGES), PACKAGES
    checkpoint.save(folder / "mobile_sam.safetensors", weights, config)
    (folder / "photos").mkdir()
    with Image.open(ROOT / "tests" / "data" / "photos" / "kitten.jpg") as photo:
        photo.resize((640, 480)).save(folder / "photo.jpg")
        photo.resize((160, 120)).save(folder / "photos" / "one.png")
        photo.resize((90, 120)).save(folder / "photos" / "two.png")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "my_port", raising=False)  # another test's, or another page's
    monkeypatch.setattr(hypotheses, "_registered", {})
    return folder


@pytest.mark.parametrize("page", PAGES)
def test_a_page_runs_as_it_stands(page: Path, project: Path, pytester: pytest.Pytester) -> None:
    names: dict[str, object] = {}
    done = 0
    for part in parts(page.read_text()):
        if part.kind == "file":
            (project / part.name).write_text(part.text)
        elif part.kind == "python":
            exec(compile(part.text, str(page), "exec"), names)
        elif part.kind == "command" and "PORT" not in part.text:
            assert run(part.text, project, pytester) == part.code, part.text
            done += 1
        else:
            assert part.kind in ("command", "json", *NOT_RUN), part
    assert done


def run(command: str, project: Path, pytester: pytest.Pytester) -> int:
    """Its exit code."""
    program, *arguments = shlex.split(command)
    if program == "refsam":
        return main(arguments)
    plugin = ("-p", "no:refsam", "-p", "_refsam_pytest", "-p", "no:cacheprovider", "-p", "no:hypothesispytest")
    return int(pytester.runpytest_inprocess(*plugin, "--rootdir", project, "-c", project / "pytest.ini", *arguments, project).ret)


@pytest.mark.core
def test_the_pages_parts_are_found() -> None:
    page = "`a/b.py`:\n\n```python\nx = 1\n```\n\n    refsam verify x  # exit code 1\n\n```cpp\ny\n```\n\n    pytest -q\n"
    assert list(parts(page)) == [
        Part("file", "x = 1\n", "a/b.py"),
        Part("command", "refsam verify x", code=1),
        Part("cpp", "y\n"),
        Part("command", "pytest -q"),
    ]


@pytest.mark.core
def test_the_index_lists_every_page_of_the_cookbook() -> None:
    index = (DOCS / "cookbook" / "README.md").read_text()
    assert {page.name for page in (DOCS / "cookbook").glob("*.md")} - {"README.md"} == set(
        re.findall(r"\]\(([\w-]+\.md)\)", index)
    )


@pytest.mark.core
def test_the_page_of_known_mistakes_is_what_the_registry_says() -> None:
    spec = importlib.util.spec_from_file_location("make_hypotheses", DOCS / "make_hypotheses.py")
    assert spec is not None
    assert spec.loader is not None
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    assert (DOCS / "hypotheses.md").read_text() == "\n".join(maker.lines()) + "\n", "run: python docs/make_hypotheses.py"


@pytest.mark.core
def test_nothing_is_described_that_is_not_known() -> None:
    assert set(WHAT) - {mistake.name for mistake in own()} == set()


@pytest.mark.core
def test_mistakes_that_the_cookbook_names_are_known() -> None:
    rows = re.findall(r"^\|.*\| ([^|]+) \|$", (DOCS / "cookbook" / "candle-and-sam-cpp.md").read_text(), re.MULTILINE)
    assert len(rows) == 6
    assert set(rows) - {"named"} <= {mistake.name for mistake in own()}
