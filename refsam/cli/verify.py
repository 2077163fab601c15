"""`refsam verify`: a port of any kind held against the reference, on one picture and prompt or many."""

import multiprocessing
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from refsam.checkpoint import file_sha256
from refsam.cli.common import DIFFERENCE, OK, TERMINATED, JsonFlag, print_json, printable, progress
from refsam.cli.model import ModelOptions
from refsam.cli.verify_port import CaseOptions, PortOptions, Precision, Task
from refsam.cli.verify_results import Results, check_page, write_html
from refsam.errors import InputError
from refsam.loading import weights_path
from refsam.threads import thread_count
from refsam.verify import verify as verified
from refsam.verify.comparison import K
from refsam.verify.report import Record, in_colour, not_judged, record, to_json

Factor = Annotated[float, Parameter(name=["-k", "--k"], help="How many rounding budgets a stage may be off.")]
Stages = Annotated[
    str | None, Parameter(help="Judge these alone: patterns, separated by commas (default: blocks and their parts).")
]
Explain = Annotated[bool, Parameter(negative="--no-explain", help="Look for where and why a port differs.")]
Html = Annotated[Path | None, Parameter(help="A page with difference maps and masks, .html (needs jinja2).")]
Out = Annotated[Path | None, Parameter(help="A folder for report.json, report.html and each picture's result.")]
Resume = Annotated[bool, Parameter(negative=(), help="With --out: take what an earlier run of the same port has done.")]
Jobs = Annotated[int, Parameter(name=["-j", "--jobs"], help="Processes at once, each with a model of its own.")]

ENDED = (
    "a process of --jobs ended without an answer: the system ended it, as it does where memory is short, or the port crashed;"
    " fewer --jobs take less memory, and --jobs 1 shows after which picture"
)


@dataclass(frozen=True)
class Asked:
    """What is the same for every picture; sent to each process.

    Attributes:
        words: the port.
        how: how it is opened.
        model: which weights.
        settings: of `verify.verify`.
    """

    words: tuple[str, ...]
    how: PortOptions
    model: ModelOptions
    precision: str | None
    settings: dict[str, Any]

    def opened(self) -> Callable[[Sequence[Task]], Iterator[tuple[Task, Record]]]:
        """Load the model, open the port; returns what does tasks. Errors name the picture and prompt where they are theirs."""
        model = self.model.load(named=True)
        with _apart():
            port = self.how.open(self.words, model, self.precision)

        def work(tasks: Sequence[Task]) -> Iterator[tuple[Task, Record]]:
            outcomes = verified(port, model, (task.read(model) for task in tasks), precision=self.precision, **self.settings)
            for task in tasks:
                try:
                    with _apart():
                        found = next(outcomes)
                except InputError as error:
                    raise InputError(f"{task.title}: {error}") from None
                yield task, record(found)

        return work


@contextmanager
def _apart() -> Iterator[None]:
    """Around a port's own code: what it prints goes to stderr, since stdout has the answer.

    Raises InputError where it ends Python, as a script does that is imported.
    """
    try:
        with redirect_stdout(sys.stderr):
            yield
    except SystemExit as stop:
        if stop.code == TERMINATED:  # by a signal
            raise
        advice = "what a script does when it is run belongs under: if __name__ == '__main__'"
        raise InputError(f"the port's code ended Python, sys.exit({stop.code!r}); {advice}") from None


