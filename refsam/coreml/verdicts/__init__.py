"""Operation by operation: an executor against the package it ran, and a package against refsam.

Read in this order: executor, events, package.
"""

from refsam.coreml.verdicts.executor import OpVerdict, RunVerdict, judge_run
from refsam.coreml.verdicts.package import PackageVerdict, judge_package

__all__ = ["OpVerdict", "PackageVerdict", "RunVerdict", "judge_package", "judge_run"]
