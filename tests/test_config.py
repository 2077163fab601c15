"""Config: there and back as JSON, every bound, what shapes tell, hostile files."""

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from standin import TINY

from refsam import config as config_module
from refsam.config import LIMITS, MOBILE_SAM, STRIDE_ONE_WIDTHS, Config, infer
from refsam.errors import CheckpointError, InputError
from refsam.parameters import parameter_shapes

pytestmark = [pytest.mark.core, pytest.mark.usefixtures("unchecked")]


@st.composite
def configs(draw: st.DrawFn, **fixed: Any) -> Config:
    """Any valid config that is small enough to list its tensors quickly; `fixed` numbers stay as they are.

    Above a side of 1536, windows of 20 with 6 heads would be refused as too large.
    """
    heads = draw(st.tuples(*[st.integers(1, 6)] * 3))
    widths = [draw(st.integers(1, 12)) * 4 * n for n in heads[:2]]
    last = draw(st.sampled_from(STRIDE_ONE_WIDTHS))
    rate, decoder_heads = draw(st.sampled_from([1, 2, 4])), fixed.get("decoder_num_heads", draw(st.sampled_from([1, 2, 4])))
    numbers: dict[str, Any] = {
        "image_size": draw(st.integers(1, 96)) * 16,
        "embed_dims": (draw(st.integers(1, 20)) * 4, *widths, last),
        "depths": draw(st.tuples(*[st.integers(1, 3)] * 4)),
        "num_heads": (draw(st.integers(1, 9)), *heads[:2], draw(st.sampled_from([1, 2, 4, 8]))),
        "window_sizes": draw(st.tuples(*[st.integers(1, 20)] * 4)),
        "mlp_ratio": draw(st.sampled_from([1.0, 1.5, 2.25, 4.0, 8])),
        "mbconv_expand_ratio": draw(st.sampled_from([0.5, 1, 4.0])),
        "prompt_embed_dim": draw(st.integers(1, 4)) * 8 * rate * decoder_heads,
        "mask_in_chans": draw(st.integers(1, 16)) * 4,
        "decoder_depth": draw(st.integers(1, 3)),
        "decoder_num_heads": decoder_heads,
        "decoder_mlp_dim": draw(st.integers(1, 64)),
        "attention_downsample_rate": rate,
        "num_multimask_outputs": draw(st.integers(1, 5)),
        "iou_head_depth": draw(st.integers(1, 4)),
        "iou_head_hidden_dim": draw(st.integers(1, 64)),
    }
    return Config(**{**numbers, **fixed})


@given(configs())
def test_json_there_and_back(config: Config) -> None:
    assert Config.from_json(config.to_json()) == config


def test_a_missing_number_is_mobile_sams() -> None:
    assert Config.from_json("{}") == MOBILE_SAM
    assert Config.from_json('{"image_size": 256}') == dataclasses.replace(MOBILE_SAM, image_size=256)


def test_mobile_sams_derived_numbers() -> None:
    assert (MOBILE_SAM.embedding_size, MOBILE_SAM.mask_size, MOBILE_SAM.num_mask_tokens) == (64, 256, 4)
    assert [MOBILE_SAM.merge_stride(layer) for layer in range(3)] == [2, 2, 1]


NOT_INFERABLE = ("image_size", "decoder_num_heads")


@given(configs(decoder_num_heads=8, image_size=1024))
def test_shapes_tell_everything_but_what_leaves_no_mark(config: Config) -> None:
    found = infer(parameter_shapes(config))
    marked = dataclasses.replace(
        config,
        num_heads=(MOBILE_SAM.num_heads[0], *config.num_heads[1:]),
        window_sizes=(MOBILE_SAM.window_sizes[0], *config.window_sizes[1:]),
        # A head of one layer has no hidden width: what is read there is its output's.
        iou_head_hidden_dim=config.iou_head_hidden_dim if config.iou_head_depth > 1 else config.num_mask_tokens,
    )
    assert found == marked
    assert parameter_shapes(found) == parameter_shapes(config)


@pytest.mark.parametrize("ratio", [3.3, 2.7, 0.1, 1 / 3, 3.9999, 4.0])
def test_a_fractional_ratio_gives_the_widths_again(ratio: float) -> None:
    """104 * 3.3 is 343.2, and 343 / 104 of the layer with 320 one channel short of its 1056."""
    config = dataclasses.replace(MOBILE_SAM, embed_dims=(56, 104, 128, 320), num_heads=(1, 1, 1, 1), mlp_ratio=ratio,
                                 mbconv_expand_ratio=ratio)  # fmt: skip
    found = infer(parameter_shapes(config))
    assert parameter_shapes(found) == parameter_shapes(config)
    assert ratio in (1 / 3, 3.9999) or found.mlp_ratio == ratio


