"""An outcome as plain values: rounded, sorted, without times and absolute paths."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import numpy as np

from refsam.printing import printable
from refsam.verify.outcome import Outcome
from refsam.verify.steps import default_stages

DIGITS = 4
"""Significant ones that are kept: a budget is a measured rounding error, whose further digits change with every BLAS."""

ASKED = 10
"""The same of prompts: a point of a large picture has more than four before its decimal point."""

NEEDS = {"transforms.boxes": "box", "transforms.point_coords": "point_coords"}
"""Stages that only a prompt of this kind has."""


def entry_of(outcome: Outcome) -> dict[str, Any]:
    """`Outcome.to_dict` with what was asked, of which weights, and which stages the port neither shows nor was given."""
    model, prompts = outcome.reference.model, {name: x for name, x in outcome.case.prompts.items() if x is not None}
    hidden = [
        name for name in default_stages(model.config) if name not in outcome.candidate and NEEDS.get(name, "") in ("", *prompts)
    ]
    # A mask prompt is told by its shape.
    asked = {name: np.shape(x) if name == "mask_input" else np.asarray(x).tolist() for name, x in prompts.items()}
    facts = {"port": port_name(outcome.port), "weights_sha256": model.weights_sha256, "prompts": asked, "not_shown": hidden}
    entry: dict[str, Any] = plain({**outcome.to_dict(), **facts})
    return entry | {"prompts": plain(asked, ASKED)}


def port_name(name: str) -> str:
    """The port's name as two machines have it in common: of an absolute path the last part."""
    return PurePath(name).name if PurePath(name).is_absolute() else name


def plain(value: Any, digits: int = DIGITS) -> Any:
    """For JSON: dicts with sorted keys, lists, floats of so many digits; NaN and infinity, which JSON has not, are None. Bytes of
    a file's name that are no text are shown, as UTF-8 has none for them."""
    if isinstance(value, Mapping):
        return {str(key): plain(item, digits) for key, item in sorted(value.items())}
    if isinstance(value, list | tuple):
        return [plain(item, digits) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item(), digits)
    if isinstance(value, float):
        return float(f"{value:.{digits}g}") if np.isfinite(value) else None
    return printable(value) if isinstance(value, str) else value
