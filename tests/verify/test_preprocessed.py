"""A preprocessed picture alone: mistakes are made here with NumPy, or by libraries, not by the hypotheses that are looked for."""

from collections.abc import Mapping

import numpy as np
import pytest
from PIL import Image
from verify.libraries import RESIZES, frozen
from verify.mistaken import picture

from refsam import InputError, transforms
from refsam.ops.resize import pillow_bilinear
from refsam.verify.hypotheses import preprocessing
from refsam.verify.hypothesis import Hypothesis
from refsam.verify.pipeline import Pipeline, Place
from refsam.verify.preprocessed import diagnose_preprocessed

SIDE = 64
PICTURE = picture(98, 150)
RESIZED = transforms.resize(PICTURE, SIDE)
MEAN, STD = transforms.PIXEL_MEAN, transforms.PIXEL_STD


@pytest.fixture(scope="module")
def resizes() -> Mapping[str, np.ndarray]:
    return frozen()


def framed(pixels: np.ndarray, padding: float | np.ndarray = 0.0) -> np.ndarray:
    """(1, 3, S, S), the picture in the first rows."""
    frame = np.empty((SIDE, SIDE, 3), np.float32)
    frame[...] = padding
    frame[: len(pixels), : pixels.shape[1]] = pixels
    return frame.transpose(2, 0, 1)[None]


def named(tensor: np.ndarray, image: np.ndarray = PICTURE, stage: str | None = None) -> set[str]:
    """The mistakes, which have to explain all but rounding."""
    found = diagnose_preprocessed(tensor, image, stage).explanation
    assert found is not None
    assert not found.names or found.explained > 1 - 1e-4, str(found)
    return {*found.names}


@pytest.mark.parametrize("way", RESIZES)
def test_what_libraries_do_is_called_by_its_name(way: str, resizes: Mapping[str, np.ndarray]) -> None:
    found = diagnose_preprocessed(resizes[way], resizes["picture"], "transforms.resized")
    names = () if found.explanation is None else found.explanation.names
    assert names == RESIZES[way], str(found)
    assert bool(found) == (names == ())
    assert found.left.max <= 1
    assert found.explanation is None or found.explanation.explained > 0.997


def test_all_that_was_frozen_is_judged(resizes: Mapping[str, np.ndarray]) -> None:
    assert {*RESIZES, "picture", "versions"} == {*resizes}


def mean_under(image: np.ndarray, size: tuple[int, int], whole: bool) -> np.ndarray:
    """The mean of the pixels under each target pixel: all that it touches alike, or each by how much of it is there."""
    result = image.astype(np.float64)
    for axis, (n_in, n_out) in enumerate(zip(image.shape[:2], size, strict=True)):
        edges = np.arange(n_out + 1)[:, None] * n_in  # in parts of 1 / n_out of a source pixel
        first, last = np.arange(n_in) * n_out, np.arange(1, n_in + 1) * n_out
        shared = np.maximum(np.minimum(edges[1:], last) - np.maximum(edges[:-1], first), 0)
        weights = (shared > 0 if whole else shared).astype(np.float64)
        result = np.moveaxis(np.tensordot(weights / weights.sum(axis=1, keepdims=True), result, (1, axis)), 0, axis)
    return result


@pytest.mark.parametrize("size", [(23, 17), (25, 40), (98, 150)])
def test_areas_are_known_where_a_picture_grows_too(size: tuple[int, int]) -> None:
    image = np.random.RandomState(0).randint(0, 256, (*size, 3), np.uint8)
    inner = transforms.resized_size(size, SIDE)
    touched = mean_under(image, inner, whole=True).astype(np.float32)  # torch's mode="area"
    assert named(touched, image, "transforms.resized") == {"area resize of whole pixels", "resized without rounding"}
    shared = np.rint(mean_under(image, inner, whole=False)).astype(np.uint8)  # cv2.INTER_AREA
    assert named(shared, image, "transforms.resized") == {"area resize"}


def test_a_picture_that_was_cut_down_to_whole_levels_or_resized_in_columns_first_is_known(
    resizes: Mapping[str, np.ndarray],
) -> None:
    image = resizes["picture"]
    cut = np.floor(resizes["torchvision float"]).astype(np.uint8)
    assert named(cut, image, "transforms.resized") == {"truncated"}
    columns = transforms.resize(np.ascontiguousarray(image.transpose(1, 0, 2)), 32).transpose(1, 0, 2)
    assert named(columns, image, "transforms.resized") == {"vertical pass first"}


