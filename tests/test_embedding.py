"""An embedding and the picture that it is said to be of; files of embeddings are tests/cli/test_embed.py's."""

import numpy as np
import pytest
from predicting import IMAGE, SIZE, ready

from refsam import InputError, SamPredictor
from refsam.embedding import Embedding

pytestmark = pytest.mark.core


def test_an_embedding_is_as_good_as_its_picture() -> None:
    other = SamPredictor(ready().model)
    Embedding.of(ready(), IMAGE).give_to(other, IMAGE)
    np.testing.assert_array_equal(other.get_image_embedding(), ready().get_image_embedding())
    assert other.original_size == SIZE


def test_another_pictures_embedding_is_refused() -> None:
    with pytest.raises(InputError, match="image is 77 x 40, but the predictor holds one of 77 x 48; set it first"):
        Embedding.of(ready(), IMAGE[:40])
    with pytest.raises(InputError, match="the embedding is of another picture"):
        Embedding.of(ready(), IMAGE).give_to(SamPredictor(ready().model), 255 - IMAGE)


@pytest.mark.usefixtures("unchecked")
def test_what_is_no_picture_is_said_to_be_none() -> None:
    embedding = Embedding.of(ready(), IMAGE)
    for use in (lambda image: Embedding.of(ready(), image), lambda image: embedding.give_to(ready(), image)):
        with pytest.raises(InputError, match="image is a list; a NumPy array"):
            use(IMAGE.tolist())