def test_every_hidden_width_has_a_ratio() -> None:
    """61 / 56 * 56 is 60.99999999999999 to a computer, and the same holds for 1663 others."""
    name = "image_encoder.layers.0.blocks.0.conv1.c.weight"
    for width in range(8, 513, 8):
        for hidden in range(1, 4 * width + 1, 3):
            assert int(width * config_module._ratio({name: (hidden, width)}, [name])) == hidden


def test_hidden_widths_that_no_ratio_gives_are_named() -> None:
    name = "image_encoder.layers.2.blocks.0.mlp.fc1.weight"
    with pytest.raises(CheckpointError, match=r"no one ratio gives the hidden widths 64 of 16, 641 of 160, 1280 of 320"):
        infer({**SHAPES, name: (641, 160)})


def test_infer_takes_mobile_sams_numbers_where_shapes_are_silent() -> None:
    found = infer(parameter_shapes(dataclasses.replace(TINY, prompt_embed_dim=64, decoder_num_heads=2)))
    assert {name: getattr(found, name) for name in NOT_INFERABLE} == {"image_size": 1024, "decoder_num_heads": 8}


GREATEST = {
    "image_size": 2048,
    "embed_dims": 1024,
    "depths": 32,
    "num_heads": 64,
    "window_sizes": 64,
    "prompt_embed_dim": 1024,
    "mask_in_chans": 256,
    "decoder_depth": 16,
    "decoder_num_heads": 64,
    "decoder_mlp_dim": 8192,
    "attention_downsample_rate": 16,
    "num_multimask_outputs": 16,
    "iou_head_depth": 16,
    "iou_head_hidden_dim": 2048,
    "mlp_ratio": 16,
    "mbconv_expand_ratio": 16,
}
"""What a weights file may ask for, written down a second time: a bound that is raised by mistake is noticed."""


def test_the_bounds_are_these_and_every_number_has_one() -> None:
    assert LIMITS == GREATEST
    assert {field.name for field in dataclasses.fields(Config)} == {*GREATEST}


@pytest.mark.parametrize("name", GREATEST)
def test_every_number_is_bounded(name: str) -> None:
    several = isinstance(getattr(MOBILE_SAM, name), tuple)
    for value in (0, -1, GREATEST[name] + 1, 10**30, True, "4", None, float("nan"), float("inf")):
        with pytest.raises(CheckpointError, match=name):
            dataclasses.replace(MOBILE_SAM, **{name: (value,) * 4 if several else value})


@pytest.mark.parametrize("name", ["embed_dims", "depths", "num_heads", "window_sizes"])
@pytest.mark.parametrize("value", [(1, 2, 3), (1, 2, 3, 4, 5), 7, (), ((1,), 2, 3, 4)])
def test_four_numbers_are_four_numbers(name: str, value: Any) -> None:
    with pytest.raises(CheckpointError, match=name):
        dataclasses.replace(MOBILE_SAM, **{name: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": np.int64(512)}, r"config image_size is .*512\)? \(int64\); an int is needed"),
        ({"image_size": 512.0}, r"config image_size is 512.0 \(float\); an int is needed"),
        ({"mlp_ratio": "4"}, r"config mlp_ratio is '4' \(str\); an int or a float is needed"),
        ({"embed_dims": [64, 128, 160, 320]}, r"config embed_dims is \[.*\] \(list\); a tuple of four whole numbers is needed"),
        ({"depths": (2, 2.0, 6, 2)}, r"config depths is \(.*\) \(float\); an int is needed"),
        ({"image_size": 4096}, "config image_size is 4096; it has to be positive and at most 2048"),
    ],
)
def test_a_number_of_another_type_is_told_from_one_out_of_bounds(change: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=f"^{message}$"):
        Config(**change)


