"""The stand-in weights are worth testing with: the model on them reacts to its input, and rounding stays small."""

import numpy as np
import pytest
from golden.cases import picture
from standin import TINY, standin_weights, weights_sha256

from refsam import MobileSam, transforms
from refsam.config import MOBILE_SAM
from refsam.parameters import parameter_shapes

pytestmark = pytest.mark.core


def embedding(image: np.ndarray, dtype: str = "float32") -> np.ndarray:
    return MobileSam(standin_weights(TINY), TINY, dtype=dtype).encode_image(transforms.preprocess(image, TINY.image_size))


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def test_two_pictures_give_different_embeddings() -> None:
    one, other = picture((48, 77)), picture((48, 77), seed=1)
    noise = np.random.RandomState(0).randint(0, 256, (48, 77, 3)).astype(np.uint8)
    for image in (other, noise):
        assert distance(embedding(image), embedding(one)) > 0.5


def test_a_small_change_shows() -> None:
    image = picture((48, 77))
    changed = image.copy()
    changed[20:28, 30:40] = 255 - changed[20:28, 30:40]
    assert distance(embedding(changed), embedding(image)) > 0.01


def test_float32_is_far_from_both_zero_error_and_chaos() -> None:
    error = distance(embedding(picture((48, 77))).astype(np.float64), embedding(picture((48, 77)), "float64"))
    # torch's own is 1e-6 on weights of this kind; weights that made it 1e-3 would hide what is to be found.
    assert 1e-8 < error < 1e-5


def test_the_weights_of_a_seed_are_the_same_and_those_of_another_are_not() -> None:
    first = weights_sha256(standin_weights(TINY))
    assert first == weights_sha256(standin_weights(TINY))
    assert first != weights_sha256(standin_weights(TINY, seed=1))
    swapped = dict(reversed(standin_weights(TINY).items()))
    assert first != weights_sha256(swapped)


def test_every_tensor_is_there_finite_and_float32() -> None:
    weights = standin_weights(TINY)
    assert {name: tensor.shape for name, tensor in weights.items()} == parameter_shapes(TINY)
    for name, tensor in weights.items():
        assert tensor.dtype == np.float32
        assert np.isfinite(tensor).all()
        assert np.any(tensor != 0), name
        assert not name.endswith("running_var") or tensor.min() > 0.4


def test_the_tiny_model_has_every_feature() -> None:
    # Windows that divide the grid and windows that do not; a layer of several blocks; every stride.
    sides = [TINY.image_size // 8, TINY.image_size // 16, TINY.image_size // 16]
    remainders = [side % window for side, window in zip(sides, TINY.window_sizes[1:], strict=True)]
    assert 0 in remainders
    assert any(remainders)
    assert max(TINY.depths) > 1
    assert [TINY.merge_stride(n) for n in range(3)] == [MOBILE_SAM.merge_stride(n) for n in range(3)]
