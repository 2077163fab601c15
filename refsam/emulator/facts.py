"""What is known of a compiled file beyond its code; kept beside it in the cache."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Facts:
    """Args:
    warnings: what the compiler said without refusing.
    waiting: kernels whose threads wait for each other: these need fibers.
    needs: kernel -> slot -> bytes that a reference argument (`constant Params &`) refers to.
    variables: names of the threadgroup variables, in the order of the section.
    granule: checked mode: the smallest access, in bytes.
    """

    warnings: str
    waiting: list[str]
    needs: dict[str, dict[str, int]]
    variables: list[str]
    granule: int

    def write(self, path: Path) -> None:
        """As JSON."""
        path.write_text(json.dumps(asdict(self)), "utf-8")

    @classmethod
    def read(cls, path: Path) -> "Facts":
        """What `write` wrote."""
        return cls(**json.loads(path.read_text("utf-8")))
