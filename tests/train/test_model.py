"""The torch twin that is trained: the same graph as refsam's, and what is exported of it. Needs torch."""

import json

import numpy as np
import pytest

import refsam
from refsam import MobileSam, checkpoint, resources

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore")]  # those of upstream's own imports


@pytest.fixture(scope="module")
def twin():
    """The demo model's weights in the torch twin."""
    from weights.train.stored import stored

    return stored(resources.path("weights", "demo.safetensors"))[0]


@pytest.fixture(scope="module")
def ours() -> MobileSam:
    return refsam.load("demo", backend="reference")


def close(a, b) -> None:
    """Two float32 computations of one graph: each is off by up to some 1e-6 of its norm (docs/evidence/parity.md)."""
    assert np.linalg.norm(a - b) < 1e-5 * np.linalg.norm(b)


def test_embeddings(twin, ours) -> None:
    import torch

    size = ours.config.image_size
    x = np.random.default_rng(0).normal(size=(1, 3, size, size)).astype(np.float32)
    with torch.inference_mode():
        close(twin.encode(torch.from_numpy(x)).numpy(), ours.encode_image(x))


@pytest.mark.parametrize("boxed", [False, True])
def test_prompts_and_masks(twin, ours, boxed: bool) -> None:
    """Training's prompts of one row (a click, or a box with a corrective click and a mask) are what refsam makes of each."""
    import torch

    from weights.train.rounds import encode, first_round

    rng = np.random.default_rng(4)
    grid, side = ours.config.embedding_size, ours.config.mask_size
    embedding = rng.normal(size=(1, 256, grid, grid)).astype(np.float32)
    clicks, box = rng.uniform(0, 256, (2, 3, 2)).astype(np.float32), np.float32([[10, 20, 90, 200]] * 3)
    mask = rng.normal(size=(3, side, side)).astype(np.float32)
    flags = torch.full((3,), boxed)
    asked = first_round(torch.from_numpy(clicks[0]), torch.from_numpy(box), flags)
    asked = asked.add(torch.from_numpy(clicks[1]), torch.zeros(3), torch.from_numpy(mask), torch.ones(3, dtype=torch.bool))
    with torch.inference_mode():
        found = [x.numpy() for x in (*encode(twin, asked), *twin.decode(torch.from_numpy(embedding), *encode(twin, asked)))]
    if boxed:
        points, boxes = (clicks[1][:, None], np.zeros((3, 1), int)), box
    else:
        points, boxes = (clicks.swapaxes(0, 1), np.array([[1, 0]] * 3)), None
    sparse, dense = ours.encode_prompts(points, boxes, mask[:, None])
    close(np.sort(found[0], 1), np.sort(sparse, 1))  # tokens in whatever order: attention does not see it
    close(found[1], dense)
    for several, kept in ((True, slice(1, None)), (False, slice(0, 1))):
        logits, iou = ours.decode_masks(embedding, ours.image_pe, sparse, dense, several)
        close(found[2][:, kept], logits)
        close(found[3][:, kept], iou)


def test_decoding_is_upstreams(twin) -> None:
    import torch

    rng = torch.Generator().manual_seed(1)
    grid, side = twin.config.embedding_size, twin.config.mask_size
    embedding, mask = torch.randn(1, 256, grid, grid, generator=rng), torch.randn(4, 1, side, side, generator=rng)
    points = 256 * torch.rand(4, 2, 2, generator=rng), torch.tensor([[1, 0]] * 4)
    with torch.inference_mode():
        sparse, dense = twin.prompt_encoder(points, None, mask)
        theirs = twin.mask_decoder.predict_masks(embedding, twin.prompt_encoder.get_dense_pe(), sparse, dense)
        for a, b in zip(twin.decode(embedding, sparse, dense), theirs, strict=True):
            close(a.numpy(), b.numpy())


def test_export_and_back(twin, tmp_path) -> None:
    from weights.train.export import metadata, tensors
    from weights.train.stored import stored

    path = tmp_path / "a.safetensors"
    checkpoint.save(path, tensors(twin), twin.config, metadata(7, {"click": 0.5}), "float16")
    opened = checkpoint.load(path)
    assert opened.config == twin.config
    assert json.loads(opened.metadata["scores"]) == {"click": 0.5}
    assert opened.metadata["training"].startswith("7 steps")
    again, steps = stored(path)
    assert steps == 7
    for name, tensor in twin.state_dict().items():
        if "num_batches_tracked" not in name:
            half = tensor.numpy().astype(np.float16)
            np.testing.assert_array_equal(opened.tensors[name], half)
            np.testing.assert_array_equal(again.state_dict()[name], half)


