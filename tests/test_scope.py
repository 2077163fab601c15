"""Scope: names descend, tensors are read, stages are recorded."""

import numpy as np
import pytest

from refsam.errors import CheckpointError
from refsam.ops import Ops
from refsam.scope import Scope
from refsam.tracing import Trace

pytestmark = pytest.mark.core

WEIGHTS = {"a.0.weight": np.arange(3.0), "bias": np.zeros(1)}


def test_a_path_of_names_is_the_checkpoints_name() -> None:
    s = Scope(WEIGHTS, Ops())
    assert (s / "a" / 0).name == "a.0"
    assert (s / "a" / 0)["weight"] is WEIGHTS["a.0.weight"]
    assert s["bias"] is WEIGHTS["bias"]
    assert s["a.0.weight"] is WEIGHTS["a.0.weight"]


def test_a_missing_tensor_is_named_in_full() -> None:
    s = Scope(WEIGHTS, Ops()) / "a" / 1
    assert s.get("weight") is None
    with pytest.raises(CheckpointError, match=r"^tensor a\.1\.weight is not in the weights$"):
        s["weight"]


def test_tap_records_under_the_scopes_name_and_hands_the_array_on() -> None:
    trace = Trace("a.*")
    s = Scope(WEIGHTS, Ops(), trace)
    x = np.ones(2)
    assert (s / "a" / 1).tap(x) is x
    assert (s / "b").tap(x) is x
    assert list(trace) == ["a.1"]


def test_without_a_trace_tap_is_nothing() -> None:
    x = np.ones(2)
    assert (Scope(WEIGHTS, Ops()) / "a").tap(x) is x


def test_a_scope_does_not_change() -> None:
    s = Scope(WEIGHTS, Ops())
    s / "a"
    assert s.name == ""
    with pytest.raises(AttributeError):
        s.name = "b"  # type: ignore[misc]
