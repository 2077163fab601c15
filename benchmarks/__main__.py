"""`python -m benchmarks` is `refsam bench`."""

import sys

from refsam.cli import main

if __name__ == "__main__":
    sys.exit(main(["bench", *sys.argv[1:]]))