def test_only_ratios_may_be_fractions() -> None:
    for name in set(LIMITS) - {"mlp_ratio", "mbconv_expand_ratio", "embed_dims", "depths", "num_heads", "window_sizes"}:
        with pytest.raises(CheckpointError, match=name):
            dataclasses.replace(MOBILE_SAM, **{name: float(getattr(MOBILE_SAM, name))})
    assert dataclasses.replace(MOBILE_SAM, mlp_ratio=2.5).mlp_ratio == 2.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 1000}, "image_size is 1000; it has to be a multiple of 16"),
        ({"embed_dims": (64, 128, 160, 256)}, "embed_dims .* one of .320, 448, 576"),
        ({"embed_dims": (64, 320, 160, 320), "num_heads": (2, 4, 5, 10)}, "only the last"),
        ({"embed_dims": (64, 128, 448, 448)}, "only the last"),
        ({"num_heads": (2, 3, 5, 10)}, "num_heads 3 does not divide the width 128"),
        ({"num_heads": (2, 4, 5, 9)}, "num_heads 9 does not divide the width 320"),
        ({"decoder_num_heads": 7}, "decoder_num_heads 7"),
        ({"attention_downsample_rate": 3}, "decoder's width"),
        ({"prompt_embed_dim": 12, "decoder_num_heads": 2}, "multiple of 8"),
        ({"mask_in_chans": 10}, "mask_in_chans one of 4"),
        ({"embed_dims": (1, 128, 160, 320)}, "without channels"),
        ({"mlp_ratio": 0.001}, "mlp_ratio 0.001 .* without channels"),
        ({"mbconv_expand_ratio": 0.001}, "without channels"),
    ],
)
def test_numbers_that_do_not_fit_together(change: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        dataclasses.replace(MOBILE_SAM, **change)


HOSTILE = {
    "not JSON": "{",
    "empty": "",
    "a list": "[1, 2]",
    "a number": "12",
    "null": "null",
    "deep": "[" * 100_000,
    "an unknown key": '{"image_sizes": 5}',
    "a dunder": '{"__class__": 1}',
    "a digit bomb": '{"image_size": ' + "9" * 10_000 + "}",
    "NaN": '{"mlp_ratio": NaN}',
    "Infinity": '{"image_size": Infinity}',
    "an object inside": '{"depths": {"0": 1}}',
    "lists inside": '{"depths": [[1], [1], [1], [1]]}',
    "text": '{"depths": "1234"}',
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_json_is_a_checkpoint_error(text: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        Config.from_json(text)
    assert "config" in str(caught.value)
    assert len(str(caught.value)) < 1000


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.sampled_from([*GREATEST]) | st.text(max_size=5), inner, max_size=4),
)


@st.composite
def nearly_configs(draw: st.DrawFn) -> dict[str, Any]:
    """The object of a valid config with some keys left out and at most two values replaced; about half stay valid."""
    document = json.loads(draw(configs()).to_json())
    for name in draw(st.lists(st.sampled_from([*GREATEST]), max_size=3)):
        document.pop(name, None)
    numbers = st.sampled_from([1, 2, 4, 8, 2.5, 16, 320]) | JSON
    changes = draw(st.dictionaries(st.sampled_from([*GREATEST]), numbers | st.lists(numbers, min_size=4, max_size=4), max_size=2))
    return {**document, **changes}


@given(JSON | nearly_configs())
def test_any_json_is_a_config_or_an_input_error(document: Any) -> None:
    try:
        config = Config.from_json(json.dumps(document))
    except InputError:
        return
    assert isinstance(document, dict)
    assert Config.from_json(config.to_json()) == config
    given_numbers = {name: tuple(value) if isinstance(value, list) else value for name, value in document.items()}
    assert config == dataclasses.replace(MOBILE_SAM, **given_numbers)


SHAPES = parameter_shapes(TINY)


@given(st.sampled_from(sorted(SHAPES)), st.lists(st.integers(0, 2**40), max_size=5).map(tuple))
def test_infer_on_any_shape_is_a_config_or_an_input_error(name: str, shape: tuple[int, ...]) -> None:
    tinier = dataclasses.replace(TINY, decoder_num_heads=1, prompt_embed_dim=64)
    shapes = {**parameter_shapes(tinier), name: shape}
    try:
        found = infer(shapes)
    except InputError:
        return
    # What comes out is within bounds, and a shape that was not looked at is found out by comparing all of them.
    assert Config(**dataclasses.asdict(found)) == found


@pytest.mark.parametrize("name", ["image_encoder.patch_embed.seq.2.c.weight", "mask_decoder.mask_tokens.weight"])
def test_infer_names_the_tensor_that_is_missing(name: str) -> None:
    with pytest.raises(CheckpointError, match=name):
        infer({other: shape for other, shape in SHAPES.items() if other != name})


@pytest.mark.core
def test_a_ratio_may_be_a_whole_number() -> None:
    assert Config.from_json('{"mlp_ratio": 4, "mbconv_expand_ratio": 4}') == MOBILE_SAM


def test_numbers_within_their_limits_whose_product_is_absurd() -> None:
    with pytest.raises(CheckpointError, match=r"17179869184 numbers at once \(layer 1's attention\)"):
        Config(image_size=2048, window_sizes=(7, 64, 64, 64), num_heads=(1, 64, 64, 64), embed_dims=(8, 64, 64, 320))
    with pytest.raises(CheckpointError, match=r"layer 0's widest map"):
        Config(embed_dims=(1024, 128, 160, 320), mbconv_expand_ratio=16)
