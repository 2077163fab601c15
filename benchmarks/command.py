"""What `refsam bench` does: from what was asked to a document, to the terminal and to files."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import contenders, export, goals, inputs, report, session, tasks, terminal
from benchmarks.contenders import Contender
from benchmarks.rows import Document
from refsam import checkpoint, loading, weights_store
from refsam.errors import BackendUnavailable, InputError

SEED = 0
"""Of the random weights."""


@dataclass(frozen=True)
class Asked:
    """The options of the command line."""

    only: str | None
    contenders: str | None
    weights: str | None
    rounds: int
    seconds: float
    threads: int
    points: int


def measured(asked: Asked, out: Path | None) -> Document:
    """A new run; with the rows that `out` has already, where it does not time them anew."""
    for name in ("rounds", "seconds", "threads", "points"):
        if not getattr(asked, name) > 0:
            raise InputError(f"{name} is {getattr(asked, name)}; it has to be positive")
    older = Document.load(files(out)[0]) if out and files(out)[0].exists() else Document()

    def keep(so_far: Document) -> None:
        if out:
            write(older.merged(so_far), out)

    newer = session.run(plan(asked, keep))
    if not newer.rows:
        raise BackendUnavailable("nothing was timed: no contender that is installed has these rows")
    return older.merged(newer)


def plan(asked: Asked, keep: Callable[[Document], None]) -> session.Plan:
    """The run that is asked for. Exports graphs for the peers that take them."""
    names = [part.strip() for part in asked.only.split(",")] if asked.only else list(tasks.GOALS)
    chosen = tasks.chosen(names, tasks.all_tasks())
    folder = _folder()
    weights = weights_file(asked.weights)
    opened = checkpoint.load(weights)
    settings: dict[str, Any] = {"weights": str(weights), "threads": asked.threads, "points": asked.points,
                                "side": opened.config.image_size, **inputs.files(folder, opened.config.image_size)}  # fmt: skip
    takers = _with_graphs(_contenders(asked.contenders), weights, folder, settings)
    label = asked.weights or f"random, seed {SEED}, MobileSAM's size"
    run = {"threads": asked.threads, "rounds": asked.rounds, "weights": label, "weights_sha256": opened.sha256}
    return session.Plan(takers, chosen, asked.rounds, asked.seconds, settings, opened.config, run, say, keep)


def _folder() -> Path:
    return weights_store.cache_folder() / "benchmarks"


def say(text: str) -> None:
    """To stderr: stdout has the result."""
    print(f"bench: {text}", file=sys.stderr)


def weights_file(name: str | None) -> Path:
    """The weights of that name; None: random ones where this is a checkout, else the demo model."""
    if name is not None:
        return loading.weights_path(name)
    try:
        return inputs.standin(_folder(), SEED)
    except ModuleNotFoundError:
        say("random weights come from the checkout's tests; using the demo model (--weights names others)")
        return loading.weights_path("demo")


def _contenders(named: str | None) -> list[Contender]:
    """Those named, which have to be there; else those by default that are."""
    known = contenders.known()
    if named is None:
        return [x for x in known.values() if x.by_default and not x.missing()]
    names = [name.strip() for name in named.split(",")]
    for name in names:
        if name not in known:
            raise InputError(f"there is no contender {name!r}; there are: {', '.join(known)}")
        if known[name].missing():
            missing = ", ".join(known[name].missing())
            raise BackendUnavailable(f"contender {name} lacks {missing}; in a checkout run: make bench-peers")
    return [known[name] for name in names]


def _with_graphs(takers: list[Contender], weights: Path, folder: Path, settings: dict[str, Any]) -> list[Contender]:
    """Puts the exported graphs into the settings; without them and without torch, those who need them stay out."""
    needy = [x for x in takers if x.takes_graphs]
    if not needy:
        return takers
    graphs = export.graph_paths(weights, folder)
    if not all(path.exists() for path in graphs):
        if export.missing():
            say(f"left out: {', '.join(x.name for x in needy)}; their graphs are exported with {', '.join(export.missing())}")
            return [x for x in takers if x not in needy]
        say("exporting graphs (once for these weights)")
        export.in_a_process(weights, folder)
    settings["graphs"] = [str(path) for path in graphs]
    return takers


def shown(path: Path) -> Document:
    """Rows of an earlier run."""
    return Document.load(path)


def judged(document: Document, baseline: Path) -> goals.Verdict:
    """Its ratios against those of the baseline."""
    return goals.gate(document, Document.load(baseline))


def files(out: Path) -> tuple[Path, Path, Path]:
    """What is written."""
    return out / "rows.json", out / "report.html", out / "tables.md"


def write(document: Document, out: Path) -> None:
    """The rows and the reports."""
    out.mkdir(parents=True, exist_ok=True)
    rows, page, text = files(out)
    document.save(rows)
    report.save(report.page(document), page)
    report.save(report.markdown(document), text)


def show(document: Document, verdict: goals.Verdict | None) -> None:
    """Tables in the terminal."""
    terminal.show(document, verdict)
