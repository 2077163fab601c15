"""Other models and other files are told apart, so that the error says what a person has."""

import numpy as np
import pytest
import safetensors.numpy

from refsam import checkpoint
from refsam.config import MOBILE_SAM
from refsam.errors import CheckpointError
from refsam.formats import foreign_models
from refsam.parameters import parameter_shapes


def vit(width):
    return {"image_encoder.blocks.0.attn.rel_pos_h": (27, 64), "image_encoder.patch_embed.proj.weight": (width, 3, 1, 1)}


def decoder(**shapes):
    """SAM's decoder with another encoder; `__` in a name stands for a point."""
    return {"mask_decoder.iou_token.weight": (1, 256), **{name.replace("__", "."): shape for name, shape in shapes.items()}}


FOREIGN = {
    "ViT-B": (vit(768), "original SAM with ViT-B"),
    "ViT-L": (vit(1024), "original SAM with ViT-L"),
    "ViT-H": (vit(1280), "original SAM with ViT-H"),
    "ViT of another width": (vit(384), "width 384"),
    "SAM 2": ({"image_encoder.trunk.blocks.0.norm1.weight": (96,), "sam_mask_decoder.iou_token.weight": (1, 256)}, "SAM 2,"),
    "SAM in transformers": (decoder(vision_encoder__layers__0__attn__qkv__weight=(9, 3)), "SAM in transformers' names"),
    "HQ-SAM": (decoder(mask_decoder__hf_token__weight=(1, 256)), "HQ-SAM"),
    "EdgeSAM": (decoder(image_encoder__features__0__0__c__weight=(24, 3, 3, 3)), "EdgeSAM"),
    "EfficientSAM": (decoder(image_encoder__blocks__0__attn__qkv__weight=(9, 3)), "EfficientSAM"),
    "EfficientViT-SAM": (decoder(image_encoder__backbone__stages__0__x=(1,)), "EfficientViT-SAM"),
    "TinyViT": ({"patch_embed.seq.0.c.weight": (32, 3, 3, 3), "layers.0.blocks.0.conv1.c.weight": (1,)}, "TinyViT alone"),
    "TinyViT of timm": ({"patch_embed.conv1.conv.weight": (32, 3, 3, 3), "stages.0.blocks.0.x": (1,)}, "in timm's names"),
    "FastSAM": ({"model.0.conv.weight": (64, 3, 3, 3)}, "FastSAM"),
    "a language model": ({"transformer.wte.weight": (5, 3)}, "not a MobileSAM checkpoint; it holds transformer.wte.weight"),
    "nothing": ({}, "no tensors at all"),
}


@pytest.mark.parametrize(("shapes", "message"), FOREIGN.values(), ids=FOREIGN)
def test_other_models_are_recognised(place, shapes, message):
    arrays = {name: np.zeros(shape, "f4") for name, shape in shapes.items()}
    with pytest.raises(CheckpointError, match=message):
        checkpoint.read(place(safetensors.numpy.save(arrays)))


def test_mobile_sam_itself_is_taken_for_no_other_model():
    assert foreign_models.recognise(parameter_shapes(MOBILE_SAM)) is None


HEADS = {
    "empty": (b"", "empty"),
    "web page": (b"\n<!DOCTYPE html><html>", "web page"),
    "git-lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:6d\n", "git-lfs pointer"),
    "json": (b'{"message": "Not Found"}', "JSON"),
    "gzip": (b"\x1f\x8b\x08\0", "gzip"),
    "numpy": (b"\x93NUMPY\x01\0", "NumPy array"),
    "pickle": (b"\x80\x04\x95", "never run"),
    "onnx": (b"\x08\x07\x12\x07pytorch", "ONNX"),
    "text": (b"hello", "no known format"),
    "short": (b"\x10", "no known format"),
}


@pytest.mark.parametrize(("raw", "message"), HEADS.values(), ids=HEADS)
def test_what_is_no_weights_file_is_named(place, raw, message):
    with pytest.raises(CheckpointError, match=message):
        checkpoint.read(place(raw))
