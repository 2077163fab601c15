"""The text report for a terminal; colour only repeats what the words and marks say."""

from io import StringIO

from refsam.verify.outcome import Outcome
from refsam.verify.report.record import Record
from refsam.verify.report.text import plain_text
from refsam.verify.words import WIDTH

STYLES = (
    (r"(?<=: )(?:HOLDS|MASKS HOLD, NO STAGE WAS JUDGED)$", "bold blue"),
    (r"(?<=: )DIFFERS$", "bold red"),
    (r"first differs at", "bold red"),
    (r"^\w.*:$", "bold"),
    (r"explains [\d.]+ %", "bold"),
    (r"nothing known explains", "bold red"),
    (r"[xX#>](?=[.oxX#>]*$)", "red"),
)
"""(pattern, style of what it matches)."""


def render_text(outcome: Outcome | Record, *, colour: bool = False) -> str:
    """What a person wants to know of an outcome: the verdict, where and by how much, why, and what to do.

    Args:
        outcome: of one port and picture.
        colour: whether to add ANSI colours.
    """
    text = outcome.text if isinstance(outcome, Record) else plain_text(outcome)
    return in_colour(text) if colour else text


def in_colour(text: str) -> str:
    """Any text of the reports' grammar with ANSI colours."""
    from rich.console import Console
    from rich.text import Text

    written = StringIO()
    console = Console(file=written, force_terminal=True, color_system="standard", width=WIDTH)
    for line in text.splitlines():
        styled = Text(line)
        for pattern, style in STYLES:
            styled.highlight_regex(pattern, style)
        console.print(styled, soft_wrap=True)
    return written.getvalue().rstrip("\n")
