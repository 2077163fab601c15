"""Batches made ahead, and what becomes of a loader that fails. Needs torch."""

from pathlib import Path

import numpy as np
import pytest

from weights.train.scenes import scene

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore")]  # those of upstream's own imports


@pytest.fixture
def pool(tmp_path: Path):
    from weights.train.pool import ScenePool

    pool = ScenePool(tmp_path, capacity=4)
    for seed in (3, 8):
        pool.put(scene(seed))
    return pool


def open_loader(folder: Path, monkeypatch: pytest.MonkeyPatch, least: int = 2, plain: float = 0.0):
    from weights.train import loader
    from weights.train.photo_scenes import PhotoScenes

    monkeypatch.setattr(loader, "LEAST_SCENES", least)
    monkeypatch.setattr(loader, "PATIENCE", 0.2)
    monkeypatch.setattr(loader, "ScenePool", lambda folder: loader_pool(folder))
    return loader.Loader(folder, [1], [loader.Kind(2, 3, 256), loader.Kind(3, 2, 128)], 256, PhotoScenes([], []), plain)


def loader_pool(folder: Path):
    from weights.train.pool import ScenePool

    return ScenePool(folder, capacity=4)


def test_a_ring_keeps_the_newest_and_survives_a_restart(pool, tmp_path) -> None:
    again = loader_pool(tmp_path)
    assert again.count[0] == 2
    for seed in (21, 22, 23):
        again.put(scene(seed))
    assert again.count[0] == 5
    np.testing.assert_array_equal(again.images[0], scene(23).image)
    drawn = {again.draw(np.random.default_rng(n)).image.tobytes() for n in range(30)}
    assert drawn == {scene(seed).image.tobytes() for seed in (8, 21, 22, 23)}


def test_a_batch_has_the_prompts_of_all_images_in_one_row(pool, tmp_path, monkeypatch) -> None:
    loader = open_loader(tmp_path, monkeypatch)
    batch, other, third = (loader.next() for _ in range(3))
    shapes = {name: tuple(value.shape) for name, value in batch.items()}
    assert shapes["image"] == (2, 256, 256, 3)
    assert shapes["groups"] == (2, 2, 128, 128)
    assert shapes["targets"] == (6, 3, 128, 128)
    assert shapes["point"] == (6, 2)
    assert other["image"].shape == (3, 128, 128, 3)  # kinds take turns
    assert other["point"].shape == (6, 2)
    assert third["image"].shape == (2, 256, 256, 3)
    assert 0 <= float(batch["targets"].min()) <= float(batch["targets"].max()) <= 1


def test_plain_pictures_are_those_of_the_other_pool_as_they_are(pool, tmp_path, monkeypatch) -> None:
    from weights.train.loader import plain_folder

    plain = loader_pool(plain_folder(tmp_path))
    for seed in (40, 41):
        plain.put(scene(seed))
    batch = open_loader(tmp_path, monkeypatch, plain=1.0).next()
    wanted = {scene(seed).image.tobytes() for seed in (40, 41)}
    assert {image.numpy().tobytes() for image in batch["image"]} <= wanted


def test_a_failure_in_the_thread_ends_the_loop(pool, tmp_path, monkeypatch) -> None:
    from weights.train import loader

    def broken(*_):
        raise KeyError("broken")

    monkeypatch.setattr(loader, "prompts", broken)
    opened = open_loader(tmp_path, monkeypatch)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="the loader has stopped") as caught:
            opened.next()
        assert isinstance(caught.value.__cause__, KeyError)


def test_a_painter_that_paints_nothing_ends_the_loop(pool, tmp_path, monkeypatch) -> None:
    with pytest.raises(RuntimeError) as caught:
        open_loader(tmp_path, monkeypatch, least=3).next()
    assert "2 of 3 scenes" in str(caught.value.__cause__)
