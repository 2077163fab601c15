"""The list of tensors: MobileSAM's as upstream has them, and how a config changes it."""

import dataclasses
import math

import numpy as np
import pytest
from standin import TINY

from refsam.config import MOBILE_SAM
from refsam.parameters import is_unused, parameter_shapes

pytestmark = pytest.mark.core

SHAPES = parameter_shapes(MOBILE_SAM)


def test_the_tensors_fill_upstreams_file() -> None:
    # mobile_sam.pt has 40,728,226 bytes: these weights, TinyViT's classifier, and less than 1 % of names and padding.
    classifier = 320 * 1000 + 1000 + 2 * 320
    total = sum(math.prod(shape) for shape in SHAPES.values())
    assert 0.99 < 4 * (total + classifier) / 40_728_226 < 1


def test_upstreams_leftovers_are_known_and_nothing_else() -> None:
    for name in (
        "image_encoder.norm_head.weight",
        "image_encoder.head.bias",
        "image_encoder.patch_embed.seq.0.bn.num_batches_tracked",
        "image_encoder.layers.1.blocks.0.attn.attention_bias_idxs",
    ):
        assert is_unused(name)
    assert not any(is_unused(name) for name in SHAPES)


def test_depths_and_counts_add_tensors() -> None:
    deeper = dataclasses.replace(TINY, depths=(2, 1, 2, 1), decoder_depth=3, num_multimask_outputs=5, iou_head_depth=1)
    added = set(parameter_shapes(deeper)) - set(parameter_shapes(TINY))
    prefixes = ("image_encoder.layers.0.blocks.1.", "mask_decoder.transformer.layers.2.",
                "mask_decoder.output_hypernetworks_mlps.4.", "mask_decoder.output_hypernetworks_mlps.5.")  # fmt: skip
    assert added
    assert all(name.startswith(prefixes) for name in added)
    assert parameter_shapes(deeper)["mask_decoder.iou_prediction_head.layers.0.weight"] == (6, 32)


def test_every_tensor_is_read_by_the_model() -> None:
    from standin import standin_weights

    from refsam import MobileSam

    model = MobileSam(standin_weights(TINY), TINY)
    read: set[str] = set()

    class Noting(dict):  # type: ignore[type-arg]
        def get(self, name, default=None):  # type: ignore[no-untyped-def]
            read.add(name)
            return super().get(name, default)

    model.scope = dataclasses.replace(model.scope, weights=Noting(model.scope.weights))
    features = model.encode_image(np.zeros((1, 3, 64, 64), np.float32))
    points = (np.array([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]]), np.array([[1, 0, -1]]))
    sparse, dense = model.encode_prompts(points, np.array([[1.0, 2.0, 3.0, 4.0]]), np.zeros((1, 1, 16, 16)))
    model.encode_prompts()
    model.decode_masks(features, model.image_pe, sparse, dense)
    assert set(parameter_shapes(TINY)) <= read
    biases_that_are_not_there = read - set(parameter_shapes(TINY))
    assert all(name.endswith((".c.bias", "neck.0.bias", "neck.2.bias")) for name in biases_that_are_not_there)
