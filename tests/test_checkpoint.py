"""Opening weights files: exact where they are right, a clear CheckpointError where they are not."""

import functools
import hashlib
import os
import shutil
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from standin import TINY, standin_weights
from torch_files import torch_legacy, torch_zip

from refsam import checkpoint
from refsam.config import MOBILE_SAM, Config
from refsam.errors import CheckpointError, InputError
from refsam.parameters import parameter_shapes


@functools.cache
def weights() -> dict[str, np.ndarray]:
    return standin_weights(TINY)


def with_config(arrays, **metadata):
    return safetensors.numpy.save(arrays, {"config": TINY.to_json(), **metadata})


def assert_equal_weights(found, expected):
    assert list(found) == list(parameter_shapes(TINY))
    for name, array in found.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, expected[name])


@pytest.mark.core
def test_a_saved_checkpoint_is_read_back_exactly(tmp_path):
    path = tmp_path / "a.safetensors"
    checkpoint.save(path, weights(), TINY, {"licence": "CC0"})
    opened = checkpoint.load(path)
    assert_equal_weights(opened.tensors, weights())
    assert opened.config == TINY
    assert opened.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (opened.path, opened.format, opened.metadata["licence"]) == (path, "safetensors", "CC0")
    assert opened.metadata["tensors_sha256"] == checkpoint.tensors_sha256(opened.tensors)
    assert checkpoint.read(os.fspath(path)).keys() == opened.tensors.keys()


def test_saving_twice_gives_the_same_bytes(tmp_path):
    backwards = dict(reversed(weights().items()))
    for name, arrays in (("a", weights()), ("b", backwards)):
        checkpoint.save(tmp_path / name, arrays, TINY, {"b": "2", "a": "1"} if name == "a" else {"a": "1", "b": "2"})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_safetensors_package_reads_what_we_write(tmp_path):
    checkpoint.save(tmp_path / "a", weights(), TINY, {"note": "ünïcode \n"}, dtype="float16")
    found = safetensors.numpy.load_file(tmp_path / "a")
    assert found.keys() == weights().keys()
    for name, array in found.items():
        np.testing.assert_array_equal(array, weights()[name].astype("f2"))


@pytest.mark.core
@pytest.mark.parametrize("dtype", ["f4", "f2", "f8"])
def test_the_package_s_files_are_read_and_converted(place, dtype):
    stored = {name: array.astype(dtype) for name, array in weights().items()}
    found = checkpoint.read(place(with_config(stored)))
    assert_equal_weights(found, {name: array.astype("f4") for name, array in stored.items()})


def test_bfloat16_is_converted(place):
    bits = {name: (array.view(np.uint32) >> 16).astype(np.uint16) for name, array in weights().items()}
    raw = safetensors.numpy.save(bits, {"config": TINY.to_json()}).replace(b'"U16"', b'"BF16"')
    raw = (int.from_bytes(raw[:8], "little") + len(bits)).to_bytes(8, "little") + raw[8:]  # one letter more each
    expected = {name: (array.astype(np.uint32) << 16).view("f4") for name, array in bits.items()}
    assert_equal_weights(checkpoint.read(place(raw)), expected)


@pytest.mark.parametrize("write", [torch_zip, torch_legacy])
def test_a_pt_without_metadata_has_the_config_that_its_shapes_have(place, write):
    """Image size and decoder heads leave no mark on shapes, so they are MobileSAM's."""
    opened = checkpoint.load(place(write(weights()), "mobile_sam.pt"))
    assert opened.config == replace(TINY, image_size=1024, num_heads=(2, 2, 2, 10), decoder_num_heads=8)
    assert_equal_weights(opened.tensors, weights())
    assert opened.metadata == {}


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.bin", "weights"])
def test_the_content_decides_and_not_the_name(place, name):
    assert checkpoint.load(place(torch_zip(weights()), name)).format == "torch zip"


def test_unused_tensors_are_left_out_and_may_be_whole_numbers(place):
    more = {
        "image_encoder.head.weight": np.full((5, 320), np.nan, "f4"),
        "image_encoder.norm_head.bias": np.zeros(320, "f4"),
        "image_encoder.patch_embed.seq.0.bn.num_batches_tracked": np.array(7),
        "image_encoder.layers.1.blocks.0.attn.attention_bias_idxs": np.zeros((9, 9), "i8"),
    }
    for raw in (with_config({**weights(), **more}), torch_zip({**weights(), **more})):
        assert_equal_weights(checkpoint.read(place(raw)), weights())


@pytest.mark.parametrize("prefix", ["module.", "model.", "sam_model.model."])
def test_the_prefix_of_a_wrapper_is_taken_off(place, prefix):
    wrapped = {prefix + name: array for name, array in weights().items()}
    for raw in (with_config(wrapped), torch_zip(wrapped)):
        assert_equal_weights(checkpoint.read(place(raw)), weights())


