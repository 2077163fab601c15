"""Prompts in JSON files and in .npz: what is read, and what is refused."""

import io
import json
import os
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from standin import TINY

from refsam.cli.prompts import Prompt, read_mask_prompt, read_prompts
from refsam.errors import InputError
from refsam.masks import mask_to_logits


def written(folder, document):
    path = folder / "prompts.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


@pytest.mark.core
def test_our_own_form(tmp_path):
    entry = {"points": [[1, 2.5], [3, 4]], "labels": [1, 0], "box": [0, 0, 9, 9], "mask": "m.png", "name": "cat"}
    prompt = Prompt(((1, 2.5), (3, 4)), (1, 0), (0, 0, 9, 9), tmp_path / "m.png", "cat")
    for document in (entry, [entry], {"prompts": [entry]}):
        assert read_prompts(written(tmp_path, document)) == [prompt]
    assert read_prompts(written(tmp_path, [{"points": [[1, 2]]}, {"box": [1, 2, 3, 4]}])) == [
        Prompt(((1, 2),), (1,)),
        Prompt(box=(1, 2, 3, 4)),
    ]


@pytest.mark.core
def test_samexporters_form_is_one_prompt(tmp_path):
    entries = [
        {"type": "point", "data": [575, 750], "label": 0},
        {"type": "rectangle", "data": [425, 600, 700, 875]},
        {"type": "point", "data": [1, 2], "label": 1},
    ]
    assert read_prompts(written(tmp_path, entries)) == [Prompt(((575, 750), (1, 2)), (0, 1), (425, 600, 700, 875))]


@pytest.mark.core
@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("\x00", "not JSON"),
        ([], "needed"),
        (3, "needed"),
        ([3], "prompt 0"),
        ({}, "neither points nor box nor mask"),
        ({"name": "cat", "points": [], "labels": [], "box": None, "mask": None}, "neither points nor box nor mask"),
        ([{"box": [1, 2, 3, 4]}, {"points": []}], "prompt 1: there is neither"),
        ({"points": [[1, 2]], "colour": 1}, "some of"),
        ({"points": 3}, "a list is needed"),
        ({"points": [1, 2]}, "not 2 numbers"),
        ({"points": [[1, True]]}, "not 2 numbers"),
        ({"points": [[1, 2, 3]]}, "not 2 numbers"),
        ({"points": ["12"]}, "not 2 numbers"),
        ('{"points": [[1, NaN]]}', "not 2 numbers"),
        ('{"points": [[1, 1e999]]}', "not 2 numbers"),
        ('{"points": [[1, 1' + "0" * 400 + "]]}", "not 2 numbers"),
        ({"points": [[1, 2]], "labels": [1, 0]}, "1 points have 2 labels"),
        ({"points": [[1, 2]], "labels": [2]}, "label 2"),
        ({"points": [[1, 2]], "labels": [True]}, "label True"),
        ({"box": [1, 2, 3]}, "not 4 numbers"),
        ({"box": {"x": 1}}, "not 4 numbers"),
        ({"mask": 3}, "a text is needed"),
        ({"mask": "a\x00b.png"}, r"mask is .*cannot be the name of a file"),
        ('{"mask": "\\ud800.png"}', r"mask is .*cannot be the name of a file"),
        ([{"points": [[1, 2]]}, {"box": 1}], "prompt 1"),
        ([{"type": "circle", "data": [1, 2]}], "points and at most one rectangle"),
        ([{"type": "rectangle", "data": [1, 2, 3, 4]}] * 2, "at most one rectangle"),
        ([{"type": "point"}], "not 2 numbers"),
    ],
)
def test_a_wrong_document_is_refused_by_name(tmp_path, document, message):
    path = written(tmp_path, document)
    with pytest.raises(InputError, match=message) as error:
        read_prompts(path)
    assert str(path) in str(error.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.sampled_from([0, 1, -1, 10**400]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.sampled_from(["points", "labels", "box", "mask", "type", "data", "prompts", "name"]), inner, max_size=4),
)