def verify(
    *port: str,
    cases: CaseOptions | None = None,
    precision: Precision = None,
    k: Factor = K,
    stages: Stages = None,
    explain: Explain = True,
    how: PortOptions | None = None,
    model: ModelOptions | None = None,
    html: Html = None,
    out: Out = None,
    resume: Resume = False,
    jobs: Jobs = 1,
    as_json: JsonFlag = False,
) -> int:
    """Hold PORT against the reference: which stage differs, by how much, and why. Exit code 1 where one does.

    PORT is a folder or file of dumps, Core ML packages, ONNX files, a backend, a Python function (module:function), or app. The
    weights have to be named, by --weights or $REFSAM_WEIGHTS. Without a prompt a point in the middle of each picture is asked. A
    picture may have several prompts: --box again and again, or a --prompts file with entries named after pictures, or for all.
    """
    if jobs < 1:
        raise InputError(f"--jobs is {jobs}; it has to be at least 1")
    if resume and out is None:
        raise InputError("--resume goes on with the results of a folder, and none is named; give --out FOLDER")
    if html is not None:
        check_page(html)
    asked_of = cases or CaseOptions()
    tasks, left_out = asked_of.tasks(), asked_of.left_out()
    (how or PortOptions()).check_several(port, [task.name for task in tasks])
    options = model or ModelOptions()
    if options.threads is None:
        options = replace(options, threads=max(1, thread_count() // jobs))
    settings = {"k": k, "stages": stages, "explain": explain, "threads": options.threads}
    asked = Asked(port, how or PortOptions(), options, precision, settings)
    results = None if out is None else Results(out, _identity(asked), resume)
    if left_out:
        print(f"refsam: {printable(left_out)}", file=sys.stderr)
    records = _collect(asked, tasks, results, jobs, show=not as_json and len(tasks) > 1)
    if as_json:
        print_json(to_json(records))
    else:
        text = summary(records, _unit(tasks))
        print(in_colour(text) if _in_colour() else text, flush=True)
    for path in _write(records, results, html):
        if not as_json:
            print(f"wrote {printable(path)}")
    return OK if all(records) else DIFFERENCE


def _write(records: Sequence[Record], results: Results | None, html: Path | None) -> Iterator[Path]:
    """The reports that were asked for; yields their paths."""
    if results is not None:
        yield from results.finish(records)
    if html is not None:
        yield write_html(html, records)


def _in_colour() -> bool:
    """Where a person is watching who has not said no (no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def _identity(asked: Asked) -> dict[str, Any]:
    """What a result depends on, besides picture, prompt and the port's own contents."""
    asked.model.check_named()
    with weights_path(asked.model.weights).open("rb") as file:
        weights = file_sha256(file)
    settings = {name: value for name, value in asked.settings.items() if name != "threads"}
    return {"port": asked.words, "how": asdict(asked.how), "precision": asked.precision, "weights": weights, **settings}


def _collect(asked: Asked, tasks: Sequence[Task], results: Results | None, jobs: int, *, show: bool) -> list[Record]:
    """The records in the order of the tasks; each is kept and shown as soon as it is there."""
    found: dict[str, Record] = {}
    if results is not None:
        results.prepare()
        kept = ((task.name, results.done(task)) for task in tasks)
        found = {name: made for name, made in kept if made is not None}
    left = [task for task in tasks if task.name not in found]
    if found:
        print(f"refsam: {len(found)} of {len(tasks)} {_unit(tasks)} were done before", file=sys.stderr)
    with progress("verify", unit=_unit(tasks)) as advance:
        advance(len(found), len(tasks))
        for task, made in _run(asked, left, jobs):
            found[task.name] = made
            if results is not None:
                results.keep(task, made)
            if show:
                print(line(made), flush=True)
            advance(len(found), len(tasks))
    return [found[task.name] for task in tasks]


def _run(asked: Asked, tasks: Sequence[Task], jobs: int) -> Iterator[tuple[Task, Record]]:
    """Records as they come, here or in processes of their own, a picture in one of them, as its prompts share what is computed.

    Raises InputError where a process ends without an answer.
    """
    pictures = [list(group) for _, group in groupby(tasks, key=lambda task: task.path)]
    if jobs == 1 or len(pictures) < 2:
        yield from asked.opened()(tasks)
        return
    context = multiprocessing.get_context("spawn")  # threads and BLAS do not survive a fork
    with ProcessPoolExecutor(min(jobs, len(pictures)), context) as pool:
        try:
            futures = [pool.submit(_work, asked, picture) for picture in pictures]
            for future in as_completed(futures):
                yield from future.result()
        except BrokenProcessPool:
            raise InputError(ENDED) from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


_opened: list[Callable[[Sequence[Task]], Iterator[tuple[Task, Record]]]] = []


def _work(asked: Asked, tasks: Sequence[Task]) -> list[tuple[Task, Record]]:
    """In a process: what was opened for the first tasks serves the others too."""
    if not _opened:
        _opened.append(asked.opened())
    return list(_opened[0](tasks))


def _unit(tasks: Sequence[Task]) -> str:
    """What there are so many of: pictures, or, where one has several, prompts."""
    return "pictures" if len({task.path for task in tasks}) == len(tasks) else "prompts"


def line(made: Record) -> str:
    """One case's verdict in one line."""
    entry = made.entry
    name, ends = entry["picture"]["name"], entry["end_to_end"]
    misfit = next((mask["misfit"] for mask in ends if mask["misfit"]), "")
    masks = f"masks: {misfit}" if misfit else f"least mask IoU {min(mask['iou'] for mask in ends):.4f}"
    if made.masks_alone:
        return f"{name}: {made.headline}; {masks}"
    if made:
        return f"{name}: holds, required k {entry['required_k']:.2g}; {masks}"
    return f"{name}: differs first at {entry['first']}{_why(made)}; {masks}"


def _why(made: Record) -> str:
    explained = [explanation["names"] for explanation in made.entry["explanations"] if explanation["names"]]
    return f" ({' + '.join(explained[0])})" if explained else ""


def summary(records: Sequence[Record], unit: str = "pictures") -> str:
    """The whole report of one case; of many how many hold, what differs how often, and the report of the first that differs."""
    if len(records) == 1:
        return records[0].text
    failing = [made for made in records if not made]
    lines = ["; ".join([f"{len(records) - len(failing)} of {len(records)} {unit} hold", *not_judged(records)])]
    for (first, why), count in Counter((made.entry["first"], _why(made)) for made in failing).most_common():
        lines.append(f"  {count} differ first at {first}{why}")
    return "\n".join([*lines, *([failing[0].text] if failing else [])])
