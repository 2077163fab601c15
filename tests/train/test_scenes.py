"""Procedural scenes: the same by seed, and a tree of leaves, objects and wholes over every pixel."""

from itertools import pairwise

import numpy as np
import pytest

from weights.train.painter import BACKGROUND, LEAST_VISIBLE, SCRAP, THING
from weights.train.prompts import VOID
from weights.train.scenes import HELD_OUT_SEEDS, TRAINING_SEEDS, Scene, scene

SEEDS = (3, 8, 21)


@pytest.fixture(scope="module", params=SEEDS)
def painted(request: pytest.FixtureRequest) -> Scene:
    return scene(request.param)


def test_the_same_seed_gives_the_same_scene(painted: Scene, request: pytest.FixtureRequest) -> None:
    again = scene(request.node.callspec.params["painted"])
    for one, other in zip(painted, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_another_seed_gives_another_scene() -> None:
    pictures = [scene(seed).image for seed in SEEDS]
    assert all((a != b).mean() > 0.5 for a, b in pairwise(pictures))


def test_photographs_change_textures_only_where_they_are_given() -> None:
    photo = np.full((90, 90, 3), 7, np.uint8)
    assert (scene(SEEDS[0], [photo]).image != scene(SEEDS[0]).image).any()


def test_parts_lie_in_objects_and_objects_in_wholes(painted: Scene) -> None:
    present = np.unique(painted.leaves)
    assert present.max() < VOID
    for leaf in present:
        part, thing, whole = painted.levels(int(leaf))
        assert part.any()
        assert not (part & ~thing).any()
        assert not (thing & ~whole).any()


def test_every_pixel_has_one_object_and_a_kind(painted: Scene) -> None:
    numbers = np.unique(painted.tree[np.unique(painted.leaves), 0])
    assert sum(painted.mask_of(0, int(number)).astype(int) for number in numbers).tolist() == np.ones((256, 256)).tolist()
    assert np.isin(painted.tree[np.unique(painted.leaves), 2], (BACKGROUND, THING, SCRAP)).all()


def test_what_is_hidden_for_the_most_part_is_not_asked_for() -> None:
    """A disc behind a square that leaves a fifth of it to be seen."""
    from weights.train.painter import Painter

    p = Painter(np.random.default_rng(0), ())
    p.rows.append((*p.new_object(), BACKGROUND))
    for width in (100, 80):
        p.paint(np.ones((100, width), np.float32), (width / 2 + 50, 100), *p.new_object(), np.full((100, width, 3), 2.0 * width))
    p.mark_scraps()
    assert [kind for *_, kind in p.rows] == [BACKGROUND, SCRAP, THING]
    assert LEAST_VISIBLE > 0.2


def test_seeds_of_training_and_evaluation_are_apart() -> None:
    assert HELD_OUT_SEEDS < TRAINING_SEEDS