NUMBERS = st.sampled_from([0, 1, 2.5, -3, "4", 1e9])
POINT = st.lists(NUMBERS, min_size=2, max_size=2)
BOX = st.lists(NUMBERS, min_size=4, max_size=4)
LABEL = st.sampled_from([0, 1, "0", "1"])


@st.composite
def nearly_entries(draw):
    """A valid entry of our own form, or with one value replaced by any."""
    entry = {
        "points": (points := draw(st.lists(POINT, max_size=3))),
        "labels": draw(st.lists(LABEL, min_size=len(points), max_size=len(points))),
        "box": draw(st.none() | BOX),
        "mask": draw(st.sampled_from([None, "m.png", "a/b.npz", "a\0b"])),
        "name": draw(st.text(max_size=5)),
    }
    for key in draw(st.lists(st.sampled_from(["labels", "box", "mask", "name"]), max_size=3)):
        entry.pop(key, None)
    wrong = draw(st.sampled_from([None, None, None, *entry, "labels", "labels", "type"]))
    return entry if wrong is None else {**entry, wrong: draw(st.lists(LABEL, max_size=3) | BOX | JSON)}


TYPED = st.fixed_dictionaries(
    {"type": st.sampled_from(["point"] * 3 + ["rectangle", "circle"]), "data": POINT | POINT | BOX},
    optional={"label": LABEL | JSON},
)
ENTRIES = st.lists(nearly_entries(), max_size=3) | st.lists(TYPED, max_size=3)
DOCUMENTS = JSON | nearly_entries() | nearly_entries() | ENTRIES | st.fixed_dictionaries({"prompts": ENTRIES})


@given(DOCUMENTS)
def test_any_document_gives_prompts_or_an_input_error(tmp_path_factory, document):
    path = written(tmp_path_factory.getbasetemp(), document)
    try:
        prompts = read_prompts(path)
    except InputError:
        return
    assert prompts
    assert all(len(prompt.points) == len(prompt.labels) for prompt in prompts)
    assert all(prompt.points or prompt.box or prompt.mask for prompt in prompts)
    assert not any(prompt.mask and b"\0" in os.fsencode(prompt.mask) for prompt in prompts)


def test_a_huge_file_of_prompts_is_refused(tmp_path):
    path = tmp_path / "prompts.json"
    with path.open("wb") as file:
        file.truncate(10**9)
    with pytest.raises(InputError, match="larger than"):
        read_prompts(path)


def logits(folder, **arrays):
    np.savez(folder / "l.npz", **arrays)
    return folder / "l.npz"


def test_the_best_scored_logits_are_taken(tmp_path):
    masks = np.arange(3 * 16 * 16, dtype=np.float32).reshape(1, 3, 16, 16)
    path = logits(tmp_path, low_res_masks=masks, iou_predictions=np.array([[0.5, 0.9, 0.1]]))
    np.testing.assert_array_equal(read_mask_prompt(path, TINY, (40, 50)), masks[0, 1:2])
    path = logits(tmp_path, low_res_masks=masks[0], iou_predictions=np.array([0.5, 0.1, 0.9]))
    np.testing.assert_array_equal(read_mask_prompt(path, TINY, (40, 50)), masks[0, 2:])
    np.testing.assert_array_equal(read_mask_prompt(logits(tmp_path, low_res_masks=masks[0, :1]), TINY, (40, 50)), masks[0, :1])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"other": np.zeros(3)}, "no array low_res_masks"),
        ({"low_res_masks": np.zeros((1, 8, 8))}, "16, 16"),
        ({"low_res_masks": np.zeros((3, 16, 16))}, "with a score each"),
        ({"low_res_masks": np.zeros((1, 16, 16)), "iou_predictions": np.zeros(2)}, "with a score each"),
        ({"low_res_masks": np.full((1, 16, 16), np.nan)}, "is needed"),
        ({"low_res_masks": np.zeros((2, 3, 16, 16)), "iou_predictions": np.eye(2, 3)}, "of 2 prompts.* with one prompt"),
        ({"low_res_masks": np.zeros((2, 1, 16, 16)), "iou_predictions": np.eye(2, 1)}, "the masks of 2 prompts"),
        ({"low_res_masks": np.array(["x"])}, "cannot be read"),
    ],
)
def test_wrong_logits_are_refused(tmp_path, arrays, message):
    with pytest.raises(InputError, match=message):
        read_mask_prompt(logits(tmp_path, **arrays), TINY, (40, 50))