def test_a_variance_that_vanishes_is_not_exported(twin) -> None:
    from weights.train.export import tensors

    variance = twin.image_encoder.patch_embed.seq[0].bn.running_var
    kept = variance.clone()
    variance[0] = 1e-9
    with pytest.raises(ValueError, match="running_var"):
        tensors(twin)
    variance.copy_(kept)


def test_weights_of_a_smaller_size_fit_the_larger_model() -> None:
    """Offsets that both windows have keep their bias; greater ones start from zero."""
    from weights.train.model import DEMO, Sam, at_size, fit_biases

    small, large = Sam(at_size(DEMO, 128)), Sam(DEMO)
    name = "image_encoder.layers.2.blocks.0.attn.attention_biases"
    small.get_parameter(name).data.normal_()
    old = small.get_parameter(name).detach().numpy().reshape(4, 8, 8)
    large.load_state_dict(fit_biases(small.state_dict(), large))
    new = large.get_parameter(name).detach().numpy().reshape(4, *2 * [DEMO.window_sizes[2]])
    np.testing.assert_array_equal(new[:, :8, :8], old)
    assert not new[:, 8:].any()
    assert not new[:, :, 8:].any()


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_mean_of_weights_is_evaluated_like_a_checkpoint(tmp_path, monkeypatch, suffix: str) -> None:
    """Also of one that was trained with smaller windows, or of one that was exported."""
    import torch

    from weights.train import average
    from weights.train.export import metadata, tensors
    from weights.train.model import DEMO, Sam, at_size, fit_biases
    from weights.train.stored import stored

    small, large = Sam(at_size(DEMO, 128)), Sam(DEMO)
    paths = [str(tmp_path / name) for name in ("mean.pt", "small.pt", f"large{suffix}")]
    torch.save({"step": 7, "ema": small.state_dict()}, paths[1])
    if suffix == ".pt":
        torch.save({"step": 5, "ema": large.state_dict()}, paths[2])
    else:
        checkpoint.save(paths[2], tensors(large), large.config, metadata(5, {}), "float16")
        large = stored(tmp_path / "large.safetensors")[0]
    monkeypatch.setattr("sys.argv", ["average", *paths])
    average.main()
    found, fitted = stored(tmp_path / "mean.pt")[0].state_dict(), fit_biases(small.state_dict(), large)
    for name, tensor in large.state_dict().items():
        expected = (fitted[name] + tensor) / 2 if tensor.is_floating_point() else tensor
        np.testing.assert_allclose(found[name], expected, rtol=1e-6, atol=1e-7)
    assert torch.load(paths[0], weights_only=True)["step"] == 7


def test_a_crop_is_a_part_of_the_picture() -> None:
    """Its cells and its prompts have the positions that they have in the whole."""
    import torch

    from weights.train.model import DEMO, Sam
    from weights.train.rounds import encode, first_round

    whole, part = Sam(DEMO).eval(), Sam(DEMO).eval().look_at(224, (5, 9))
    part.load_state_dict(whole.state_dict())
    np.testing.assert_array_equal(part.dense_pe().detach(), whole.dense_pe().detach()[..., 5:19, 9:23])
    point, box, boxed = torch.rand(2, 2) * 200, torch.rand(2, 4) * 200, torch.tensor([False, True])
    moved = torch.tensor([9.0, 5.0]) * 16
    asked = first_round(point, box, boxed), first_round(point + moved, box + moved.repeat(2), boxed)
    with torch.inference_mode():
        found = [encode(sam, each)[0] for sam, each in zip((part, whole), asked, strict=True)]
        np.testing.assert_allclose(*found, atol=1e-5)
        embedding = part.encode(torch.randn(1, 3, 224, 224))
        assert embedding.shape[2:] == (14, 14)
        logits, _ = part.decode(embedding, *encode(part, asked[0]))
        assert logits.shape == (2, 4, 56, 56)
        elsewhere = Sam(DEMO).eval().look_at(224)
        elsewhere.load_state_dict(whole.state_dict())
        assert (elsewhere.decode(embedding, *encode(elsewhere, asked[0]))[0] - logits).abs().max() > 0.01 * logits.abs().max()


