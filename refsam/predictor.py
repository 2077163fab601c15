"""Prompts on a picture, in the picture's own pixels, as upstream's SamPredictor takes them; and traces of whole predictions."""

import hashlib
import json
import platform
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, cast

import numpy as np

from refsam import transforms
from refsam.arguments import numbers
from refsam.errors import InputError, NotReady
from refsam.images import as_image, pixels_sha256
from refsam.model.sam import MobileSam, check_corners, finite, point_labels
from refsam.scope import qualified_name
from refsam.tracing import Trace
from refsam.types import Array, Bool, Float, Int, Size, UInt8

F = TypeVar("F", bound=Callable[..., Any])
Masks = Bool[Array, "B M H W"] | Float[Array, "B M H W"]


class SamPredictor:
    """One picture is encoded once, then any number of prompts are answered quickly.

    Methods, arguments, defaults and results are upstream's, with NumPy arrays in place of tensors (`predict_torch` is
    `predict_batch`, `set_torch_image` is `set_transformed_image`).

    Args:
        sam_model: the model, from `refsam.load`.

    Upstream: predictor.py SamPredictor.
    """

    def __init__(self, sam_model: MobileSam) -> None:
        self.model = sam_model
        self.transform = transforms.ResizeLongestSide(sam_model.config.image_size)
        self.reset_image()

    def reset_image(self) -> None:
        """Forget the picture."""
        self.is_image_set = False
        self.features: Array | None = None
        self.original_size: Size = (0, 0)
        self.input_size: Size = (0, 0)

    def set_image(self, image: UInt8[Array, "H W 3"], image_format: str = "RGB") -> None:
        """Encode a picture, for `predict`.

        Args:
            image: height x width x 3, uint8.
            image_format: "RGB" or "BGR", the order of its channels.

        Raises InputError where the array is not such a picture.  Upstream: SamPredictor.set_image.
        """
        if image_format not in ("RGB", "BGR"):
            raise InputError(f"image_format is {image_format!r}; it has to be 'RGB' or 'BGR'")
        image = as_image(image)
        rgb = image if image_format == self.model.image_format else image[..., ::-1]
        resized = self._fastest(transforms.resize)(rgb, self.model.config.image_size)
        self._set_resized(resized, (image.shape[0], image.shape[1]))

    def set_transformed_image(self, transformed_image: UInt8[Array, "1 3 H W"], original_image_size: Size) -> None:
        """Encode a picture that is resized already (longest side S, RGB, channels first).

        Args:
            transformed_image: uint8.
            original_image_size: (height, width) of the picture before resizing; masks come in this size.

        Raises InputError where the shape does not fit, or is not that of a picture of this size, give or take the rounding of a
        pixel.  Upstream: SamPredictor.set_torch_image.
        Differs: upstream takes floats as well, and any size; a picture of another size gets masks that do not lie on it.
        """
        side = self.model.config.image_size
        dtype, shape = np.asarray(transformed_image).dtype, np.shape(transformed_image)
        if len(shape) != 4 or shape[:2] != (1, 3) or max(shape[2:]) != side or dtype != np.uint8:
            raise InputError(
                f"transformed_image is {dtype} {shape}; it has to be uint8 (1, 3, height, width) with a longest side of {side}"
            )
        expected = transforms.resized_size(original_image_size, side)
        if min(shape) < 1 or any(abs(have - want) > 1 for have, want in zip(shape[2:], expected, strict=True)):
            raise InputError(f"transformed_image is {shape}; a picture of {original_image_size} resized is (1, 3, *{expected})")
        self._set_resized(transformed_image[0].transpose(1, 2, 0), original_image_size)

    def set_embedding(self, image_embeddings: Float[Array, "1 D E E"], original_size: Size) -> None:
        """Take a picture's embedding from an earlier `get_image_embedding` of the same weights, instead of computing it.

        Args:
            image_embeddings: of any float dtype; a copy in the model's is kept.
            original_size: (height, width) of the picture; masks come in this size.

        Raises InputError where it is no array of numbers of the model's shape, or the size is none; the old picture stays then.
        """
        config = self.model.config
        expected = (1, config.prompt_embed_dim, config.embedding_size, config.embedding_size)
        features = numbers("the embedding", image_embeddings)
        if features.shape != expected:
            raise InputError(f"the embedding has shape {features.shape}; this model's is {expected}")
        input_size = transforms.resized_size(original_size, config.image_size)
        self._keep(np.array(features, self.model.dtype, order="C"), original_size, input_size)

    def get_image_embedding(self) -> Float[Array, "1 D E E"]:
        """The embedding of the current picture. Raises NotReady where none is set.  Upstream: get_image_embedding."""
        if self.features is None:
            raise NotReady("an image must be set with set_image(...) before its embedding can be had")
        return self.features

    def predict(
        self,
        point_coords: Any = None,
        point_labels: Any = None,
        box: Any = None,
        mask_input: Any = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> tuple[Bool[Array, "M H W"] | Float[Array, "M H W"], Float[Array, " M"], Float[Array, "M L L"]]:
        """Masks for one prompt: points, a box, a mask, any of them together, or none.

        Args:
            point_coords: (N, 2), x and y in image pixels.
            point_labels: (N,), 1 for a point on the object, 0 for one that is not, -1 for a padding point, whose place
                does not matter.
            box: (4,), x0, y0, x1, y1 in image pixels.
            mask_input: (1, L, L) logits, `low_res_masks[k:k+1]` of an earlier prediction.
            multimask_output: three candidates, which suits ambiguous prompts such as one point, or one mask.
            return_logits: logits in place of booleans, 4 M H W bytes of them; a mask is where they are above
                `model.mask_threshold`, 0.

        Returns:
            masks (M, H, W) at the picture's size; their predicted IoUs (M,); low_res_masks (M, L, L), logits in the padded
            input frame.

        Raises NotReady before `set_image`; InputError where a prompt is malformed.  Upstream: SamPredictor.predict.
        Differs: labels without points, a box whose x0 is beyond x1, and labels other than 1, 0 and -1 are errors.
        """
        self.get_image_embedding()
        coords, labels = self._points(point_coords, point_labels)
        boxes = None if box is None else self._box(box)
        mask = None if mask_input is None else self._mask(mask_input)
        masks, iou_predictions, low_res_masks = self.predict_batch(coords, labels, boxes, mask, multimask_output, return_logits)
        return masks[0], iou_predictions[0], low_res_masks[0]

    def predict_batch(
        self,
        point_coords: Float[Array, "B N 2"] | None,
        point_labels: Int[Array, "B N"] | None,
        boxes: Float[Array, "B 4"] | None = None,
        mask_input: Float[Array, "#B 1 L L"] | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> tuple[Masks, Float[Array, "B M"], Float[Array, "B M L L"]]:
        """Masks for B prompts at once, given in the input frame: `transform.apply_coords` and `apply_boxes` take them there.

        Args, Returns and Raises are those of `predict` with a batch axis in front.  Upstream: SamPredictor.predict_torch.
        """
        low_res_masks, iou_predictions = self.predict_low_res(point_coords, point_labels, boxes, mask_input, multimask_output)
        masks: Masks
        if return_logits:
            masks = transforms.postprocess_logits(low_res_masks, *self._sizes)
        else:
            masks = self.full_size_masks(low_res_masks)
        return self.model.tap("masks", masks), iou_predictions, low_res_masks

    def predict_low_res(
        self,
        point_coords: Float[Array, "B N 2"] | None,
        point_labels: Int[Array, "B N"] | None,
        boxes: Float[Array, "B 4"] | None = None,
        mask_input: Float[Array, "#B 1 L L"] | None = None,
        multimask_output: bool = True,
    ) -> tuple[Float[Array, "B M L L"], Float[Array, "B M"]]:
        """low_res_masks and iou_predictions of `predict_batch`: what the model says, before any mask at the picture's size."""
        model, features = self.model, self.get_image_embedding()
        if (point_coords is None) != (point_labels is None):
            raise InputError("point_coords and point_labels go together: give a label (1 or 0) for each point")
        points = None if point_coords is None or point_labels is None else (point_coords, point_labels)
        sparse, dense = model.encode_prompts(points, boxes, mask_input)
        low_res_masks, iou_predictions = model.decode_masks(features, model.image_pe, sparse, dense, multimask_output)
        return model.tap("low_res_masks", low_res_masks), model.tap("iou_predictions", iou_predictions)

    def full_size_masks(self, low_res_masks: Float[Array, "B M L L"]) -> Bool[Array, "B M H W"]:
        """The masks of these logits at the picture's size. Raises NotReady before `set_image`, InputError for another shape."""
        self._check_logits(low_res_masks)
        return self._fastest(transforms.postprocess_masks)(low_res_masks, *self._sizes, self.model.mask_threshold)

    def stability_scores(self, low_res_masks: Float[Array, "B M L L"], offset: float = 1.0) -> Float[Array, "B M"]:
        """How little each mask, at the picture's size, changes when the threshold does (`transforms.stability_scores`).

        Raises NotReady before `set_image`, InputError for another shape.
        """
        self._check_logits(low_res_masks)
        return self._fastest(transforms.stability_scores)(low_res_masks, *self._sizes, self.model.mask_threshold, offset)

    def _check_logits(self, low_res_masks: Array) -> None:
        self.get_image_embedding()
        shape, side = np.shape(low_res_masks), self.model.config.mask_size
        if len(shape) != 4 or shape[2:] != (side, side):
            raise InputError(
                f"low_res_masks has shape {shape}; it has to be (B, M, {side}, {side}): of one predict, logits[None]"
            )

    @property
    def _sizes(self) -> tuple[Size, Size, int]:
        return self.input_size, self.original_size, self.model.config.image_size

    def _fastest(self, definition: F) -> F:
        """The backend's own way to do what a function of `transforms` does, or that function; float64 has the definition."""
        found = self.model.scope.ops.replacement(qualified_name(definition)) if self.model.dtype == np.float32 else None
        return cast(F, found or definition)

    def _set_resized(self, resized: UInt8[Array, "h w 3"], original_size: Size) -> None:
        self.reset_image()
        self.model.tap("transforms.resized", resized)
        input_image = self._fastest(transforms.normalize_and_pad)(resized, self.model.config.image_size)
        features = self.model.encode_image(self.model.tap("input_image", input_image))
        self._keep(features, original_size, (resized.shape[0], resized.shape[1]))

    def _keep(self, features: Float[Array, "1 D E E"], original_size: Size, input_size: Size) -> None:
        size = (int(original_size[0]), int(original_size[1]))  # NumPy's numbers and lists are no keys
        self.features, self.original_size, self.input_size, self.is_image_set = features, size, input_size, True

    def _points(self, coords: Any, labels: Any) -> tuple[Float[Array, "1 N 2"] | None, Int[Array, "1 N"] | None]:
        """Points of one prompt, checked, in the input frame."""
        if coords is None and labels is None:
            return None, None
        if coords is None or labels is None:
            raise InputError("point_coords and point_labels go together: give a label (1 or 0) for each point")
        coords = finite("point_coords", coords)
        if coords.ndim != 2 or coords.shape[1] != 2:
            raise InputError(f"point_coords has shape {coords.shape}; it has to be (N, 2). Many prompts at once: predict_batch")
        labels = point_labels(labels, coords.shape[:1])[None]
        coords = transforms.apply_coords(coords, self.original_size, self.model.config.image_size)[None]
        return self.model.tap("transforms.point_coords", coords), labels

    def _box(self, box: Any) -> Float[Array, "1 4"]:
        """The box of one prompt, checked, in the input frame."""
        box = finite("box", box)
        if box.size != 4:
            raise InputError(f"box has shape {box.shape}; it has to be (4,): x0, y0, x1, y1. Many boxes at once: predict_batch")
        check_corners("box", box.reshape(1, 4))  # here too, because the message has to have the caller's own numbers
        boxes = transforms.apply_boxes(box.reshape(1, 4), self.original_size, self.model.config.image_size)
        return self.model.tap("transforms.boxes", boxes)

    def _mask(self, mask_input: Any) -> Float[Array, "1 1 L L"]:
        """The mask prompt of one prompt, checked."""
        mask, side = finite("mask_input", mask_input), self.model.config.mask_size
        if mask.shape != (1, side, side):
            raise InputError(
                f"mask_input has shape {mask.shape}; it has to be {(1, side, side)}: low_res_masks[k:k+1] of an earlier predict"
            )
        return mask[None]


def trace(model: MobileSam, image: UInt8[Array, "H W 3"], *, stages: str | Iterable[str] = "*", **predict_kwargs: Any) -> Trace:
    """Run one prediction and keep its intermediate results.

    Args:
        model: the model.
        image: RGB, uint8.
        stages: glob patterns of the stages to keep, a list or separated by commas. All of MobileSAM's are 3 GB in float32.
        predict_kwargs: those of `SamPredictor.predict`.

    Raises what `set_image` and `predict` raise.
    """
    result = Trace(stages)
    predictor = SamPredictor(model.traced(result))
    predictor.set_image(image)
    predictor.predict(**predict_kwargs)
    result.metadata.update(_metadata(model, image, predict_kwargs))
    return result


def _metadata(model: MobileSam, image: Array, prompts: dict[str, Any]) -> dict[str, str]:
    from refsam import __version__

    return {
        "refsam_version": __version__,
        "numpy_version": np.__version__,
        "python_version": platform.python_version(),
        "dtype": str(model.dtype),
        "config": model.config.to_json(),
        "weights_sha256": model.weights_sha256,
        "image_sha256": pixels_sha256(image),
        "original_size": json.dumps(image.shape[:2]),
        "prompts": json.dumps(described(prompts)),
    }


def described(prompts: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `predict` as a trace's metadata have them."""
    return {name: _described(name, value) for name, value in prompts.items()}


def _described(name: str, value: Any) -> Any:
    """A prompt for JSON: a mask by its shape and hash, the others whole."""
    if name != "mask_input" or value is None:
        return np.asarray(value).tolist()
    array = np.ascontiguousarray(value)
    return {"shape": array.shape, "float32_sha256": hashlib.sha256(array.astype("<f4").data).hexdigest()}
