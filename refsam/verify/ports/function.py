"""A Python function as a port: torch, MLX, a binding, a client of a server on a phone; whatever can be called."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from refsam import transforms
from refsam.errors import InputError
from refsam.model.sam import MobileSam
from refsam.types import Array
from refsam.verify.difference import align
from refsam.verify.ports.port import (
    COORDINATES,
    PREPROCESSED,
    arrays,
    input_image,
    load_function,
    only,
    parameters,
    precision_of_types,
    running,
    telling,
    type_name,
)
from refsam.verify.reference import Case

_RESULTS = ("masks", "iou_predictions", "low_res_masks")


class FunctionPort:
    """A port that is called once for each case.

    The names of its parameters say what it does itself. The first is `image`, the RGB picture (H, W, 3) uint8, or `input_image`,
    (1, 3, S, S) float32, for a port without preprocessing. Further ones, all by keyword and only those that it has, are those of
    `SamPredictor.predict` (`point_coords` (N, 2), `point_labels` (N,), `box` (4,), `mask_input` (1, L, L), `multimask_output`)
    in the pixels of the picture that it was given (`**prompts` takes them all); and `stages`, the names that are wanted.

    It returns stage name -> array, or what `SamPredictor.predict` returns: masks, iou_predictions, low_res_masks. An input_image
    that it returns changed is judged as its own.

    Args:
        function: the port.
        image_size: S.
        precision: what it computes in; None: fp16 or bf16 where a stage that it returns is of it, else float32.
        name: for people; by default the function's own.

    Raises InputError where its parameters are others.
    """

    def __init__(self, function: Callable[..., Any], image_size: int, precision: str | None = None, name: str = "") -> None:
        self.function, self.image_size, self.declared = function, image_size, precision
        self.precision = precision or "float32"
        self.name = name or getattr(function, "__qualname__", type(function).__name__)
        self.parameters, self.takes_any = parameters(function)
        first = self.parameters[0] if self.parameters else "nothing"
        if first not in ("image", "input_image"):
            raise InputError(f"the first parameter of {self.name} is {first}; it has to be named image or input_image")
        self.preprocesses = first == "image"
        self.given = () if self.preprocesses else ("input_image",)
        self.notes: tuple[str, ...] = ()

    def run(self, case: Case, stages: Collection[str]) -> Mapping[str, Array]:
        """Call the function. Raises InputError where it does not take the case's prompt, or returns something else."""
        prompts = {name: value for name, value in case.prompts.items() if value is not None}
        unknown = [name for name in prompts if not self._takes(name) and name != "multimask_output"]
        if unknown:
            raise InputError(f"{self.name} has no parameter {unknown[0]}, and the prompt has one; leave it out of the case")
        options: dict[str, Any] = {name: value for name, value in prompts.items() if self._takes(name)}
        if "stages" in self.parameters:
            options["stages"] = stages
        if self.preprocesses:
            return self._stages(self._called(case.image, options))
        given = input_image(case, self.image_size)
        result = self._called(given.copy(), self._in_input_frame(options, case))  # which it may change in place
        return {"input_image": given, **self._stages(result, given)}

    def _called(self, picture: Array, options: Mapping[str, Any]) -> Any:
        with running(self.name):
            return self.function(picture, **options)

    def _takes(self, name: str) -> bool:
        return self.takes_any or name in self.parameters

    def _in_input_frame(self, options: dict[str, Any], case: Case) -> dict[str, Any]:
        scaled = dict(options)
        for name, shape in (("point_coords", (-1, 2)), ("box", (2, 2))):
            if name in options:
                corners = transforms.apply_coords(np.reshape(options[name], shape), case.size, self.image_size)
                scaled[name] = corners.reshape(np.shape(options[name]))
        return scaled

    def _stages(self, result: Any, handed: Array | None = None) -> dict[str, Array]:
        """What the function returned. An input_image that is another than the one that it was handed is its own."""
        if isinstance(result, tuple | list) and len(result) == len(_RESULTS):
            result = dict(zip(_RESULTS, result, strict=True))
        if not isinstance(result, Mapping):
            wanted = "stage names with arrays are needed, or what SamPredictor.predict returns"
            raise InputError(f"{self.name} returned a {type(result).__name__}; {wanted}")
        types = {str(name): type_name(value) for name, value in result.items()}
        shown = arrays(result)
        self.given = () if handed is None or _is_another(handed, shown.get("input_image")) else ("input_image",)
        own, note = ("", ()) if self.declared else precision_of_types(telling(types, self.given))
        self.precision = self.declared or own or "float32"
        self.notes = (*(() if self.preprocesses else (PREPROCESSED, COORDINATES)), *note)
        return shown


def _is_another(handed: Array, returned: Array | None) -> bool:
    """Whether an array came back changed, and not in another order of its axes alone."""
    if returned is None:
        return False
    taken, _ = align(handed, returned)
    return taken is None or not np.array_equal(handed, taken)


def open_function(words: tuple[str, ...], *, model: MobileSam, precision: str | None = None) -> FunctionPort:
    """ "module:function"."""
    name = only(words, "function")
    return FunctionPort(load_function(name), model.config.image_size, precision, name)
