"""Traces: the named intermediate results of one run, in memory and as a .safetensors file."""

from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from refsam.errors import CheckpointError, InputError, RefsamError
from refsam.files import atomic_write, check_regular
from refsam.formats import safetensors_file
from refsam.types import Array


class Trace(Mapping[str, Array]):
    """Stage name -> array, in the order in which the stages ran.

    A stage is what a forward hook on upstream's module of that name returns: same axes, same order. Modules that return two
    tensors have two stages, `NAME.queries` and `NAME.keys`. Pre- and postprocessing have stages too: `transforms.resized`,
    `input_image`, `transforms.point_coords`, `transforms.boxes`, `low_res_masks`, `iou_predictions`, `masks`.

    Args:
        stages: glob patterns of the names to keep, a list or separated by commas ("image_encoder.layers.*,masks").
        metadata: what is known about the run (versions, weights, prompts); kept in the file.
    """

    def __init__(self, stages: str | Iterable[str] = "*", metadata: Mapping[str, str] | None = None) -> None:
        parts = stages.split(",") if isinstance(stages, str) else stages
        self.patterns = tuple(pattern for pattern in (part.strip() for part in parts) if pattern)
        if not self.patterns:
            raise InputError(f"stages is {stages!r}; give glob patterns such as 'image_encoder.*,masks'")
        self.metadata: dict[str, str] = dict(metadata or {})
        self._arrays: dict[str, Array] = {}

    def wants(self, name: str) -> bool:
        """Whether a pattern asks for this stage."""
        return any(fnmatchcase(name, pattern) for pattern in self.patterns)

    def may_want_below(self, name: str) -> bool:
        """Whether a pattern could match a stage whose name begins with `name` and a dot, be there one of that name or not."""
        prefix = f"{name}."
        # Some beginning of the pattern matches the prefix; what is left of it matches some continuation.
        return any(fnmatchcase(prefix, pattern[:end]) for pattern in self.patterns for end in range(len(pattern) + 1))

    def record(self, name: str, value: Array) -> None:
        """Keep a copy of a stage that a pattern asks for. Raises RefsamError where a stage comes twice."""
        if not self.wants(name):
            return
        if name in self._arrays:
            raise RefsamError(f"stage {name} ran twice in one trace: use a new Trace for each run")
        self._arrays[name] = np.array(value, order="C")

    def take(self, other: "Trace") -> None:
        """Begin with those stages of another trace that a pattern asks for: its arrays, not copies.

        Raises RefsamError where there are some already.
        """
        if self._arrays:
            raise RefsamError(f"a trace that has {len(self)} stages cannot begin with those of another")
        self._arrays.update({name: value for name, value in other.items() if self.wants(name)})

    def __getitem__(self, name: str) -> Array:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __repr__(self) -> str:
        return f"Trace({len(self)} stages: {', '.join(list(self)[:3])}{', ...' if len(self) > 3 else ''})"

    def save(self, path: str | Path) -> None:
        """Write all stages and the metadata as .safetensors, atomically."""
        # The file sorts its tensors, and the order of a trace is part of what it says.
        order = {f"order.{index}": name for index, name in enumerate(self)}
        with atomic_write(path) as file:
            safetensors_file.write(file, self._arrays, {**self.metadata, "refsam": "trace", **order})

    @classmethod
    def load(cls, path: str | Path) -> "Trace":
        """The inverse of `save`. Raises InputError where the file is not a trace."""
        arrays, metadata, _ = read_arrays(path)
        if metadata.pop("refsam", None) != "trace":
            raise InputError(f"{path} is a safetensors file but not a trace; refsam trace --out writes one")
        order = [metadata.pop(f"order.{index}", None) for index in range(len(arrays))]
        if sorted(filter(None, order)) != sorted(arrays):
            raise InputError(f"{path} is a damaged trace: its list of stages and its tensors differ")
        trace = cls(metadata=metadata)
        trace._arrays = {name: arrays[name] for name in order if name is not None}
        return trace


def read_arrays(path: str | Path) -> tuple[dict[str, Array], dict[str, str], frozenset[str]]:
    """The tensors of a .safetensors file, in the types that they have there; its metadata; and which are bfloat16. NumPy lacks
    it: they come as float32 of the same values. Raises InputError."""
    from safetensors import SafetensorError, safe_open

    try:
        check_regular(path)
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            names = list(file.keys())
            bf16 = frozenset(name for name in names if file.get_slice(name).get_dtype() == "BF16")
            arrays = {name: file.get_tensor(name) for name in names if name not in bf16}
        if bf16:
            with Path(path).open("rb") as raw:
                stored = safetensors_file.read(raw, Path(path).stat().st_size).tensors
                arrays |= {name: stored[name].read() for name in bf16}
    # TypeError and AttributeError: float8, which NumPy lacks
    except (OSError, ValueError, SafetensorError, CheckpointError, TypeError, AttributeError) as error:
        raise InputError(f"{path} cannot be read as .safetensors: {error}") from None
    return {name: arrays[name] for name in names}, metadata, bf16