@pytest.mark.parametrize(
    ("changed", "names"),
    [
        (lambda image: image[::-1, :, ::-1], {"BGR", "upside down"}),
        (lambda image: image[::-1, ::-1, ::-1], {"BGR", "turned by 180 degrees"}),
        (lambda image: image[:, ::-1, ::-1], {"BGR", "mirrored"}),
        (lambda image: np.rot90(image)[..., ::-1], {"BGR", "turned by 90 degrees"}),
    ],
)
def test_two_changes_of_the_picture_are_found_together(changed, names: set[str]) -> None:
    assert named(transforms.preprocess(np.ascontiguousarray(changed(PICTURE)), SIDE)) == names


def test_a_filter_in_whose_place_another_was_found_is_not_named() -> None:
    mirrored, size = Image.fromarray(np.ascontiguousarray(PICTURE[:, ::-1])), RESIZED.shape[1::-1]
    pixels = np.asarray(mirrored.resize(size, Image.Resampling.LANCZOS))
    assert named(framed((pixels - MEAN) / STD)) == {"mirrored", "Lanczos resize"}, "bicubic comes first, as it is near"


def test_padding_and_normalising_are_found_together() -> None:
    lite = RESIZED.astype(np.float32) / 127.5 - 1
    assert named(framed(lite, -1.0)) == {"normalised to -1..1", "padded before normalising"}


@pytest.mark.parametrize(
    ("pixels", "name"),
    [
        ((RESIZED / 256 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225], "divided by 256"),
        ((RESIZED / 255 - [0.48145466, 0.4578275, 0.40821073]) / [0.26862954, 0.26130258, 0.27577711], "mean and std of CLIP"),
    ],
)
def test_numbers_of_another_normalising_are_known(pixels: np.ndarray, name: str) -> None:
    assert named(framed(pixels)) == {name}


def bt709_read_as_bt601(pixels: np.ndarray) -> np.ndarray:
    """By the equations that camera samples have, on Y, Cb and Cr of BT.709."""
    red, green, blue = np.moveaxis(pixels, -1, 0)
    y = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    cb, cr = (blue - y) / 1.8556, (red - y) / 1.5748
    return np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], axis=-1)


@pytest.mark.parametrize(
    ("recolour", "name"),
    [
        (lambda pixels: 16 + pixels * 219 / 255, "video range taken for full range"),
        (lambda pixels: (pixels - 16) * 255 / 219, "full range taken for video range"),
        (bt709_read_as_bt601, "BT.709 read as BT.601"),
        (lambda pixels: pixels[..., [0, 0, 1]] * [0, 1, 1] + [255, 0, 0], "ARGB read as RGB"),
    ],
)
def test_colours_that_a_camera_or_a_gpu_changes_are_known(recolour, name: str) -> None:
    """After the resize, as a shader does it; the hypothesis rounds to whole levels before it too."""
    pixels = np.clip(np.rint(recolour(RESIZED.astype(np.float32))), 0, 255).astype(np.float32)
    found = diagnose_preprocessed(pixels, PICTURE, "transforms.resized")
    assert found.explanation is not None
    assert found.explanation.names == (name,), str(found)


PADDINGS = {
    "padded before normalising": (0, 0, 0),
    "grey padding": (114, 114, 114),
    "mid-grey padding": (128, 128, 128),
    "white padding": (255, 255, 255),
    "padded with the mean in whole grey levels": (124, 116, 104),
}
NORMALISATIONS = {
    None: lambda pixels: (pixels - MEAN) / STD,
    "0-1 range, not normalised": lambda pixels: pixels / 255,
    "normalised to -1..1": lambda pixels: pixels / 127.5 - 1,
}
CENTRED = "padding on both sides"
LETTERBOXES = [
    *((padding, CENTRED, "normalised to -1..1") for padding in PADDINGS),
    ("grey padding", CENTRED, "0-1 range, not normalised"),
    ("white padding", CENTRED, "0-1 range, not normalised"),
    ("padded before normalising", CENTRED),
    ("padded with the mean in whole grey levels",),
    ("mid-grey padding",),
]


@pytest.mark.parametrize("mistakes", LETTERBOXES, ids=" + ".join)
def test_a_letterbox_is_known_by_its_colour_its_place_and_how_it_was_normalised(mistakes: tuple[str, ...]) -> None:
    frame = np.empty((SIDE, SIDE, 3))
    frame[...] = next(PADDINGS[name] for name in PADDINGS if name in mistakes)
    top = (SIDE - len(RESIZED)) // 2 if CENTRED in mistakes else 0
    frame[top : top + len(RESIZED)] = RESIZED
    normalise = next(NORMALISATIONS[name] for name in [*mistakes, None] if name in NORMALISATIONS)
    assert named(normalise(frame).astype(np.float32).transpose(2, 0, 1)[None]) == {*mistakes}


