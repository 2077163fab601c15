"""The HTML page: one file with its styles and pictures in it, no script, no request; jinja2 (extra "report") fills it in.

Everything that comes from a port (names above all) is text: the template escapes it, and the page's own policy lets nothing run.
"""

from collections.abc import Iterable, Sequence
from importlib.resources import files

from refsam.verify.outcome import Outcome
from refsam.verify.report.record import Record, not_judged, records
from refsam.verify.report.stage_map import HIDDEN, LEVELS, stage_map
from refsam.verify.report.view import View

MOST_DETAILS = 20
"""Pictures that are shown in full: the worst ones. All are in the summary."""


def to_html(outcomes: Iterable[Outcome | Record]) -> str:
    """One page over all outcomes: a summary where there are several, and for each the stage map, why it differs, difference maps,
    masks, and a table of all stages.

    Raises ModuleNotFoundError where jinja2 is not installed (`pip install 'refsam[report]'`).
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    made = list(records(outcomes))
    views = [View(number, record) for number, record in enumerate(made)]
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(_own("page.html"))
    return template.render(
        css=Markup(_own("page.css")),
        title=_title(made),
        headline=_headline(made),
        holds=all(made),
        views=views,
        detailed=_detailed(views),
        levels=[(name, words) for name, _, words in LEVELS],
        hidden=HIDDEN,
        map_of=lambda view: stage_map(view.entry),
    )


def _own(name: str) -> str:
    return files("refsam.verify.report").joinpath(name).read_text("utf-8")


def _title(made: Sequence[Record]) -> str:
    ports = sorted({record.entry["port"] for record in made})
    return ", ".join(ports[:3]) + (f" and {len(ports) - 3} more" if len(ports) > 3 else "") or "nothing"


def _headline(made: Sequence[Record]) -> str:
    differing = sum(not record for record in made)
    if len(made) == 1:
        return made[0].headline
    hold = f"{differing} of {len(made)} differ" if differing else f"all {len(made)} hold"
    return ", ".join([hold, *not_judged(made)])


def _detailed(views: Sequence[View]) -> list[View]:
    """The worst, in the order in which they came."""

    def badness(view: View) -> tuple[bool, float]:
        return not view.entry["holds"], view.worst

    chosen = sorted(views, key=badness, reverse=True)[:MOST_DETAILS]
    return sorted(chosen, key=lambda view: view.number)
