"""The oracle: hold a port's intermediate results against the definition, and say where and why they differ."""

from refsam.verify.comparison import CompareReport, compare
from refsam.verify.diagnosis import Explanation
from refsam.verify.hypotheses import register
from refsam.verify.hypothesis import Hypothesis
from refsam.verify.outcome import Outcome
from refsam.verify.ports import Port, open_port
from refsam.verify.reference import Case, Reference
from refsam.verify.verdict import Verdict, judge
from refsam.verify.verifying import verify

__all__ = [
    "Case",
    "CompareReport",
    "Explanation",
    "Hypothesis",
    "Outcome",
    "Port",
    "Reference",
    "Verdict",
    "compare",
    "judge",
    "open_port",
    "register",
    "verify",
]