def test_a_symbolic_link_is_followed_when_reading(place, tmp_path):
    """The Hugging Face cache consists of links."""
    (tmp_path / "link").symlink_to(place(with_config(weights())))
    assert checkpoint.load(tmp_path / "link").config == TINY


def changed(**tensors):
    """The weights with these tensors instead; None takes one out."""
    return {name: array for name, array in {**weights(), **tensors}.items() if array is not None}


BIAS = "image_encoder.neck.1.bias"
VARIANCE = "image_encoder.patch_embed.seq.0.bn.running_var"


@pytest.mark.core
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({BIAS: None}, f"tensor {BIAS} is missing; save the state dict"),
        ({"image_encoder.neck.9.bias": np.zeros(3, "f4")}, "tensor .*neck.9.bias is not part of MobileSAM; take it out"),
        ({BIAS: np.zeros(33, "f4")}, r"tensor .*neck.1.bias has shape \(33,\) where \(32,\) is needed"),
        ({BIAS: np.zeros(32, "i4")}, r"tensor .*neck.1.bias is I32; save it as float32"),
        ({BIAS: np.full(32, np.nan, "f4")}, r"tensor .*neck.1.bias has NaN or infinity as float32; the file is damaged or"),
        ({BIAS: np.full(32, 1e300)}, r"tensor .*neck.1.bias has NaN or infinity as float32"),
        ({VARIANCE: np.full(4, -0.1, "f4")}, "tensor .*running_var has negative variances"),
    ],
)  # fmt: skip
def test_each_violation_is_named_with_its_tensor_and_its_remedy(place, change, message):
    path = place(with_config(changed(**change)))
    with pytest.raises(CheckpointError, match=message) as caught:
        checkpoint.load(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_many_violations_are_counted(place):
    missing = dict.fromkeys(list(weights())[:10])
    with pytest.raises(CheckpointError, match=r"; and 6 more$"):
        checkpoint.read(place(with_config(changed(**missing))))


def test_a_config_that_fits_nothing_is_refused(place):
    for text, message in (
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "not an object"),
        ('{"image_size": 1000000}', "at most 2048"),
        ('{"depths": [1, 1, 1, 1000000000]}', "at most 32"),
        ('{"image_size": 64, "surprise": 1}', "unknown keys: surprise"),
        (MOBILE_SAM.to_json(), "is missing"),
    ):
        with pytest.raises(CheckpointError, match=message):
            checkpoint.load(place(with_config(weights(), config=text)))


