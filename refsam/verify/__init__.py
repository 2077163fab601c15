"""The oracle: hold a port's intermediate results against the definition, and say where and why they differ."""

from refsam.verify.comparison import CompareReport, compare
from refsam.verify.reference import Case, Reference

__all__ = ["Case", "CompareReport", "Reference", "compare"]
