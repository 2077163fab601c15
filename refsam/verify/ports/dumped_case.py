"""What a trace's metadata say of the picture and prompt that it was made with."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from refsam.errors import InputError
from refsam.images import pixels_sha256
from refsam.predictor import described
from refsam.verify.ports.port import PROMPTS
from refsam.verify.reference import Case

BEFORE_PROMPTS = ("transforms.resized", "input_image", "image_encoder")
"""How the names of stages begin that a prompt does not change."""


def check_case(path: Path, names: Iterable[str], metadata: Mapping[str, str], case: Case) -> None:
    """Raises InputError where stages of these names are, as their metadata have it, of another picture or prompt than the case.
    Up to the embedding the prompt is of no consequence."""
    said = metadata.get("image_sha256")
    if said and said != pixels_sha256(case.image):
        raise InputError(f"{path} says that it is of another picture than {case.name or 'this one'}; its pixels differ")
    answers = [name for name in names if not name.startswith(BEFORE_PROMPTS)]
    asked = metadata.get("prompts")
    if answers and asked and not _same_prompt(asked, case):
        raise InputError(f"{path} says that it is of another prompt, and has {answers[0]}; its own is {asked:.200}")


def _same_prompt(said: str, case: Case) -> bool:
    """Whether a trace's metadata have the case's prompt; what is not given is None, three masks for `multimask_output`."""
    try:
        theirs = json.loads(said)
        ours = json.loads(json.dumps(described({name: x for name, x in case.prompts.items() if x is not None})))
        return all(_flat(theirs.get(name), name) == _flat(ours.get(name), name) for name in PROMPTS)
    except (ValueError, TypeError, AttributeError):
        return False


def _flat(value: Any, name: str) -> Any:
    if name == "multimask_output":
        return True if value is None else bool(value)
    return value if value is None or name == "mask_input" else np.ravel(value).tolist()
