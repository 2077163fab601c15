"""Training prompts: clicks in what they mean, boxes around it, targets that nest, whatever the augmentation."""

from unittest import mock

import cv2
import numpy as np
import pytest

from weights.train.painter import THING
from weights.train.prompts import (
    LEAST_SHARE,
    MEAN_COLOUR,
    TARGET_PIXEL,
    VOID,
    Prompts,
    augment,
    bounds,
    candidates,
    choose_leaf,
    group_labels,
    inner_point,
    jitter,
    pad_side,
    plain_view,
    prompts,
    sharpen,
    shrink,
)
from weights.train.scenes import Scene, scene

SIZE = 256


@pytest.fixture(scope="module")
def asked() -> list[Prompts]:
    rng = np.random.default_rng(5)
    return [prompts(rng, scene(seed), 6, size) for seed, size in ((3, SIZE), (8, 384), (21, 128))]


def test_a_click_lies_in_the_mask_of_its_level(asked: list[Prompts]) -> None:
    """Coverage of the target's pixel under the click: more than nothing, as those at an edge are partly covered."""
    for p in asked:
        for targets, level, (x, y) in zip(p.targets, p.level, p.point, strict=True):
            assert targets[level][int(y) // TARGET_PIXEL, int(x) // TARGET_PIXEL] > 0


def test_things_in_a_part_are_as_large_in_pixels_as_in_the_whole() -> None:
    """Discs all over a scene, enlarged for a picture of 448 pixels and for a part of 224 pixels of one."""
    y, x = np.mgrid[:SIZE, :SIZE] % 40
    leaves = np.where(np.hypot(x - 20, y - 20) < 12, 2, 1).astype(np.uint8)
    s = Scene(np.zeros((SIZE, SIZE, 3), np.uint8), leaves, scene(3).tree)

    def disc(seed: int, size: int, whole: int) -> int:
        view = augment(np.random.default_rng(seed), s, size, whole).leaves
        assert view.shape == (size, size)
        return int(cv2.connectedComponentsWithStats((view == 2).astype(np.uint8))[2][1:, cv2.CC_STAT_AREA].max())

    ratios = [disc(seed, 224, 448) / disc(seed, 448, 0) for seed in range(9)]
    assert np.median(ratios) == pytest.approx(1, abs=0.1)


def test_a_plain_view_is_the_scene_itself_or_a_square_of_it() -> None:
    s = scene(3)
    rng = np.random.default_rng(2)
    np.testing.assert_array_equal(plain_view(rng, s).image, s.image)
    whole, part = plain_view(rng, s, 512), plain_view(rng, s, 256, 512)
    np.testing.assert_array_equal(whole.image, cv2.resize(s.image, (512, 512), interpolation=cv2.INTER_LINEAR))
    np.testing.assert_array_equal(whole.leaves[::2, ::2], s.leaves)
    assert part.leaves.shape == (256, 256)
    squares = np.lib.stride_tricks.sliding_window_view(s.leaves, (128, 128))
    assert (squares == part.leaves[::2, ::2]).all((2, 3)).any()


def test_plain_prompts_have_exact_boxes() -> None:
    asked = prompts(np.random.default_rng(5), scene(3), 12, 512, plain=True)
    for targets, level, box in zip(asked.targets, asked.level, asked.box, strict=True):
        np.testing.assert_array_equal(bounds(targets[level] > 0) * TARGET_PIXEL, box)  # scenes are enlarged by as much


def test_parts_are_in_objects_and_objects_in_wholes(asked: list[Prompts]) -> None:
    for p in asked:
        part, thing, whole = np.moveaxis(p.targets.astype(int), 1, 0)
        assert (part <= thing).all()
        assert (thing <= whole).all()


def test_a_level_is_valid_where_it_differs_from_the_next(asked: list[Prompts]) -> None:
    for p in asked:
        assert p.valid[:, 1].all()
        assert p.valid[np.arange(len(p.level)), p.level].all()
        same_part = (p.targets[:, 0] == p.targets[:, 1]).all((1, 2))
        assert not (p.valid[:, 0] & same_part).any()


def test_boxes_are_in_the_picture_and_near_the_mask(asked: list[Prompts]) -> None:
    for p in asked:
        for targets, level, box in zip(p.targets, p.level, p.box, strict=True):
            tight = bounds(targets[level] > 0) * TARGET_PIXEL  # up to a pixel of the target wider than the mask
            size = np.tile(tight[2:] - tight[:2], 2)
            assert (np.abs(box - tight) <= 0.1 * size + TARGET_PIXEL).all()
            assert box.min() >= 0
            assert box.max() <= p.image.shape[0]


@pytest.fixture(scope="module")
def solid_ring_and_speck() -> Scene:
    """A square, the frame of a larger one, and a speck, on a ground: leaves 1, 2, 3 of objects 1, 2, 3."""
    leaves = np.zeros((SIZE, SIZE), np.uint8)
    leaves[20:60, 20:60] = 1
    leaves[100:180, 100:180] = 2
    leaves[110:170, 110:170] = 0
    leaves[200:212, 200:212] = 3
    tree = np.zeros((255, 3), np.uint8)
    tree[1:4] = [[n, n, THING] for n in (1, 2, 3)]
    return Scene(np.zeros((SIZE, SIZE, 3), np.uint8), leaves, tree)


def test_small_objects_are_not_asked_for(solid_ring_and_speck: Scene) -> None:
    asked = candidates(solid_ring_and_speck, LEAST_SHARE * SIZE**2)
    assert asked.things.tolist() == asked.objects.tolist() == [1, 2]
    assert candidates(solid_ring_and_speck, 144).objects.tolist() == [1, 2, 3]


def test_an_object_that_fills_little_of_its_box_is_asked_for_more_often(solid_ring_and_speck: Scene) -> None:
    asked = candidates(solid_ring_and_speck, LEAST_SHARE * SIZE**2)
    rng = np.random.default_rng(0)
    chosen = np.array([choose_leaf(rng, solid_ring_and_speck, asked) for _ in range(2000)])
    fill = (80**2 - 60**2) / 80**2
    wanted = (1.5 - fill) / (1.5 - fill + 0.5)  # of those two
    assert (chosen == 2).sum() / np.isin(chosen, [1, 2]).sum() == pytest.approx(wanted, abs=0.05)  # four standard deviations


def test_bounds_and_jitter() -> None:
    mask = np.zeros((20, 30), bool)
    mask[3:7, 10:25] = True
    box = bounds(mask)
    assert box.tolist() == [10, 3, 25, 7]
    moved = [jitter(np.random.default_rng(n), box, 256) for n in range(200)]
    assert 70 < sum((m != box).any() for m in moved) < 130  # every other one, within four standard deviations
    assert all((np.abs(m - box) <= 0.1 * np.array([15, 4, 15, 4]) + 1e-5).all() for m in moved)


def test_sharpening_steepens_an_edge_and_leaves_flat_ground_alone() -> None:
    image = np.full((20, 40, 3), 100, np.uint8)
    image[:, 19:21], image[:, 21:] = 125, 150
    sharp = sharpen(image, 1.5, 1.0).astype(int)
    assert (sharp[:, :12] == 100).all()
    assert (sharp[:, 28:] == 150).all()
    assert sharp[0, 21, 0] - sharp[0, 18, 0] > 55


def test_a_click_is_not_right_at_the_edge_of_a_disc() -> None:
    """At least 15 % of the greatest depth, which is the radius of 40: 6 pixels, less the chamfer metric's 5 %."""
    yy, xx = np.mgrid[:100, :100]
    distance = np.hypot(xx - 50, yy - 50)
    rng = np.random.default_rng(1)
    clicks = [inner_point(rng, distance < 40) for _ in range(300)]
    assert max(distance[y, x] for x, y in clicks) <= 40 - 0.15 * 40 * 0.95 + 1


def test_coverage_is_the_mean_of_four_pixels() -> None:
    mask = np.zeros((4, 4), bool)
    mask[0, :2] = True
    np.testing.assert_array_equal(shrink(mask), np.array([[round(255 / 2), 0], [0, 0]]))


def test_labels_stay_on_their_pixels_however_a_scene_is_enlarged() -> None:
    """A steep ramp, its halves two leaves: what is darker than its middle is of the first, to one grey level (1/16 pixel)."""
    ramp = np.clip(128 + 16 * (np.arange(SIZE) - 127.5), 0, 255).astype(np.uint8)
    leaves = np.broadcast_to(np.where(ramp < 128, 1, 2).astype(np.uint8), (SIZE, SIZE))
    s = Scene(np.broadcast_to(ramp[:, None], (SIZE, SIZE, 3)), leaves, scene(3).tree)
    for seed in range(12):
        with mock.patch("weights.train.prompts.recolour", lambda _, image: image):
            view = augment(np.random.default_rng(seed), s, 512)
        first, second = (view.image[..., 0][view.leaves == leaf] for leaf in (1, 2))
        assert first.max(initial=0) <= 128
        assert second.min(initial=255) >= 127


def test_padding_is_void_and_never_asked_for() -> None:
    s = scene(3)
    image, leaves = pad_side(np.random.default_rng(2), s.image, s.leaves)
    padded = leaves == VOID
    assert padded.any()
    assert (image[padded] == MEAN_COLOUR).all()
    p = prompts(np.random.default_rng(3), Scene(image, leaves, s.tree), 20)
    labels = group_labels(Scene(image, leaves, s.tree))
    assert (labels[:, labels[1] == VOID] == VOID).all()
    void = (p.groups[1] == VOID).repeat(4, 0).repeat(4, 1)
    assert not any(void[int(y), int(x)] for x, y in p.point)


def test_augmenting_keeps_every_leafs_colour_with_it() -> None:
    """A scene of two colours stays one of two colours, each where its leaf is, but for the blend along their edge."""
    leaves = np.zeros((SIZE, SIZE), np.uint8)
    leaves[:, 100:] = 1
    image = np.where(leaves[..., None] == 1, 200, 40).astype(np.uint8).repeat(3, 2)
    for seed in range(12):
        view = augment(np.random.default_rng(seed), Scene(image, leaves, scene(3).tree))
        means = [np.median(view.image[view.leaves == leaf], 0) for leaf in (0, 1) if (view.leaves == leaf).any()]
        spread = [np.abs(view.image[view.leaves == leaf] - m).max(-1) > 3 for leaf, m in enumerate(means) if len(means) == 2]
        assert all(s.mean() < 0.05 for s in spread)
