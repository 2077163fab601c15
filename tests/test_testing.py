"""Assertions for ports: what they let pass, and what they say."""

from dataclasses import replace

import numpy as np
import pytest
from verify.mistaken import reference, tiny
from verify.report.outcomes import Mistaken, app, clean

from refsam import InputError
from refsam.mask_difference import MaskDifference
from refsam.testing import assert_port_holds, assert_stage_close
from refsam.verify import compare, verify
from refsam.verify.report import render_text

NECK = "image_encoder.neck.1"


def test_a_port_that_holds_passes() -> None:
    assert_port_holds(clean())
    assert_port_holds(clean().verdict)
    assert_port_holds(clean().verdict.report)
    assert_port_holds(clean(), NECK)
    assert_port_holds(clean(), "masks")


def test_a_port_that_does_not_fails_with_the_whole_report() -> None:
    with pytest.raises(AssertionError) as caught:
        assert_port_holds(app())
    assert str(caught.value) == render_text(app())


@pytest.mark.parametrize("stage", [None, NECK])
def test_what_is_true_without_being_an_outcome_does_not_pass(unchecked: None, stage: str | None) -> None:
    """The iterator that `verify` returns, before anything has run, or a list of outcomes that differ."""
    for found in (verify(Mistaken("mine"), tiny(), [app().case]), [app()]):
        with pytest.raises(InputError, match=r"^found is a (generator|list), .*: for outcome in verify\(\.\.\.\)"):
            assert_port_holds(found, stage)


def test_one_stage_of_a_port() -> None:
    with pytest.raises(AssertionError, match=r"^not equal to the reference at image_encoder\.neck\.1\n"):
        assert_port_holds(app(), NECK)
    wrong = replace(app().verdict.report, masks=(MaskDifference(0.5, 7, 2, 3.0, number=1),))
    with pytest.raises(AssertionError, match=r"^not equal to the reference at masks\n  mask 1: IoU 0.5000, 7 pixels"):
        assert_port_holds(wrong, "masks")
    with pytest.raises(InputError, match=r"does not show the stage 'image_encoder\.nek'; it shows transforms\.resized"):
        assert_port_holds(app(), "image_encoder.nek")


def test_a_stage_within_its_budget_is_close() -> None:
    made = reference("points")
    port = clean().candidate[NECK]
    assert_stage_close(port, made, NECK)
    assert_stage_close(port.transpose(0, 2, 3, 1), made, NECK)
    assert_stage_close(port.astype(np.float16), made, NECK, precision="fp16")
    with pytest.raises(AssertionError):
        assert_stage_close(port.astype(np.float16), made, NECK)
    with pytest.raises(AssertionError):
        assert_stage_close(port, made, NECK, k=1e-3)


class Tensor:
    """As torch's that belong to a graph: NumPy cannot read them before they are detached."""

    dtype = "torch.float32"

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def detach(self) -> "Tensor":
        return self

    def cpu(self) -> np.ndarray:
        return self.values

    def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
        raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")


def test_tensors_of_a_framework_are_read() -> None:
    port = clean().candidate[NECK]
    assert_stage_close(Tensor(port), reference("points"), NECK)
    assert_stage_close(Tensor(port), Tensor(port), NECK)
    with pytest.raises(AssertionError):
        assert_stage_close(Tensor(1.01 * port), Tensor(port), NECK)
    with pytest.raises(InputError, match=r"the port's 'image_encoder.neck.1' is of dtype .*; stages are arrays of numbers"):
        assert_stage_close(["a", "b"], reference("points"), NECK)


def test_masks_are_close_by_their_pixels() -> None:
    masks, made = clean().candidate["masks"], reference("points")
    assert_stage_close(masks, made, "masks")
    assert_stage_close(masks, made.truth, "masks")
    with pytest.raises(AssertionError, match=r"^not equal to the reference at masks\n  mask 0: IoU 0.0000"):
        assert_stage_close(~masks, made.truth, "masks")
    with pytest.raises(AssertionError, match="first differs at masks"):
        assert_port_holds(compare(made.truth, {"masks": ~masks}))


def test_the_whole_message() -> None:
    desired = np.ones((2, 4))
    actual = desired.astype(np.float32)
    actual[1, 2] = 1.5
    with pytest.raises(AssertionError) as caught:
        assert_stage_close(actual, desired, "image_encoder")
    assert str(caught.value).splitlines() == [
        "not equal to the reference at image_encoder",
        "  shape (2, 4) float32",
        "  budget 3.8e-06 (float32 against float64 on this input)",
        "  relative L2 0.177, allowed 1.5e-05 (k 4); required k 4.63e+04",
        "  NMSE 0.031   PSNR 15.1 dB   cosine 0.988105   ulp 4.19e+06",
        "  mismatched elements 1 / 8 (12.5%)",
        "  greatest difference 0.5 at (1, 2):",
        "    reference 1, port 1.5",
    ]


def test_a_stage_that_the_reference_does_not_have() -> None:
    with pytest.raises(InputError, match="the reference has no stage 'x'; it has a"):
        assert_stage_close(np.ones(2), {"a": np.ones(2)}, "x")


def test_the_traceback_ends_in_the_test() -> None:
    with pytest.raises(AssertionError) as caught:
        assert_port_holds(compare({"a": np.ones(2)}, {"a": np.zeros(2)}), "a")
    # pytest leaves out these frames, so that what is shown of a failure is the user's own line and the message.
    shown = [entry for entry in caught.traceback if not entry.ishidden(caught)]
    assert [entry.path.name for entry in shown] == ["test_testing.py"]