def test_an_attention_that_looks_where_it_was_clicked() -> None:
    from weights.train.model import DEMO, Sam

    sam = Sam(DEMO).look_where_clicked()
    for attention in (
        sam.mask_decoder.transformer.final_attn_token_to_image,
        sam.mask_decoder.transformer.layers[1].cross_attn_image_to_token,
    ):
        np.testing.assert_array_equal(attention.q_proj.weight.detach(), attention.k_proj.weight.detach())


def test_after_parts_a_model_computes_whole_pictures_again() -> None:
    import torch

    from weights.train.model import DEMO, Sam

    sam, size = Sam(DEMO).eval(), DEMO.image_size
    with torch.inference_mode():
        picture = torch.randn(1, 3, size, size)
        before = sam.encode(picture)
        for part in (size // 2, 224):
            assert sam.look_at(part, (1, 2)).encode(picture[..., :part, :part]).shape[2:] == (part // 16, part // 16)
        np.testing.assert_array_equal(sam.look_at(size).encode(picture), before)


def test_corrective_clicks_are_in_the_error_and_every_other_one_at_its_deepest_point() -> None:
    """The mask misses a square of 21 pixels of the target whose centre is (40, 30); two pixels of the picture each."""
    import torch

    from weights.train.prompts import TARGET_PIXEL
    from weights.train.rounds import corrective_clicks

    target, logits = torch.zeros(400, 64, 64), torch.full((400, 32, 32), -1.0)
    target[:, 20:41, 30:51] = 1
    clicks, labels = (x.numpy() for x in corrective_clicks(np.random.default_rng(0), logits, target))
    assert (labels == 1).all()
    spots = (clicks + 0.5) / TARGET_PIXEL - 0.5
    assert ((spots >= [30, 20]) & (spots <= [50, 40])).all()
    deepest = (spots == [40, 30]).all(1).sum()
    assert 160 < deepest < 240 + 0.1 * 400  # half of them within four standard deviations, and some of the others by chance


def test_the_auxiliary_loss_teaches_the_encoder_only_when_its_head_has_settled() -> None:
    import torch

    from weights.train.grouping import GroupingHead
    from weights.train.loader import as_batch
    from weights.train.model import DEMO, Sam
    from weights.train.prompts import prompts
    from weights.train.scenes import scene
    from weights.train.train import step

    torch.manual_seed(0)
    sam, head = Sam(DEMO).look_at(64), GroupingHead(DEMO.prompt_embed_dim)
    batch = as_batch([prompts(np.random.default_rng(n), scene(3), 2, 64, 512) for n in range(2)])
    found = {}
    for grouped in (False, True):
        torch.manual_seed(1)
        step(sam, head, batch, np.random.default_rng(0), 0, grouped)
        found[grouped] = [next(module.parameters()).grad.clone() for module in (head, sam.image_encoder.neck)]
        head.zero_grad()
        sam.zero_grad()
    np.testing.assert_allclose(found[True][0], found[False][0], rtol=1e-4, atol=1e-7)
    assert float((found[True][1] - found[False][1]).abs().max()) > 0.01 * float(found[True][1].abs().max()) > 0


def test_with_bfloat16_results_and_gradients_are_those_of_float32_within_its_rounding() -> None:
    """A factor is rounded to 8 bits, by at most 2^-9 of itself, in each of some 60 products one after another: 1.5 % if these
    errors are independent, 12 % if they all add up. A gradient has those of both directions."""
    import torch

    from weights.train.grouping import GroupingHead
    from weights.train.loader import as_batch
    from weights.train.model import DEMO, Sam
    from weights.train.prompts import prompts
    from weights.train.scenes import scene
    from weights.train.train import step

    torch.manual_seed(0)
    sam, head = Sam(DEMO).look_at(64), GroupingHead(DEMO.prompt_embed_dim)
    batch = as_batch([prompts(np.random.default_rng(n), scene(3), 2, 64, 512) for n in range(2)])
    picture, found = torch.randn(1, 3, 64, 64), {}
    for bfloat16 in (False, True):
        sam.bfloat16 = bfloat16
        torch.manual_seed(1)
        sam.zero_grad()
        step(sam.train(), head, batch, np.random.default_rng(0), 1, True)
        gradients = [torch.cat([p.grad.flatten() for p in part.parameters() if p.grad is not None]) for part in sam.children()]
        with torch.inference_mode():
            found[bfloat16] = [sam.encode(picture), *gradients]
    for rounded, exact in zip(found[True], found[False], strict=True):
        assert rounded.dtype == torch.float32
        error = float((rounded - exact).norm() / exact.norm())
        assert 1e-4 < error < 0.24
