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

# Facts of upstream's mobile_sam.pt.
SOME = {
    "image_encoder.patch_embed.seq.0.c.weight": (32, 3, 3, 3),
    "image_encoder.layers.0.blocks.1.conv2.c.weight": (256, 1, 3, 3),
    "image_encoder.layers.1.blocks.0.attn.attention_biases": (4, 49),
    "image_encoder.layers.1.blocks.1.attn.qkv.weight": (384, 128),
    "image_encoder.layers.2.blocks.5.attn.attention_biases": (5, 196),
    "image_encoder.layers.2.downsample.conv3.bn.running_var": (320,),
    "image_encoder.layers.3.blocks.1.local_conv.c.weight": (320, 1, 3, 3),
    "image_encoder.neck.2.weight": (256, 256, 3, 3),
    "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix": (2, 128),
    "prompt_encoder.point_embeddings.3.weight": (1, 256),
    "prompt_encoder.mask_downscaling.3.weight": (16, 4, 2, 2),
    "mask_decoder.transformer.layers.1.cross_attn_image_to_token.v_proj.weight": (128, 256),
    "mask_decoder.transformer.layers.0.mlp.lin1.bias": (2048,),
    "mask_decoder.output_upscaling.3.weight": (64, 32, 2, 2),
    "mask_decoder.output_hypernetworks_mlps.3.layers.2.weight": (32, 256),
    "mask_decoder.iou_prediction_head.layers.2.weight": (4, 256),
}


@pytest.mark.parametrize("name", SOME)
def test_names_and_shapes_are_upstreams(name: str) -> None:
    assert SHAPES[name] == SOME[name]


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
