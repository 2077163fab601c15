"""What verifying a port found, for people and for machines: the terminal, JSON, and one HTML page that needs nothing else.

Read in this order: entry, stage_map, text, terminal, document; maps, pictures, record; page.
"""

from refsam.verify.report.document import to_json
from refsam.verify.report.page import to_html
from refsam.verify.report.record import Record, not_judged, record
from refsam.verify.report.terminal import in_colour, render_text

__all__ = ["Record", "in_colour", "not_judged", "record", "render_text", "to_html", "to_json"]
