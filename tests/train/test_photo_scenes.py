"""Training photographs: their outlined objects as scenes, and pasted in front of others."""

import json
from pathlib import Path

import numpy as np
import pytest

from weights.train import photo_scenes as photo_scenes_module
from weights.train.eval_photos import FOLDER as HELD_OUT
from weights.train.eval_photos import Photo
from weights.train.painter import BACKGROUND, THING
from weights.train.photo_scenes import LEAST_REGION, cutouts, join_small, paste, photo_scene, photo_scenes, photo_view
from weights.train.photos import FOLDER, labelled_photos
from weights.train.prompts import VOID
from weights.train.scenes import Scene, scene


@pytest.fixture(scope="module")
def photos() -> list[Photo]:
    return labelled_photos()


@pytest.fixture(scope="module")
def swans(photos: list[Photo]) -> Photo:
    return next(photo for photo in photos if photo.name == "swans")


@pytest.fixture(scope="module")
def of_swans(swans: Photo) -> Scene:
    return photo_scene(swans)


def test_masks_fit_their_photographs(photos: list[Photo]) -> None:
    for photo in photos:
        assert photo.masks
        for mask in photo.masks.values():
            assert mask.shape == photo.image.shape[:2]
            assert 0.001 < mask.mean() < 0.8


def test_no_photograph_of_the_evaluation_is_trained_on(photos: list[Photo]) -> None:
    pictures = {path.read_bytes() for path in HELD_OUT.glob("*.jpg")}
    assert pictures
    assert not any(path.read_bytes() in pictures for path in FOLDER.glob("*.jpg"))


@pytest.mark.parametrize(("folder", "count"), [(FOLDER, 55), (HELD_OUT, 15)], ids=["training", "held out"])
def test_every_mask_has_its_recipe(folder: Path, count: int) -> None:
    files = {path.name: json.loads(path.read_text()) for path in (folder / "masks").glob("*.json")}
    recipes = {name.replace(".recipe", ""): files.pop(name) for name in sorted(files) if name.endswith(".recipe.json")}
    assert files.keys() == recipes.keys()
    assert len(files) >= count
    for name, made in files.items():
        assert [item["name"] for item in made["objects"]] == [item["name"] for item in recipes[name]]


def test_outlined_objects_are_the_things_of_the_scene(swans: Photo, of_swans: Scene) -> None:
    """All but pieces too small to be told apart."""
    assert of_swans.objects() == [1, 2]
    for number, mask in enumerate(swans.masks.values(), 1):
        np.testing.assert_array_equal(of_swans.mask_of(0, number), mask)
    assert set(np.unique(of_swans.tree[np.unique(of_swans.leaves), 2])) == {BACKGROUND, THING}


def test_small_pieces_join_the_largest_of_their_owner() -> None:
    leaves = np.zeros((40, 40), np.int64)
    leaves[:20, :20], leaves[20:, :20], leaves[:3, :3] = 1, 2, 3
    joined = join_small(leaves, np.array([0, 5, 5, 5]))
    assert 9 < LEAST_REGION <= 400
    assert np.unique(joined).tolist() == [0, 1, 2]
    assert (joined[:3, :3] == 2).all()


def test_a_view_is_padded_right_or_below(of_swans: Scene) -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        view = photo_view(rng, of_swans)
        assert view.image.shape == (256, 256, 3)
        rows, columns = (view.leaves != VOID).any(1), (view.leaves != VOID).any(0)
        assert (np.diff(rows.astype(int)) <= 0).all()
        assert (np.diff(columns.astype(int)) <= 0).all()


def test_what_is_pasted_is_in_front_and_asked_for(swans: Photo) -> None:
    before = scene(8)
    after = paste(np.random.default_rng(1), before, cutouts(swans))
    new = ~np.isin(after.tree[after.leaves, 0], before.tree[np.unique(before.leaves), 0])
    assert 0.002 < new.mean() < 0.9
    assert (after.tree[after.leaves[new], 2] == THING).all()
    np.testing.assert_array_equal(after.leaves[~new], before.leaves[~new])
    far = np.abs(after.image.astype(int) - before.image).max(-1) > 0
    assert (far & ~new).mean() < 0.05  # soft edges, no more


def window(photo: Photo) -> Photo:
    """A part of the photograph with some of its objects, so that its regions are found quickly."""
    y, x = np.argwhere(next(iter(photo.masks.values())))[0]
    place = slice(y, y + 100), slice(x, x + 100)
    return photo._replace(image=photo.image[place], masks={name: mask[place] for name, mask in photo.masks.items()})


def test_regions_are_kept_in_the_run_folder(swans: Photo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo = window(swans)
    first = photo_scenes([photo], tmp_path)
    monkeypatch.delattr(photo_scenes_module, "photo_scene")  # they are found once
    second = photo_scenes([photo], tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    assert len(second.cutouts) == 2
    np.testing.assert_array_equal(first.scenes[0].leaves, second.scenes[0].leaves)


def test_a_new_photograph_and_a_new_outline_have_their_own_regions(swans: Photo, tmp_path: Path) -> None:
    photo = window(swans)
    name, mask = next(iter(photo.masks.items()))
    moved = photo._replace(masks={**photo.masks, name: np.roll(mask, 7, axis=1)})
    photo_scenes([photo], tmp_path)
    for photos in ([photo, photo._replace(name="other")], [moved], [photo._replace(image=255 - photo.image)]):
        found = photo_scenes(photos, tmp_path)
        for scene_found, each in zip(found.scenes, photos, strict=True):
            np.testing.assert_array_equal(scene_found.leaves, photo_scene(each).leaves)
    assert len(list(tmp_path.iterdir())) == 4


def test_labels_of_a_view_stay_on_their_pixels() -> None:
    """A ramp of 6 grey levels a pixel, its two sides two leaves: what is darker than its middle is of the first."""
    ramp = np.clip(128 + 6 * (np.arange(700) - 301.5), 0, 255).astype(np.uint8)
    leaves = np.broadcast_to(np.where(ramp < 128, 1, 2).astype(np.uint8), (700, 700))
    s = Scene(np.broadcast_to(ramp[:, None], (700, 700, 3)), leaves, np.zeros((3, 3), np.uint8))
    for seed in range(6):
        view = photo_view(np.random.default_rng(seed), s)
        first, second = (view.image[..., 0][view.leaves == leaf] for leaf in (1, 2))
        assert first.max(initial=0) <= 128 <= second.min(initial=255)
