"""The model as one object: the three parts, their weights, and the operations they run on.  Upstream: sam.py Sam."""

import dataclasses
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from refsam.arguments import numbers
from refsam.blas import one_blas_thread
from refsam.config import Config
from refsam.errors import CheckpointError, InputError
from refsam.model.mask_decoder import mask_decoder
from refsam.model.prompt_encoder import BACKGROUND, FOREGROUND, PADDING, dense_pe, prompt_encoder
from refsam.model.tiny_vit import tiny_vit
from refsam.ops import Ops
from refsam.parameters import parameter_shapes
from refsam.scope import Scope
from refsam.tracing import Trace
from refsam.types import Array, Float, Int

LARGEST = 1e15
"""Of numbers in prompts: some orders beyond it float32 would have infinities in some step; a mask prompt's norm takes squares."""


def finite(name: str, value: Any) -> Float[Array, "*N"]:
    """`value` as a float64 array. Raises InputError where it is not one, or has NaN, infinity or numbers beyond LARGEST."""
    array = numbers(name, value)
    if not np.isfinite(array).all():
        raise InputError(f"{name} has NaN or infinity in it")
    if array.size and (largest := np.abs(array).max()) > LARGEST:
        raise InputError(f"{name} has {largest:g} in it; numbers up to {LARGEST:g} are taken")
    return array


def point_labels(labels: Any, shape: tuple[int, ...]) -> Int[Array, "*N"]:
    """`labels` as whole numbers, one for each of `shape` points. Raises InputError for others than 1, 0 and -1."""
    array = finite("point_labels", labels)
    if array.shape != shape:
        raise InputError(f"point_labels has shape {array.shape}; the points need {shape}")
    if not np.isin(array, (PADDING, BACKGROUND, FOREGROUND)).all():
        raise InputError(f"point_labels are {array.tolist()}; each has to be 1, 0 or -1 (a box goes into box=)")
    return array.astype(np.int64)


def check_corners(name: str, boxes: Float[Array, "N 4"]) -> None:
    """Raise InputError where a box's first corner is beyond its second."""
    wrong = (boxes[:, 2:] < boxes[:, :2]).any(axis=1)
    if wrong.any():
        raise InputError(f"{name} is {boxes[wrong][0].tolist()}; x0 <= x1 and y0 <= y1 are needed")


