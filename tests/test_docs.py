"""README and docs: links lead somewhere, commands and code run, and what they say about files is so."""

import io
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from cyclopts import App
from rich.console import Console

from refsam.cli import COMMANDS, build, main

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("weights/*.md")])


def blocks(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)


def indented(page: Path, start: str) -> list[str]:
    """The commands that a page shows as indented code, without their comments."""
    lines = (line.strip().split("  #")[0].strip() for line in page.read_text().splitlines() if line.startswith("    "))
    return [line for line in lines if line.startswith(start)]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the photographs where the pages say they are, and room for what the commands write."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "data").symlink_to(ROOT / "tests" / "data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.core
@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_to_files(page: Path) -> None:
    targets = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text())]
    missing = [target for target in targets if target and "://" not in target and not (page.parent / target).exists()]
    assert not missing


@pytest.mark.core
def test_the_tour_and_the_quirks_name_files_and_functions_that_exist() -> None:
    for page in ("tour.md", "quirks.md"):
        text = (ROOT / "docs" / page).read_text()
        for name in re.findall(r"`(refsam/[\w/]+(?:\.py)?)/?`", text):
            assert (ROOT / name).exists(), f"{page}: {name}"
        for module, function in re.findall(r"`(\w+)\.(?!py`)(\w+)`", text):
            sources = [path.read_text() for path in ROOT.glob(f"refsam/**/{'config' if module == 'Config' else module}.py")]
            assert any(f"def {function}(" in source for source in sources), f"{page}: {module}.{function}"


@pytest.mark.core
def test_every_make_target_in_the_readme_is_in_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"make ([\w-]+)", (ROOT / "README.md").read_text()))
    assert {"demo", "test"} <= targets
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


@pytest.mark.core
def test_commands_of_every_page_have_the_options_that_the_console_has() -> None:
    commands = [command for page in PAGES for command in indented(page, "refsam ")]
    assert len(commands) > 20
    for words in (shlex.split(command)[1:] for command in commands):
        build(words[0]).parse_args(words, print_error=False, exit_on_error=False)  # raises what the console would say


def leaves(name: str, app: App) -> dict[str, App]:
    """Name -> command, of those under this one that run something."""
    below = {word: app[word] for word in app if not word.startswith("-")}
    return {leaf: each for word, command in below.items() for leaf, each in leaves(word, command).items()} or {name: app}


@pytest.mark.core
@pytest.mark.parametrize("name", [name for name, _, _ in COMMANDS])
def test_each_command_has_help_and_json_as_the_console_page_says(name: str) -> None:
    text = " ".join((ROOT / "docs" / "console.md").read_text().split())
    [row] = re.findall(rf"\| `refsam {name}\b([^|]*) \|", text)
    assert "Each has `--help` and `--json`." in text
    commands = leaves(name, build(name)[name])
    for leaf, command in commands.items():
        shown = io.StringIO()
        command.help_print([], console=Console(file=shown, width=200))
        assert "--json" in shown.getvalue(), f"{name} {leaf}"
        assert leaf == name or re.search(rf"\b{leaf}`", row), f"{name} {leaf}"


@pytest.mark.parametrize(
    ("page", "result"), [("README.md", "trace"), ("docs/tour.md", "trace"), ("docs/everything.md", "records")]
)
def test_code_runs_as_it_stands(page: str, result: str, checkout: Path) -> None:
    names: dict[str, object] = {}
    exec(compile("\n".join(blocks(ROOT / page)), page, "exec"), names)
    assert names[result]


@pytest.mark.parametrize("page", ["README.md", "docs/tour.md", "docs/console.md"])
def test_commands_run_as_they_stand(page: str, checkout: Path) -> None:
    commands = [line for line in indented(ROOT / page, "refsam ") if "fetch" not in line]
    assert commands
    for command in commands:
        assert main(shlex.split(command)[1:]) == 0, command


@pytest.mark.core
def test_ci_calls_the_readmes_test_command() -> None:
    script = (ROOT / ".ci" / "run").read_text().splitlines()
    assert "make test" in indented(ROOT / "README.md", "make test")
    assert "make test" in script
    assert "make demo" in script
    subprocess.run(["bash", "-n", str(ROOT / ".ci" / "run")], check=True)
