"""Inputs of packages whose names and order are another's."""

from pathlib import Path

import numpy as np
import pytest
from coreml.packages import CONFIG, case

from refsam.coreml import load
from refsam.coreml.app_parts import PackageParts
from refsam.coreml.export import INTERFACES
from refsam.coreml.roles import ROLES, part_of, roles_of
from refsam.coreml.types import Feature
from refsam.errors import InputError

MAP = (1, 32, 4, 4)
TOKENS = (1, 2, 32)


def features(*named: tuple[str, tuple[int, ...]]) -> list[Feature]:
    return [Feature(name, "fp32", shape) for name, shape in named]


def decoder(*names: str) -> list[Feature]:
    return features(*((name.rstrip("*"), TOKENS if name.endswith("*") else MAP) for name in names))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("x_1", "x_2", "x_3*", "x_4"), ("x_1", "x_2", "x_3", "x_4")),
        (("x_1", "x_2", "x_3", "x_4*"), ("x_1", "x_2", "x_4", "x_3")),
        (("image_pe", "image_embeddings", "dense", "sparse*"), ("image_embeddings", "image_pe", "sparse", "dense")),
        (("imageEmbeddings", "densePromptEmbeddings", "sparsePromptEmbeddings*", "imagePositionalEncoding"),
         ("imageEmbeddings", "imagePositionalEncoding", "sparsePromptEmbeddings", "densePromptEmbeddings")),
        (("point_embeddings*", "dense_pe", "dense_embeddings", "features"),
         ("features", "dense_pe", "point_embeddings", "dense_embeddings")),
        (("type", "open", "points*", "d"), ("type", "open", "points", "d")),  # no word "pe" in them
    ],
)  # fmt: skip
def test_axes_decide_then_words_then_the_order(names: tuple[str, ...], expected: tuple[str, ...]) -> None:
    assert roles_of("mask_decoder", decoder(*names)) == dict(zip(ROLES["mask_decoder"], expected, strict=True))


@pytest.mark.parametrize("naming", INTERFACES)
def test_known_names_are_in_order(naming: str) -> None:
    for part, interface in INTERFACES[naming].items():  # type: ignore[index]
        given = features(*((name, ()) for name in interface.inputs))
        assert part_of("a", given) == part
        assert tuple(roles_of(part, given).values()) == interface.inputs


def test_points_have_one_axis_more_than_labels() -> None:
    given = features(("a", (1, 5)), ("b", (1, 5, 2)))
    assert roles_of("prompt_encoder", given) == {"points": "b", "labels": "a"}


def test_another_count_is_no_part() -> None:
    with pytest.raises(InputError, match=r"p has the inputs \['a', 'b', 'c'\]; an encoder has one"):
        part_of("p", features(("a", ()), ("b", ()), ("c", ())))


class Turned:
    """A program with the same inputs the other way round."""

    def __init__(self, path: Path) -> None:
        self.program = load(path)
        self.inputs, self.outputs = self.program.inputs[::-1], self.program.outputs

    def run(self, inputs: dict[str, np.ndarray], precision: str | None = None) -> dict[str, np.ndarray]:
        return self.program.run(inputs, precision)


def test_inputs_in_another_order_are_given_what_they_are_for(packages: Path) -> None:
    """image_embeddings and image_pe have the same shape: exchanged, nothing fails."""
    stems = {"image_encoder": "ImageEncoder", "prompt_encoder": "PromptEncoder", "mask_decoder": "MaskDecoder"}
    programs = {part: Turned(packages / f"{stem}.iOS15.fp32.mlpackage") for part, stem in stems.items()}
    given = case("MaskDecoder", 1)
    assert CONFIG.image_size == PackageParts(programs, given["image_pe"]).image_size
    masks, _ = PackageParts(programs, given["image_pe"]).decode(given["image_embeddings"], given["sparse"], given["dense"])
    np.testing.assert_allclose(masks, case("MaskDecoder", 1, "torch64")["masks"], atol=1e-3)