class MobileSam:
    """MobileSAM, or a relative with the same graph.

    Prompts here are in the padded input frame (pixels of the S x S square) and batched, as in upstream's modules; images and
    prompts in their own pixels are SamPredictor's business. Arrays are taken in any float dtype and computed in the model's.
    Underflow is harmless here, and no error where the host has made it one (`np.seterr`).

    Args:
        tensors: the weights under upstream's names.
        config: the architecture; the tensors have to be those of `parameters.parameter_shapes(config)`.
        ops: the operations of a backend.
        dtype: "float32" or "float64", of all computation.
        metadata: what is known about the weights (source, sha256, licence).

    Upstream: sam.py Sam. Differs: no `forward` on lists of dicts; SamPredictor answers prompts on pictures.
    """

    mask_threshold: float = 0.0
    image_format: str = "RGB"

    def __init__(
        self,
        tensors: Mapping[str, Array],
        config: Config,
        ops: Ops | None = None,
        dtype: str = "float32",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        if dtype not in ("float32", "float64"):
            raise InputError(f"dtype is {dtype!r}; the model computes in 'float32' or 'float64'")
        unfit = [name for name, shape in parameter_shapes(config).items() if np.shape(tensors.get(name, ())) != shape]
        if unfit:
            raise CheckpointError(f"tensors are missing or not of the config's shape: {', '.join(unfit[:4])}")
        self.config = config
        self.dtype: np.dtype[np.float32] | np.dtype[np.float64] = np.dtype(dtype)
        self.metadata = dict(metadata or {})
        self.scope = Scope({name: np.array(tensor, self.dtype, order="C") for name, tensor in tensors.items()}, ops or Ops())

    @property
    def weights_sha256(self) -> str:
        """Of the file that the weights came from, or "" where they came from elsewhere."""
        return self.metadata.get("weights_sha256", "")

    @cached_property
    def image_pe(self) -> Float[Array, "1 D E E"]:
        """The positional encoding of the embedding's cell centres. Upstream: PromptEncoder.get_dense_pe."""
        with one_blas_thread(), np.errstate(under="ignore"):
            return self._cast(dense_pe(self.scope / "prompt_encoder", self.config.embedding_size))

    def traced(self, trace: Trace) -> "MobileSam":
        """The same model (sharing its weights) whose stages `trace` records."""
        return self.with_scope(dataclasses.replace(self.scope, trace=trace))

    def with_scope(self, scope: Scope) -> "MobileSam":
        """The same model on another scope: with a trace, hooks, other operations or other weights of its dtype.

        `dataclasses.replace` hands the memo on, where the weights are others too: it holds what was made of this model's.
        """
        if scope.weights is not self.scope.weights and scope.memo is self.scope.memo:
            scope = dataclasses.replace(scope, memo={})
        model = object.__new__(MobileSam)
        model.__dict__.update(self.__dict__, scope=scope)
        model.__dict__.pop("image_pe", None)  # computed anew: its stage is recorded, and by what the scope has
        return model

    def tap(self, stage: str, x: Array) -> Array:
        """Record a stage of pre- or postprocessing, and hand it on unchanged."""
        return (self.scope / stage).tap(x)

    def encode_image(self, input_image: Float[Array, "1 3 S S"]) -> Float[Array, "1 D E E"]:
        """The image embedding of a picture that is normalised and padded (`transforms.preprocess`).

        Raises InputError where the shape is not (1, 3, S, S).
        """
        self._expect("input_image", input_image, (1, 3, self.config.image_size, self.config.image_size))
        with one_blas_thread(), np.errstate(under="ignore"):
            return tiny_vit(self.scope / "image_encoder", self._cast(input_image), self.config)

    def encode_prompts(
        self,
        points: tuple[Float[Array, "B N 2"], Int[Array, "B N"]] | None = None,
        boxes: Float[Array, "B 4"] | None = None,
        masks: Float[Array, "#B 1 L L"] | None = None,
    ) -> tuple[Float[Array, "B T D"], Float[Array, "B D E E"]]:
        """Sparse and dense prompt embeddings of B prompts.

        Args:
            points: coordinates (x, y) in the padded input frame, and labels: 1 foreground, 0 background, -1 padding.
            boxes: x0, y0, x1, y1 in the padded input frame.
            masks: logits, such as a previous prediction's low_res_masks; one serves all prompts.

        Raises InputError where shapes do not fit, a number is not finite, a label is another, or a box's x0 is beyond x1.
        Upstream: PromptEncoder.forward. Differs: there, any numbers are a box.
        """
        coords = None if points is None else self._prompt("point coordinates", points[0], (None, None, 2))
        boxes = None if boxes is None else self._prompt("boxes", boxes, (None, 4))
        if boxes is not None:
            check_corners("one of the boxes", boxes)
        masks = None if masks is None else self._prompt("masks", masks, (None, 1, self.config.mask_size, self.config.mask_size))
        shared = masks is not None and len(masks) == 1
        batches = {len(x) for x in (coords, boxes, None if shared else masks) if x is not None}
        if len(batches) > 1:
            raise InputError(f"points, boxes and masks of one call have {sorted(batches)} prompts; give as many of each")
        checked = None if points is None or coords is None else (coords, point_labels(points[1], coords.shape[:2]))
        with one_blas_thread(), np.errstate(under="ignore"):
            return prompt_encoder(self.scope / "prompt_encoder", checked, boxes, masks, self.config)

    def decode_masks(
        self,
        image_embeddings: Float[Array, "1 D E E"],
        image_pe: Float[Array, "1 D E E"],
        sparse: Float[Array, "B T D"],
        dense: Float[Array, "B D E E"],
        multimask_output: bool = True,
    ) -> tuple[Float[Array, "B M L L"], Float[Array, "B M"]]:
        """Mask logits at a quarter of the input's sides, and their predicted IoUs; three of each, or one.

        Raises InputError where shapes do not fit.  Upstream: MaskDecoder.forward.
        """
        width, side = self.config.prompt_embed_dim, self.config.embedding_size
        self._expect("image_embeddings", image_embeddings, (1, width, side, side))
        self._expect("image_pe", image_pe, (1, width, side, side))
        self._expect("sparse prompt embeddings", sparse, (None, None, width))
        self._expect("dense prompt embeddings", dense, (len(sparse), width, side, side))
        features, position, tokens = (self._cast(x) for x in (image_embeddings, image_pe, sparse))
        maps = self._cast_broadcast(dense)
        s = self.scope / "mask_decoder"
        with one_blas_thread(), np.errstate(under="ignore"):
            return mask_decoder(s, features, position, tokens, maps, multimask_output, self.config)

    def _prompt(self, name: str, x: Any, shape: tuple[int | None, ...]) -> Array:
        """A prompt as an array of the model's dtype, of this shape and finite."""
        array = finite(name, x)
        self._expect(name, array, shape)
        return self._cast(array)

    def _cast(self, x: Array) -> Array:
        """In the model's dtype and in C order: in another, BLAS would sum in another order, and the bits would differ."""
        return np.ascontiguousarray(x, self.dtype)

    def _cast_broadcast(self, x: Array) -> Array:
        """As `_cast`, but what is repeated without taking memory still is: the map of no mask prompt is one vector."""
        x = np.asarray(x)
        once = x[tuple(slice(1 if stride == 0 else None) for stride in x.strides)]
        return np.broadcast_to(self._cast(once), x.shape)

    @staticmethod
    def _expect(name: str, x: Array, shape: tuple[int | None, ...]) -> None:
        """Raise InputError unless `x` is an array of this shape, None standing for any length."""
        got = np.shape(x)
        if len(got) != len(shape) or any(want not in (None, have) for want, have in zip(shape, got, strict=True)):
            wanted = ", ".join("any" if n is None else str(n) for n in shape)
            raise InputError(f"{name} has shape {got}; it has to be ({wanted})")
