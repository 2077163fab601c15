"""Array types: checked in the tests, and nothing that everybody else waits for."""

import subprocess
import sys

import jaxtyping
import pytest

from refsam import types

pytestmark = pytest.mark.core


@pytest.mark.parametrize("name", ["Bool", "Float", "Int", "UInt8"])
def test_these_tests_check_shapes(name: str) -> None:
    assert getattr(types, name) is getattr(jaxtyping, name)


def test_a_plain_import_leaves_jaxtyping_out() -> None:
    program = "import sys, refsam.types as t; print('jaxtyping' in sys.modules, t.Float[t.Array, 'N'] is t.Array)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
