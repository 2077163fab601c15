"""The door of the pytest plugin: options and fixtures. What they do is in refsam/pytest_plugin.py.

It lies outside the package because pytest imports it at every start, in every project: where no fixture of refsam's is in use,
neither refsam nor NumPy is imported (and a project that instruments refsam's imports still can).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from refsam import MobileSam
    from refsam.pytest_plugin import Session
    from refsam.verify import Case, Outcome, Reference

OPTIONS: tuple[tuple[str, str, str, bool], ...] = (
    ("port", "PORT", "the port: a path, a backend's name or module:function; again for each further file of it", True),
    ("weights", "FILE", "the reference's weights: a file, mobile_sam or demo; never chosen for you", False),
    ("image", "FILE", "a picture to put to the port; again for more", True),
    ("point", "X,Y[,LABEL]", "a point in its pixels; again for more (default: one in the middle)", True),
    ("box", "X0,Y0,X1,Y1", "a box in its pixels", False),
    ("stages", "GLOBS", "the stages to look at: glob patterns, separated by commas", False),
    ("precision", "NAME", "float32, fp16, bf16, int8 or int8-fp16: what the port computes in (default: what it says)", False),
    ("report", "DIR", "write report.html, report.json and report.txt there", False),
)
"""(name, metavar, help, whether there may be several) of --refsam-NAME and of refsam_NAME in the ini file."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Each option and its twin in the ini file; paths there are relative to it."""
    group = parser.getgroup("refsam", "hold a port of MobileSAM against refsam")
    for name, metavar, words, several in OPTIONS:
        group.addoption(f"--refsam-{name}", action="append" if several else "store", metavar=metavar, default=None, help=words)
        # Not "args": that is split as a shell does it, which takes the backslashes out of Windows' paths.
        told = words.replace("again for", "another line for") if several else words
        parser.addini(f"refsam_{name}", told, type="linelist" if several else "string", default=[] if several else "")


_SESSION: pytest.StashKey[Session] = pytest.StashKey()


def _session(config: pytest.Config) -> Session:
    """The one of this run, made at its first use."""
    from refsam.pytest_plugin import Session, Settings

    if _SESSION not in config.stash:
        given = {name: config.getoption(f"refsam_{name}") for name, *_ in OPTIONS}
        ini = {name: config.getini(f"refsam_{name}") for name, *_ in OPTIONS}
        config.stash[_SESSION] = Session(Settings.of(given, ini, config.inipath))
    return config.stash[_SESSION]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each picture, and for each stage where a test takes `refsam_stage`."""
    if "_refsam_asked" in metafunc.fixturenames:
        pictures = _session(metafunc.config).settings.pictures()
        metafunc.parametrize("_refsam_asked", pictures, indirect=True, ids=[path.stem for path in pictures], scope="session")
    if "refsam_stage" in metafunc.fixturenames:
        metafunc.parametrize("refsam_stage", _session(metafunc.config).stages(), indirect=True)


@pytest.fixture(scope="session")
def refsam_model(request: pytest.FixtureRequest) -> MobileSam:
    """The reference's weights, on the fast backend in float32."""
    return _session(request.config).model


@pytest.fixture(scope="session")
def _refsam_asked(request: pytest.FixtureRequest) -> Case:
    """What the reference answers. No test is given its arrays: one that changed them in place would change the truth."""
    return _session(request.config).case(request.param)


@pytest.fixture(scope="session")
def refsam_case(_refsam_asked: Case) -> Case:
    """Picture and prompt of the options; one after the other where there are several pictures."""
    return _refsam_asked.copied()


@pytest.fixture(scope="session")
def refsam_reference(request: pytest.FixtureRequest, _refsam_asked: Case) -> Reference:
    """The float64 run of the case: `.truth[stage]`, `.budget(precision)[stage]`."""
    return _session(request.config).reference(_refsam_asked)


@pytest.fixture(scope="session")
def refsam_port(request: pytest.FixtureRequest, _refsam_asked: Case) -> Outcome:
    """What came of the port that the options name, on the case: true when it holds."""
    return _session(request.config).outcome(_refsam_asked)


@pytest.fixture(scope="session")
def refsam_compare(request: pytest.FixtureRequest, _refsam_asked: Case) -> Callable[..., Outcome]:
    """For a port that the test runs itself: (stages: name -> array, name="port", precision=None) -> what came of it."""
    session = _session(request.config)

    def compared(stages: Any, name: str = "port", precision: str | None = None) -> Outcome:
        return session.compare(_refsam_asked, stages, name, precision)

    return compared


@pytest.fixture
def refsam_stage(request: pytest.FixtureRequest, refsam_port: Outcome) -> str:
    """The name of one stage. Without --refsam-stages it is one of the usual ones, skipped where the port has none of its own."""
    session = _session(request.config)
    if not session.settings.stages and request.param not in {result.stage for result in refsam_port.verdict.report.stages}:
        pytest.skip(f"the port shows no {request.param} of its own")
    return str(request.param)


# --- the report -------------------------------------------------------------------------------------------------------------


def pytest_configure(config: pytest.Config) -> None:
    """Say now, and not after an hour, that the report cannot be written."""
    if config.getoption("refsam_report") or config.getini("refsam_report"):
        from importlib.util import find_spec

        if find_spec("jinja2") is None:
            raise pytest.UsageError("--refsam-report needs jinja2: pip install 'refsam[report]'")
        if not hasattr(config, "workerinput"):  # a worker of pytest-xdist writes none
            _session(config).prepare_report()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """pytest-xdist: what a worker found, for the one report of the controller."""
    found = getattr(node, "workeroutput", {}).get("refsam")
    if found:
        _session(node.config).receive(found)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the report, or, in a worker of pytest-xdist, hand on what belongs in it."""
    made = session.config.stash.get(_SESSION, None)
    if made is None or made.settings.report is None:
        return
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["refsam"] = made.sent()
    else:
        made.write()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Where the report is."""
    made = config.stash.get(_SESSION, None)
    if made is not None and made.written:
        terminalreporter.write_line(f"refsam: {made.written}")
