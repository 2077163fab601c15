"""A file as Hugging Face's tools write it: the whole state dict, {"format": "pt"}, no config, perhaps a wrapper's prefix."""

import functools
import json

import numpy as np
import pytest
import safetensors.numpy
from golden.cases import picture
from standin import TINY, standin_weights

from refsam import MobileSam, SamPredictor, checkpoint, load, resources
from refsam.config import MOBILE_SAM, Config
from refsam.parameters import is_unused, parameter_shapes


@functools.cache
def upstream_shapes() -> dict[str, tuple[int, ...]]:
    """Every tensor of upstream's file, those that nothing computes with among them."""
    listed = json.loads(resources.path("weights", "manifest.json").read_text("utf-8"))["mobile_sam"]["tensors"]
    return {name: tuple(shape) for name, shape in listed.items()}


def unused(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """What upstream saves without using it: counters and tables of indices are whole numbers."""
    whole = name.endswith(("num_batches_tracked", "attention_bias_idxs"))
    return np.full(shape, 7, "i8") if whole else np.full(shape, 0.5, "f4")


def state_dict(config: Config) -> dict[str, np.ndarray]:
    """Stand-in weights for `config` and whatever else upstream saves beside tensors of these names."""
    used = standin_weights(config)
    places = {name.rpartition(".")[0] for name in used}
    more = {
        name: unused(name, shape)
        for name, shape in upstream_shapes().items()
        if is_unused(name) and (name.rpartition(".")[0] in places or name.startswith("image_encoder.norm_head"))
    }
    more["image_encoder.head.weight"], more["image_encoder.head.bias"] = np.zeros((1000, 320), "f4"), np.zeros(1000, "f4")
    return {**used, **more}


PREFIXES = pytest.mark.parametrize("prefix", ["", "model."], ids=["plain", "prefixed"])


def written(path, config: Config, prefix: str) -> dict[str, np.ndarray]:
    """Write such a file; its tensors, without the prefix."""
    arrays = state_dict(config)
    safetensors.numpy.save_file({prefix + name: array for name, array in arrays.items()}, path, {"format": "pt"})
    return arrays


@PREFIXES
def test_mobilesam_s_own_shapes_are_mobilesam(tmp_path, prefix):
    arrays = written(tmp_path / "model.safetensors", MOBILE_SAM, prefix)
    names = set(arrays)
    assert {name for name in upstream_shapes() if is_unused(name)} <= names
    assert any(name.endswith("num_batches_tracked") for name in names)
    opened = checkpoint.load(tmp_path / "model.safetensors")
    assert opened.config == MOBILE_SAM
    assert list(opened.tensors) == list(parameter_shapes(MOBILE_SAM))
    for name, array in opened.tensors.items():
        np.testing.assert_array_equal(array, arrays[name])


@PREFIXES
def test_it_computes_what_the_same_tensors_with_a_config_compute(tmp_path, prefix):
    """Small in width. Image size and decoder heads leave no mark on shapes: they are MobileSAM's, 1024 pixels and 8."""
    arrays = written(tmp_path / "model.safetensors", TINY, prefix)
    model = load(tmp_path / "model.safetensors", backend="reference")
    assert (model.config.image_size, model.config.decoder_num_heads) == (MOBILE_SAM.image_size, MOBILE_SAM.decoder_num_heads)
    assert model.config.embed_dims == TINY.embed_dims
    expected = MobileSam({name: arrays[name] for name in parameter_shapes(TINY)}, model.config)
    found = []
    for each in (model, expected):
        predictor = SamPredictor(each)
        predictor.set_image(picture((48, 77)))
        found.append(predictor.predict([[30, 20]], [1]))
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    masks, _, low_res_masks = found[0]
    assert (masks.shape, low_res_masks.shape) == ((3, 48, 77), (3, 256, 256))
    assert np.ptp(low_res_masks) > 0
