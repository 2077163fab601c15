"""`python -m refsam`: the console where the command `refsam` is not on the path."""

import sys

from refsam.cli import main

if __name__ == "__main__":
    sys.exit(main())