def test_the_fields_of_a_place_are_kept_whatever_comes_after() -> None:
    places = [h for h in preprocessing.HYPOTHESES if h.apply(Pipeline()).place != Pipeline().place]
    assert len(places) > 15
    others = {name: object() for name in vars(Place())}  # of no mistake's own
    for mistake in places:
        alone, now = (vars(mistake.apply(Pipeline(place=place)).place) for place in (Place(), Place(**others)))
        assert now == {**others, **{name: alone[name] for name in changed(mistake)}}


def changed(mistake: Hypothesis) -> set[str]:
    """The fields of the place that a mistake sets; padding before normalising always has its grey level with it."""
    now, before = vars(mistake.apply(Pipeline()).place), vars(Place())
    names = {name for name in now if now[name] != before[name]}
    return names | {"fill"} if "fill_first" in names else names


def test_one_deviation_for_all_channels_is_known_in_both_forms() -> None:
    scaled = RESIZED.astype(np.float32) / (0.226 * 255)
    assert named(framed(scaled - MEAN / (0.226 * 255))) == {"one std for all channels"}
    assert named(framed(scaled - MEAN / STD)) == {"one std for all channels, but not for the mean"}


def test_a_picture_a_row_short_is_searched_as_any_other() -> None:
    wide = picture(103, 150)  # 43.95 rows at 64
    short = pillow_bilinear(wide, (43, SIDE))
    found = diagnose_preprocessed(short, wide)
    assert found.stage == "transforms.resized"
    assert found.explanation is not None
    assert found.explanation.names == ("size rounded down",)
    assert found.left.max == 0
    assert "its size is 43 x 64, where the reference's is 44 x 64" in str(found)
    assert diagnose_preprocessed(short.transpose(2, 0, 1)[None], wide).explanation.names == ("size rounded down",)
    cut = diagnose_preprocessed(transforms.resize(wide, SIDE)[:-1], wide)
    assert cut.off.max == 0
    assert not cut, "a row is missing"
    with pytest.raises(InputError, match="in some order of axes"):
        diagnose_preprocessed(short[:-1], wide)


def test_a_size_by_whole_number_division_is_known_whatever_the_width() -> None:
    wide = picture(67, 98)  # 64 / 98 * 98 is less than 64 in floats
    assert named(pillow_bilinear(wide, (67 * SIDE // 98, SIDE)), wide, "transforms.resized") == {"size rounded down"}


def test_a_square_picture_of_whole_levels_is_the_resized_one() -> None:
    image = picture(150, 150)
    resized = transforms.resize(image, SIDE)
    found = diagnose_preprocessed(resized, image)
    assert found, str(found)
    assert found.stage == "transforms.resized"
    bare = diagnose_preprocessed(resized.transpose(2, 0, 1)[None].astype(np.float32), image)
    assert bare.explanation is not None
    assert bare.explanation.names == ("0-255 range, not normalised",)
    frame = np.zeros((SIDE, SIDE, 3), np.uint8)
    frame[: len(RESIZED)] = RESIZED
    assert named(frame) == {"0-255 range, not normalised"}, "of a picture that is not square it can be nothing else"


def test_what_others_would_explain_alone_is_said(resizes: Mapping[str, np.ndarray]) -> None:
    found = diagnose_preprocessed(resizes["cv2 LINEAR"], resizes["picture"], "transforms.resized")
    text = " ".join(str(found).split())
    name, share = found.explanation.others[0]
    assert f"alone they would explain: {name} {100 * share:.0f} %" in text


def test_looking_for_two_at_once_costs_few_resizes(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    resized = Pipeline.resized
    monkeypatch.setattr(Pipeline, "resized", lambda *given: calls.append(1) or resized(*given))
    noise = np.random.RandomState(0).normal(size=(1, 3, SIDE, SIDE))
    assert named(noise) == set()
    assert len(calls) < 80, "one for each of some 35 alone, and those of three with others than filters"


@pytest.mark.parametrize("k", [0, -1, np.nan, np.inf])
def test_a_k_that_measures_nothing_is_an_error(k: float) -> None:
    with pytest.raises(InputError, match="above 0"):
        diagnose_preprocessed(framed(RESIZED), PICTURE, "input_image", k=k)