def test_what_is_no_file_is_named(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, message in (
        (tmp_path, "folder"),
        (tmp_path / "none", "No such file"),
        (tmp_path / "pipe", "device or a pipe"),
        ("/dev/zero", "device or a pipe"),
        ("a\0b", "cannot be the name of a file"),
    ):
        with pytest.raises(CheckpointError, match=message):
            checkpoint.read(path)


@pytest.mark.parametrize("write", [with_config, torch_zip, torch_legacy])
def test_a_truncated_file_is_refused_wherever_it_ends(place, write):
    raw = write(weights())
    for end in (1, 7, 8, 9, 20, 100, 1000, len(raw) // 2, len(raw) - 100, len(raw) - 1):
        with pytest.raises(CheckpointError):
            checkpoint.read(place(raw[:end]))


def test_tensors_that_share_their_data_are_refused(place):
    """A view with stride 0 makes terabytes of four bytes."""
    from torch_files import storage, tensor, zip_file

    where = storage("0", np.zeros(1, "f4"))
    views = {name: tensor(where, shape, (0,) * len(shape)) for name, shape in parameter_shapes(TINY).items()}
    with pytest.raises(CheckpointError, match="some share their data"):
        checkpoint.read(place(zip_file(views, {"0": bytes(4)}), "weights.pt"))


def test_memory_follows_the_size_of_the_file(place):
    path = place(with_config(weights()))
    largest = max(array.nbytes for array in weights().values())
    tracemalloc.start()
    opened = checkpoint.load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    total = sum(array.nbytes for array in opened.tensors.values())
    # The result, the raw bytes of one tensor beside its copy, one hash block, and names: at most 4 MiB with the type checks.
    assert peak < total + 2 * largest + (4 << 20)


def test_saving_refuses_what_could_not_be_read_again(tmp_path):
    path = tmp_path / "a.safetensors"
    for arrays, dtype, message in (
        (changed(**{BIAS: None}), "float32", "missing"),
        (changed(**{BIAS: np.full(32, 1e6, "f4")}), "float16", "infinity as float16"),
        (weights(), "int8", "one of: float32, float16"),
    ):
        with pytest.raises(CheckpointError, match=message):
            checkpoint.save(path, arrays, TINY, dtype=dtype)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("metadata", "message"),
    [({"epoch": 3}, "'epoch' is 3; texts"), ({3: "x"}, "metadata 3 is"), ({"a": "b", "log": "x" * (2 << 20)}, "metadata 'log'")],
    ids=["value", "name", "length"],
)
def test_saving_refuses_metadata_that_could_not_be_read_again(tmp_path, metadata, message):
    with pytest.raises(InputError, match=message):
        checkpoint.save(tmp_path / "a.safetensors", weights(), TINY, metadata)
    assert list(tmp_path.iterdir()) == []


def test_saving_refuses_complex_tensors(tmp_path):
    with pytest.raises(InputError, match=rf"{BIAS} is complex64; give it as float32"):
        checkpoint.save(tmp_path / "a.safetensors", changed(**{BIAS: weights()[BIAS].astype(np.complex64)}), TINY)
    assert list(tmp_path.iterdir()) == []


SMALLEST = Config(
    image_size=16,
    embed_dims=(4, 4, 4, 320),
    depths=(1, 1, 1, 1),
    num_heads=(1, 1, 1, 1),
    window_sizes=(1, 1, 1, 1),
    mlp_ratio=0.25,
    mbconv_expand_ratio=0.5,
    prompt_embed_dim=8,
    mask_in_chans=4,
    decoder_depth=1,
    decoder_num_heads=1,
    decoder_mlp_dim=1,
    attention_downsample_rate=1,
    num_multimask_outputs=1,
    iou_head_depth=1,
    iou_head_hidden_dim=1,
)


@functools.cache
def complete(write) -> bytes:
    """A whole checkpoint, as small as one can be: 1.1 MiB, most of it one layer that has to be 320 wide."""
    arrays = {name: array.astype("f2") for name, array in standin_weights(SMALLEST).items()}
    return with_config(arrays, config=SMALLEST.to_json()) if write is with_config else write(arrays)


@st.composite
def damage(draw, size):
    """(start, bytes that go, bytes that come): at the file's beginning and end, where it is described, and anywhere. Mostly as
    many come as go: a file whose data moved is refused for that alone."""
    anywhere, ends = st.integers(0, size - 1), st.integers(0, 200) | st.integers(0, 30_000) | st.integers(size - 30_000, size - 1)
    start = draw(anywhere | anywhere | anywhere | ends)
    wrong_numbers = st.sampled_from([b"\x7e" * 4, b"\xbc" * 4])  # as float16 NaN and a negative number
    new = draw(st.binary(min_size=1, max_size=4) | wrong_numbers)
    return start, draw(st.sampled_from([len(new), len(new), len(new), 0, 1])), new


@given(data=st.data(), write=st.sampled_from([with_config, torch_zip, torch_legacy]))
def test_damage_is_an_input_error_or_leaves_a_whole_checkpoint(tmp_path_factory, data, write):
    raw = bytearray(complete(write))
    for start, gone, new in data.draw(st.lists(damage(len(raw)), max_size=2)):
        raw[start : start + gone] = new
    path = tmp_path_factory.getbasetemp() / "fuzz"
    path.write_bytes(raw)
    try:
        opened = checkpoint.load(path)
    except InputError:
        return
    shapes = parameter_shapes(opened.config)
    assert {name: array.shape for name, array in opened.tensors.items()} == shapes
    assert all(array.dtype == np.float32 and np.isfinite(array).all() for array in opened.tensors.values())
    assert all((array >= 0).all() for name, array in opened.tensors.items() if name.endswith("running_var"))


BEGINNINGS = [b"", b"PK\x03\x04", b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."]


@given(head=st.sampled_from(BEGINNINGS), tail=st.binary(max_size=300))
def test_no_bytes_at_all_give_another_error(tmp_path_factory, head, tail):
    path = tmp_path_factory.getbasetemp() / "fuzz"
    path.write_bytes(head + tail)
    with pytest.raises(CheckpointError):
        checkpoint.read(path)


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore")  # those of upstream's own imports
def test_upstream_s_own_state_dict_opens_as_mobile_sam(tmp_path):
    import torch
    from mobile_sam import sam_model_registry

    state = sam_model_registry["vit_t"]().state_dict()
    torch.save(state, tmp_path / "m.pt")
    opened = checkpoint.load(tmp_path / "m.pt")
    assert opened.config == Config() == MOBILE_SAM
    for name, array in opened.tensors.items():
        np.testing.assert_array_equal(array, state[name].numpy())
    shutil.rmtree(tmp_path)
