"""Upstream's torch code (tests/peer.py), eager or compiled."""

from time import perf_counter
from typing import Any

import numpy as np

from benchmarks import inputs
from benchmarks.contenders.common import Run, Timed, batched, everything, split
from benchmarks.work import encoder_stages


class Torch:
    """All rows. Its setting `compile` compiles encoder and decoder."""

    def __init__(self, settings: dict[str, Any]) -> None:
        import peer  # tests/peer.py
        import torch

        from refsam import checkpoint

        torch.set_num_threads(settings["threads"])
        torch.set_grad_enabled(False)
        self.settings = settings
        self.notes: dict[str, Any] = {}
        opened = checkpoint.load(settings["weights"])
        self.config, self.sam = opened.config, peer.upstream(opened.config, opened.tensors)
        self.side = self.config.image_size
        if settings.get("compile"):
            self.sam.image_encoder = torch.compile(self.sam.image_encoder)
            self.sam.mask_decoder = torch.compile(self.sam.mask_decoder)

    def versions(self) -> dict[str, str]:
        """Of torch."""
        import torch

        return {"torch": torch.__version__}

    def encode(self, input_image: np.ndarray) -> Any:
        """The image embedding."""
        import torch

        return self.sam.image_encoder(torch.from_numpy(input_image))

    def decode(self, features: Any, coords: np.ndarray, labels: np.ndarray) -> Any:
        """Mask logits of a batch of points."""
        import torch

        sam = self.sam
        sparse, dense = sam.prompt_encoder((torch.from_numpy(coords), torch.from_numpy(labels)), boxes=None, masks=None)
        return sam.mask_decoder(
            image_embeddings=features, image_pe=sam.prompt_encoder.get_dense_pe(), sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense, multimask_output=True,
        )[0]  # fmt: skip

    def predictor(self) -> Any:
        """Upstream's SamPredictor."""
        from mobile_sam import SamPredictor

        return SamPredictor(self.sam)

    def photo(self, path: str) -> np.ndarray:
        """From a JPEG to the masks of a click in its middle."""
        from PIL import Image

        image, predictor = np.asarray(Image.open(path).convert("RGB")), self.predictor()
        predictor.set_image(image)
        return predictor.predict(np.array([[image.shape[1] / 2, image.shape[0] / 2]]), np.array([1]))[0]

    def encoder(self) -> Run:
        """The image encoder."""
        input_image = inputs.input_image(self.side)
        return lambda: self.encode(input_image).numpy()

    def decoder(self, count: str) -> Run:
        """Prompt encoder and mask decoder."""
        features = self.encode(inputs.input_image(self.side))
        return batched(lambda *prompts: self.decode(features, *prompts).numpy(), int(count), self.side, self.notes)

    def stages(self) -> Run:
        """The image encoder, with the time at which each block was done."""
        input_image, ends = inputs.input_image(self.side), dict[str, float]()
        for name in encoder_stages(self.config):
            self.sam.get_submodule(name).register_forward_hook(lambda *_, name=name: ends.update({name: perf_counter()}))

        def run() -> Timed:
            ends.clear()
            begin = perf_counter()
            self.encode(input_image)
            return split(begin, ends)

        return run

    def set_image(self, size: str) -> Run:
        """SamPredictor.set_image."""
        predictor, image = self.predictor(), inputs.picture(inputs.PICTURES[size])
        return lambda: predictor.set_image(image)

    def predict(self, size: str) -> Run:
        """SamPredictor.predict, three boolean masks of the picture's size."""
        predictor, (height, width) = self.predictor(), inputs.PICTURES[size]
        predictor.set_image(inputs.picture((height, width)))
        return lambda: predictor.predict(np.array([[width / 2, height / 2]]), np.array([1]))[0]

    def ops(self, name: str) -> Run:
        """One operation, on a shared case of the tests."""
        import torch
        from ops.cases import CASES  # tests/ops/cases.py

        case = next(case for case in CASES if case.name == name)
        arguments = [torch.from_numpy(x) if isinstance(x, np.ndarray) else x for x in case.seeded(np.float32)]
        op = getattr(TorchOps, case.op)
        return lambda: op(*arguments).numpy()

    def everything(self) -> Run:
        """SamAutomaticMaskGenerator.generate with upstream's thresholds."""
        from mobile_sam import SamAutomaticMaskGenerator

        points = self.settings["points"]
        return everything(SamAutomaticMaskGenerator(self.sam, points_per_side=points), points, self.notes)


class TorchOps:
    """The operations of `refsam.ops.Ops` as upstream's modules call them."""

    @staticmethod
    def linear(*arguments: Any) -> Any:
        from torch.nn.functional import linear

        return linear(*arguments)

    @staticmethod
    def conv2d(x: Any, weight: Any, bias: Any, stride: int, padding: int) -> Any:
        from torch.nn.functional import conv2d

        return conv2d(x, weight, bias, stride, padding)

    @staticmethod
    def depthwise_conv2d(x: Any, weight: Any, stride: int) -> Any:
        from torch.nn.functional import conv2d

        return conv2d(x, weight, None, stride, padding=1, groups=len(weight))

    @staticmethod
    def conv_transpose2d(x: Any, weight: Any, bias: Any) -> Any:
        from torch.nn.functional import conv_transpose2d

        return conv_transpose2d(x, weight, bias, stride=2)

    @staticmethod
    def layer_norm(x: Any, weight: Any, bias: Any) -> Any:
        from torch.nn.functional import layer_norm

        return layer_norm(x, weight.shape, weight, bias)

    @staticmethod
    def layer_norm_2d(x: Any, weight: Any, bias: Any) -> Any:
        mean = x.mean(1, keepdim=True)
        variance = (x - mean).pow(2).mean(1, keepdim=True)
        return weight[:, None, None] * ((x - mean) / (variance + 1e-6).sqrt()) + bias[:, None, None]

    @staticmethod
    def batch_norm(*arguments: Any) -> Any:
        from torch.nn.functional import batch_norm

        return batch_norm(*arguments)

    @staticmethod
    def gelu(x: Any) -> Any:
        from torch.nn.functional import gelu

        return gelu(x)

    @staticmethod
    def relu(x: Any) -> Any:
        return x.relu()

    @staticmethod
    def attention(q: Any, k: Any, v: Any, bias: Any = None) -> Any:
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
        return (scores if bias is None else scores + bias).softmax(-1) @ v