class Trap:
    """Unpickling this would raise KeyboardInterrupt, which nobody catches."""

    def __reduce__(self):
        return exec, ("raise KeyboardInterrupt",)


def test_a_pickle_in_an_npz_is_never_run(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_mask_prompt(logits(tmp_path, low_res_masks=np.array([Trap()], object)), TINY, (40, 50))


def test_an_npz_that_is_a_bomb_or_damaged_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("refsam.cli.prompts.MAX_NPZ_BYTES", 10 * 2**20)
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("low_res_masks.npy", "w") as member:
        for _ in range(11):
            member.write(bytes(2**20))
    with pytest.raises(InputError, match=r"^\S+bomb\.npz cannot be read as \.npz: it unpacks to 11534336 bytes; at most 10 MiB"):
        read_mask_prompt(path, TINY, (40, 50))
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (10**15,)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("low_res_masks.npy", header.getvalue())
    with pytest.raises(InputError, match="cannot be read"):
        read_mask_prompt(path, TINY, (40, 50))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("low_res_masks.npy", header.getvalue())
    first = 30 + len("low_res_masks.npy")  # a member's header ends there, and what is deflated begins
    path.write_bytes(path.read_bytes()[:first] + b"\xff" + path.read_bytes()[first + 1 :])
    with pytest.raises(InputError, match="cannot be read"):
        read_mask_prompt(path, TINY, (40, 50))
    path.write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(InputError, match="cannot be read"):
        read_mask_prompt(path, TINY, (40, 50))


def of_all_kinds(inside):
    """The same mask as people save it: the name of the kind -> a picture."""
    solid = np.where(inside, 255, 0).astype(np.uint8)
    zero, white = np.zeros_like(solid), np.full_like(solid, 255)
    palette = Image.fromarray(inside.astype(np.uint8))
    palette.putpalette([0, 0, 0, 128, 0, 0])
    return {
        "grey": Image.fromarray(solid),
        "1 bit": Image.fromarray(inside),
        "16 bits": Image.fromarray(inside * np.uint16(65535)),
        "red": Image.fromarray(np.dstack([solid, zero, zero])),
        "blue": Image.fromarray(np.dstack([zero, zero, solid])),
        "white on a transparent ground": Image.fromarray(np.dstack([white, white, white, solid])),
        "grey and alpha": Image.fromarray(np.dstack([white, solid])),
        "black, opaque": Image.fromarray(np.dstack([solid, solid, solid, white])),
        "palette of label colours": palette,
    }


KINDS = tuple(of_all_kinds(np.zeros((1, 1), np.bool_)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_picture_means_the_same_however_it_is_saved(tmp_path, kind):
    inside = np.zeros((40, 50), np.bool_)
    inside[10:30, 5:25] = True
    of_all_kinds(inside)[kind].save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask_prompt(tmp_path / "m.png", TINY, (40, 50)), mask_to_logits(inside, 64))


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (Image.fromarray(np.eye(4, 5, dtype=np.uint8)), "nothing inside .*goes from 0 to 1, and 128 or more is inside"),
        (Image.new("RGB", (5, 4)), "nothing inside .*save it as white on black"),
        (Image.new("LA", (5, 4), (255, 0)), "nothing inside"),
        (Image.new("L", (5, 4), 200), "everything inside .*from 200 to 200"),
    ],
)
def test_a_mask_picture_of_nothing_or_everything_is_refused(tmp_path, picture, message):
    picture.save(tmp_path / "m.png")
    with pytest.raises(InputError, match=message):
        read_mask_prompt(tmp_path / "m.png", TINY, (4, 5))


def test_a_mask_picture_has_to_be_as_large_as_the_picture(tmp_path):
    Image.new("L", (5, 4)).save(tmp_path / "m.png")
    with pytest.raises(InputError, match=r"m\.png is 5,4, but the picture is 50,40"):
        read_mask_prompt(tmp_path / "m.png", TINY, (40, 50))
