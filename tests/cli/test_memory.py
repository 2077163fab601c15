"""How much memory a picture of 100 megapixels takes, measured by the system."""

import json
import subprocess
import sys
from pathlib import Path

import refsam

PAINT = """
from PIL import Image
Image.new("RGB", (10_000, 10_000), (90, 140, 60)).save("large.jpg")
"""

# A process of its own in between: the high-water mark of a child starts at that of the process it is split from, and this
# one has no other child.
MEASURE = """
import resource, subprocess, sys
program = "import sys; from refsam.cli import main; sys.exit(main())"
code = subprocess.run([sys.executable, "-c", program, *sys.argv[1:]]).returncode
unit = 1 if sys.platform == "darwin" else 1024
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit, file=sys.stderr)
sys.exit(code)
"""


def python(folder: Path, *tokens: str) -> "subprocess.CompletedProcess[str]":
    root = str(Path(refsam.__file__).parents[1])
    command = [sys.executable, "-c", *tokens]
    return subprocess.run(command, cwd=folder, env={"PYTHONPATH": root}, check=True, capture_output=True, text=True)


def test_a_hundred_megapixels_take_less_than_two_gibibytes(tmp_path, standin):
    """Three masks of 100 MB, Pillow's pixels (400 MB, gone before the masks come), ours (300 MB); logits would take 1.2 GB."""
    python(tmp_path, PAINT)
    done = python(tmp_path, MEASURE, "segment", "large.jpg", "--point", "5000,2000", "--weights", str(standin), "--json")
    assert json.loads(done.stdout)["image"] == {"path": "large.jpg", "height": 10_000, "width": 10_000}
    peak = int(done.stderr)
    assert 300e6 < peak < 2 * 2**30  # at least the picture itself, else something else was measured
