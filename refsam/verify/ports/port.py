"""What a port is to the oracle: something that answers a case and shows some of its stages."""

import importlib
import inspect
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from refsam import transforms
from refsam.errors import InputError, RefsamError
from refsam.types import Array
from refsam.verify.groups import OTHER, group_of
from refsam.verify.masks import masks_first, undefined
from refsam.verify.reference import Case

PREPROCESSED = "preprocessing: the reference's; the port was given input_image"
PROMPTS = ("point_coords", "point_labels", "box", "mask_input", "multimask_output")
"""The arguments of `SamPredictor.predict` that a case may have."""
COORDINATES = "prompts: the reference took them to the input frame"


class Port(Protocol):
    """An implementation of the model, wherever it runs.

    Attributes:
        name: for people: "MobileSam.onnx + decoder.onnx".
        precision: what it computes in, a name in `verify.precision.PRECISIONS`.
        notes: what the reference does in its place and how its results were read, one sentence each; complete after `run`.

    It may also have `given`, the names of stages that the reference made and `run` hands on: they are inputs of what is judged,
    and not judged; and `declared`, the precision that somebody has named (an option, a manifest), "" or None where nobody has.
    """

    name: str
    precision: str
    notes: tuple[str, ...]

    def run(self, case: Case, stages: Collection[str]) -> Mapping[str, Array]:
        """Answer the case.

        Args:
            case: picture and prompt, in the picture's pixels. Its arrays are the port's own, which it may change in place.
            stages: those that are wanted. A port that cannot show one leaves it out; others that it has are welcome.

        Returns:
            Stage name -> array in upstream's axes, or in another order of them. "masks" are (M, H, W) at the picture's size.

        Raises InputError where the case is not one that the port can answer.
        """


def only(words: tuple[str, ...], kind: str) -> str:
    """The one word that a port of some kinds is. Raises InputError for more."""
    if len(words) != 1:
        raise InputError(f"a port of kind {kind} is one word; there are {len(words)}: {' '.join(words)}")
    return words[0]


def load_function(name: str) -> Callable[..., Any]:
    """The callable that "module:function" names. Raises InputError where there is none."""
    module, _, attribute = name.partition(":")
    found: Any = _module(module, name)
    try:
        for part in attribute.split("."):
            found = getattr(found, part)
    except AttributeError as error:
        raise InputError(f"{name}: {error}") from None
    if not callable(found):
        raise InputError(f"{name} is a {type(found).__name__}; a function is needed")
    return found


def _module(module: str, name: str) -> ModuleType:
    try:
        with running(name):
            return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and (module == error.name or module.startswith(f"{error.name}.")):
            raise InputError(f"there is no module {error.name!r}; is it on PYTHONPATH? ({name} was asked for)") from None
        raise


def chosen_masks(case: Case) -> slice:
    """Of the masks that a decoder gives, which the case asks for: the single one comes first, then the three candidates."""
    return slice(1, None) if case.prompts.get("multimask_output", True) else slice(0, 1)


ALIASES = {
    "image_embeddings": "image_encoder",
    "sparse_prompt_embeddings": "prompt_encoder.sparse_prompt_embeddings",
    "dense_prompt_embeddings": "prompt_encoder.dense_prompt_embeddings",
    "boxes": "transforms.boxes",
}
"""Upstream's names of tensors that are stages of another name here. (Its `point_coords` is none: the predictor's are in the
picture's pixels, and the ONNX decoder's have the padding point.)"""


def renamed(shown: Mapping[str, Array]) -> tuple[dict[str, Array], tuple[str, ...]]:
    """What a port shows under the stages' own names, and a note for each name that was another."""
    taken = {name: stage for name, stage in ALIASES.items() if name in shown and stage not in shown}
    notes = tuple(f"{name} was taken for {stage}" for name, stage in taken.items())
    return {taken.get(name, name): array for name, array in shown.items()}, notes


def own_stages(port: Port, shown: Collection[str], known: Collection[str]) -> list[str]:
    """The names of what a port shows of its own: without what it was handed. Raises InputError where none of them is a stage."""
    given = getattr(port, "given", ())
    own = [name for name in shown if name not in given]
    if not any(name in known for name in own):
        returned = ", ".join(map(repr, own[:5])) or f"nothing but what it was given ({', '.join(given) or 'nothing'})"
        raise InputError(f"{port.name} shows no stage that could be judged: it returned {returned}; {NAMES}")
    return own


NAMES = "names are image_encoder, low_res_masks, iou_predictions, masks and others that `refsam trace` lists"
CHOSEN = "masks: the port shows all {count} that the decoder gives; those that the prompt asks for were taken"
_OF_MASKS = {"masks": (-3,), "low_res_masks": (-3, -1), "iou_predictions": (-1,)}
"""Answers, and the axes that may be that of the masks."""


def asked_for(shown: Mapping[str, Array], case: Case, count: int) -> tuple[Mapping[str, Array], tuple[str, ...]]:
    """What a port shows; where it has all `count` masks and scores of the decoder, those that the case asks for, and a note."""
    taken = {}
    for name, axes in _OF_MASKS.items():
        value = np.asarray(shown.get(name, 0))
        value = masks_first(value, case.size) if name == "masks" else value
        axis = next((axis for axis in axes if value.ndim >= -axis and value.shape[axis] == count), None)
        if axis is not None:
            taken[name] = np.take(value, range(count)[chosen_masks(case)], axis)
    return {**shown, **taken}, (CHOSEN.format(count=count),) if taken else ()


