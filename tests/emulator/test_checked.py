"""Checked mode: every class of fault is caught and named, and nothing is said of kernels that are right."""

import re

import pytest
from emulator.marked import marked

from refsam import emulator

FAULTS = marked("faults")
FINE = marked("fine")


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_caught_and_named(name: str) -> None:
    kernel = FAULTS[name]
    line, text = kernel.fault
    with pytest.raises(emulator.error) as caught:
        kernel.run(checked=True)
    message = str(caught.value)
    assert re.match(rf"program_source:{line}(:\d+)?: error: kernel 'k', group \d+, thread \d+: ", message), message
    assert text in message
