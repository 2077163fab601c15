"""The oracle: hold a port's intermediate results against the definition, and say where and why they differ."""

from refsam.verify.comparison import CompareReport, compare
from refsam.verify.diagnosis import Explanation
from refsam.verify.hypothesis import Hypothesis, register
from refsam.verify.reference import Case, Reference
from refsam.verify.verdict import Verdict, judge

__all__ = ["Case", "CompareReport", "Explanation", "Hypothesis", "Reference", "Verdict", "compare", "judge", "register"]