def check_points_only(case: Case, who: str) -> None:
    """Raises InputError where the case has another prompt than points with labels, or none."""
    for name in ("box", "mask_input"):
        if case.prompts.get(name) is not None:
            raise InputError(f"{who} takes points only, and the prompt has a {name}; leave it out of the case")
    if case.prompts.get("point_coords") is None:
        raise InputError(f"{who} needs at least one point")
    if case.prompts.get("point_labels") is None:
        raise InputError("point_coords and point_labels go together: give a label (1 or 0) for each point")


def input_image(case: Case, image_size: int) -> Array:
    """What the reference's preprocessing makes of the picture, for ports that have none of their own."""
    return transforms.preprocess(case.image, image_size)


def parameters(function: Callable[..., Any]) -> tuple[list[str], bool]:
    """Names of a function's parameters, and whether it takes any others by keyword.

    Raises InputError where Python cannot tell (some functions that are written in C).
    """
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        raise InputError(f"{function!r} does not say which parameters it takes; wrap it in a Python function") from None
    named = [p.name for p in found if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY, p.POSITIONAL_ONLY)]
    return named, any(p.kind is p.VAR_KEYWORD for p in found)


BF16 = "bfloat16"
_HALVES = {BF16: "bf16", "float16": "fp16"}
"""Types of two bytes and the precision that they tell, the coarser first."""


def telling(types: Mapping[str, str], given: Collection[str] = ()) -> dict[str, str]:
    """The types that tell what a port computes in: those of the model's stages under any of their names. Not of masks, which are
    not computed in floats, nor of other names, nor of `given`, what the port was handed."""
    stages = {name: ALIASES.get(name, name) for name in types}
    none = ("masks", *given)
    return {name: types[name] for name, stage in stages.items() if stage not in none and group_of(stage) != OTHER}


def precision_of_types(types: Mapping[str, str]) -> tuple[str, tuple[str, ...]]:
    """The precision that types tell (those of `telling`), and a note of it; "" where none is a half.

    A port that computes in halves often takes its input and hands over its answers in float32, so one half is enough.
    """
    for kind, precision in _HALVES.items():
        halves = [name for name, type_ in types.items() if type_ == kind]
        if halves:
            whole = any("float" in type_ and type_ != kind for type_ in types.values())
            these = f"{halves[0]} is" if len(halves) == 1 else f"{len(halves)} stages are"
            return precision, (f"precision: {precision}, as {these if whole else 'all floats are'} {kind}",)
    return "", ()


def type_name(value: Any) -> str:
    """What an array or a tensor of any framework calls its numbers, without the framework: "bfloat16" of "torch.bfloat16"."""
    dtype = getattr(value, "dtype", "")
    return str(getattr(dtype, "name", None) or dtype).rpartition(".")[2]


@contextmanager
def running(name: str) -> Iterator[None]:
    """Whatever the port's own code raises becomes an InputError that says so, and where it was raised; refsam's own errors pass,
    and what the console has words for: a module that is not installed, a lack of memory."""
    try:
        yield
    except (RefsamError, ModuleNotFoundError, MemoryError):
        raise
    except Exception as error:
        raise InputError(f"{name} failed: {type(error).__name__}: {_reason(error)} ({_place(error)})") from error


def _reason(error: Exception) -> str:
    return error.msg if isinstance(error, SyntaxError) else str(error)


def _place(error: Exception) -> str:
    """The file and line that an error is about: of a module that cannot be read its own; text that is no file has none."""
    if isinstance(error, SyntaxError) and error.filename and Path(error.filename).is_file():
        return f"{error.filename}:{error.lineno}"
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{frame.filename}:{frame.lineno}"


def arrays(given: Mapping[str, Any]) -> dict[str, Array]:
    """Stages as arrays of numbers; masks (logits, levels or booleans) as booleans, but for those with NaN, which are left as
    they are, to be told from masks. Raises InputError for anything else."""
    found = {}
    for name, value in given.items():
        with running(f"the port's {name!r}, read as an array,"):
            array = _array(value)
        if not isinstance(name, str) or array.dtype.kind not in "biuf":
            raise InputError(f"the port's {name!r} is of dtype {array.dtype}; stages are arrays of numbers by name")
        found[name] = array > 0 if name == "masks" and not undefined(array) else array
    return found


def _array(value: Any) -> Array:
    """NumPy has no bfloat16: it is widened, which changes no number."""
    held = value.detach().cpu() if hasattr(value, "detach") else value
    if type_name(held) != BF16:
        return np.asarray(held)
    if hasattr(held, "float"):
        return np.asarray(held.float())
    if not hasattr(held.dtype, "name"):  # MLX's arrays: NumPy cannot read them, and their astype takes MLX's types alone
        return np.asarray(held.tolist(), np.float32)
    read = held if hasattr(held, "astype") else np.asarray(held)  # TensorFlow's tensors have neither
    return np.asarray(read.astype(np.float32))
